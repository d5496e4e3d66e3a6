"""What `--write` puts into a folder."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Any

import pytest

from relay.importer import folder as folders
from relay.importer.draft import Draft, ImportFailed
from relay.importer.folder import ask_for_missing, write
from tests.importer.loading import load_text
from tests.peers import needs

SRS = ("srs",)


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    path = tmp_path / "etc" / "postsrsd.secret"
    path.parent.mkdir()
    path.write_text("tops3cr3t\n")
    return path


def draft(secret: Path) -> Draft:
    made = Draft("PostSRSd 1", "/etc/default/postsrsd")
    made.set(SRS, "domain", "srs.example")
    made.their_file(SRS, "secrets_file", secret, "srs.secret", "SRS_SECRET (x:1)")
    made.new_file(("routes",), "aliases", "aliases", "ann@a.example ann@b.example\n")
    return made


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_what_is_written_loads_and_is_for_its_owner_alone(tmp_path: Path, secret: Path) -> None:
    before = os.umask(0)
    try:
        written = write(draft(secret), tmp_path / "new/relay", force=False)
    finally:
        os.umask(before)
    into = tmp_path / "new/relay"
    assert written.files == [into / "aliases", into / "relay.toml"]
    assert [mode(path) for path in (*written.files, into)] == [0o600, 0o600, 0o700]
    config = load_text(into, (into / "relay.toml").read_text())
    assert config.srs.secrets_file == secret
    assert config.routes.aliases == (into / "aliases",)
    assert secret.read_text() == "tops3cr3t\n"


def test_a_secret_that_our_user_may_not_read_is_copied(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, secret: Path
) -> None:
    monkeypatch.setattr(folders, "_may_read", lambda path, user: False)
    into = tmp_path / "relay"
    written = write(draft(secret), into, force=False)
    assert written.copies == [(secret, into / "srs.secret")]
    assert (mode(into / "srs.secret"), (into / "srs.secret").read_text()) == (0o600, "tops3cr3t\n")
    text = (into / "relay.toml").read_text()
    assert f"A copy of {secret}, which our user may not read." in " ".join(text.replace("\n#", "").split())
    assert load_text(into, text).srs.secrets_file == into / "srs.secret"


@needs("postsrsd", root=True)
def test_the_owner_of_the_folder_is_our_user(tmp_path: Path, secret: Path) -> None:
    into = tmp_path / "relay"
    into.mkdir()
    os.chown(into, 65534, 65534)
    for path in (tmp_path, secret.parent):
        path.chmod(0o755)
    secret.chmod(0o600)
    written = write(draft(secret), into, force=False)
    assert [original for original, _ in written.copies] == [secret]
    assert {path.stat().st_uid for path in written.files} == {65534}
    secret.chmod(0o644)
    parents = [parent for parent in secret.parents if mode(parent) & 0o001 == 0]
    written = write(draft(secret), into, force=True)
    assert bool(written.copies) is bool(parents)


@pytest.mark.parametrize("name", ["relay.toml", "aliases"])
def test_nothing_is_overwritten(tmp_path: Path, secret: Path, name: str) -> None:
    (tmp_path / name).write_text("mine")
    with pytest.raises(ImportFailed, match=f"{name} is there already; nothing was written"):
        write(draft(secret), tmp_path, force=False)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(["etc", name])
    written = write(draft(secret), tmp_path, force=True)
    assert ((tmp_path / name).read_text() == "mine") is (name != "relay.toml")
    assert tmp_path / "relay.toml" in written.files


def test_a_file_that_is_not_there_is_to_fill_in(tmp_path: Path) -> None:
    made = draft(tmp_path / "none")
    ask_for_missing(made)
    assert made.to_fill_in() == ["srs.secrets_file"]
    assert "This file is not on this host." in made.tables[SRS]["secrets_file"].comment
    write(made, tmp_path / "relay", force=False)


def test_a_file_that_nobody_here_may_read_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, secret: Path
) -> None:
    def refused(path: Path) -> bytes:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(folders, "_may_read", lambda path, user: False)
    monkeypatch.setattr(Path, "read_bytes", refused)
    made = draft(secret)
    write(made, tmp_path / "relay", force=False)
    assert made.unmapped[0].name == str(secret)
    assert "Permission denied" in made.unmapped[0].meaning


def test_a_failure_midway_leaves_nothing_behind(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, secret: Path) -> None:
    fdopen = os.fdopen

    def full_disk(handle: int, mode: str, **more: Any) -> Any:
        if len(list((tmp_path / "relay").glob(".new-*"))) > 1:
            raise OSError(28, "No space left on device")
        return fdopen(handle, mode, **more)

    monkeypatch.setattr(os, "fdopen", full_disk)
    with pytest.raises(OSError, match="No space"):
        write(draft(secret), tmp_path / "relay", force=False)
    assert list((tmp_path / "relay").iterdir()) == []
