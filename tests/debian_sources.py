"""Test data that Debian has in its source packages only: fetched once, by apt, when a test asks for it.

The lists of the machine name the mirrors; their sources are read into a folder of the tests, and nothing of the system
is changed.
"""

from __future__ import annotations

import hashlib
import os
import platform
import re
import subprocess
import tarfile
from pathlib import Path

import pytest

_CACHE = Path(__file__).parents[1] / ".cache" / "debian"
_LISTS = Path("/etc/apt")
_CONFIG = """\
Dir::Etc::SourceList "/dev/null";
Dir::Etc::SourceParts "{folder}/sources.list.d";
Dir::State::Lists "{folder}/lists";
Dir::Cache "{folder}/cache";
APT::Sandbox::User "{user}";
"""


def debian_source(package: str, file: str, sha256: str, release: str = "") -> bytes:
    """A file of the sources of a Debian package, in whatever version Debian has now, as long as its hash is this one.

    Where the mirror cannot be reached the test is skipped; where `CI` is set it fails.

    Args:
        file: its path in the sources.
        sha256: of the file, in hex.
        release: the code name of the release of Debian, where it is not that of the machine.
    """
    kept = _CACHE / f"{package}-{Path(file).name}"
    if not kept.is_file():
        kept.write_bytes(_fetch(package, file, release))
    content = kept.read_bytes()
    if hashlib.sha256(content).hexdigest() != sha256:
        kept.unlink()
        pytest.fail(f"{file} of {package} is not the one that this test was written for: look at what has changed")
    return content


def _fetch(package: str, file: str, release: str) -> bytes:
    archives = _CACHE / "archives"
    if not any(archives.glob(f"{package}_*.orig.tar.*")):
        _download(package, archives, release)
    with tarfile.open(next(archives.glob(f"{package}_*.orig.tar.*"))) as archive:
        for member in archive:
            if member.name.partition("/")[2] == file and (content := archive.extractfile(member)):
                return content.read()
    raise FileNotFoundError(f"{file} is not in the sources of {package}")


def _download(package: str, archives: Path, release: str) -> None:
    for folder in ("sources.list.d", "lists/partial", "cache/archives/partial", "archives"):
        (_CACHE / folder).mkdir(parents=True, exist_ok=True)
    for path in (_LISTS / "sources.list", *(_LISTS / "sources.list.d").glob("*.*")):
        if path.suffix in (".list", ".sources"):
            (_CACHE / "sources.list.d" / path.name.replace("sources.list", "main.list")).write_text(
                _sources(path, release)
            )
    config = _CACHE / "apt.conf"
    config.write_text(_CONFIG.format(folder=_CACHE, user=os.environ.get("USER", "root")))
    for command in (["update"], ["source", "--download-only", "--tar-only", package]):
        done = subprocess.run(
            ["apt-get", "--quiet=2", *command],
            cwd=archives,
            env={**os.environ, "APT_CONFIG": str(config)},
            capture_output=True,
            text=True,
            timeout=100,
        )
        if done.returncode != 0:
            reason = f"the sources of {package} could not be downloaded from Debian"
            if os.environ.get("CI"):
                pytest.fail(f"in CI nothing is skipped: {reason}: {done.stderr}", pytrace=False)
            pytest.skip(reason)


def _sources(path: Path, release: str) -> str:
    """A list of package sources that has the source packages in the place of the programs."""
    text = path.read_text() if path.is_file() else ""
    if release:
        text = text.replace(platform.freedesktop_os_release().get("VERSION_CODENAME", release), release)
    if path.suffix == ".sources":
        return re.sub(r"(?m)^Types:.*$", "Types: deb-src", text)
    return re.sub(r"(?m)^deb\s", "deb-src ", text)
