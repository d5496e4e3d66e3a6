"""A file that commands change while people and the relay read it: whole, in turn, and never over somebody's work."""

from __future__ import annotations

import errno
import os
import stat
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pytest

from relay.table_files import edited_file
from relay.table_files.edited_file import NotChanged, change_file


@pytest.fixture
def path(tmp_path: Path) -> Path:
    (tmp_path / "table").write_bytes(b"old\n")
    return tmp_path / "table"


def names(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


def append(octets: bytes) -> bytes:
    return octets + b"new\n"


def test_mode_and_link_stay(path: Path) -> None:
    path.chmod(0o664)
    link = path.with_name("link")
    link.symlink_to("table")
    change_file(link, append)
    assert path.read_bytes() == b"old\nnew\n" and link.is_symlink()
    assert stat.S_IMODE(path.stat().st_mode) == 0o664
    assert names(path.parent) == ["link", "table"]


def test_a_new_file_gets_the_mode_that_is_asked_for(path: Path) -> None:
    before = os.umask(0o077)
    try:
        change_file(path.with_name("made"), append, new_mode=0o640)
    finally:
        os.umask(before)
    made = path.with_name("made")
    assert made.read_bytes() == b"new\n" and stat.S_IMODE(made.stat().st_mode) == 0o640
    with pytest.raises(FileNotFoundError):
        change_file(path.with_name("missing"), append)
    with pytest.raises(FileNotFoundError):
        change_file(path.parent / "folder" / "missing", append, new_mode=0o640)


def test_the_same_content_is_not_written(path: Path) -> None:
    before = path.stat()
    change_file(path, lambda octets: octets)
    assert path.stat().st_ino == before.st_ino


@pytest.mark.parametrize("meanwhile", [b"of an editor\n", None])
def test_what_somebody_wrote_meanwhile_stays(path: Path, meanwhile: bytes | None) -> None:
    def edit(octets: bytes) -> bytes:
        path.unlink()
        if meanwhile is not None:
            path.write_bytes(meanwhile)
        return append(octets)

    with pytest.raises(NotChanged, match="was changed meanwhile by another program"):
        change_file(path, edit)
    assert names(path.parent) == (["table"] if meanwhile else [])
    assert meanwhile is None or path.read_bytes() == meanwhile


def test_a_file_that_somebody_made_meanwhile_stays(path: Path) -> None:
    def edit(octets: bytes) -> bytes:
        path.with_name("made").write_bytes(b"theirs\n")
        return append(octets)

    with pytest.raises(NotChanged):
        change_file(path.with_name("made"), edit, new_mode=0o640)
    assert path.with_name("made").read_bytes() == b"theirs\n"


def test_a_full_disk_loses_nothing_and_is_named(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(handle: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left") as error:
        change_file(path, append)
    assert error.value.filename == str(path)
    assert path.read_bytes() == b"old\n" and names(path.parent) == ["table"]


def test_an_owner_that_cannot_be_kept_is_named(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(handle: int, uid: int, gid: int) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "fchown", refused)
    real = os.fstat
    # As if the new file belonged to somebody else, whoever runs the test.
    monkeypatch.setattr(os, "fstat", lambda handle: os.stat_result((*real(handle)[:4], 4242, 4243, *real(handle)[6:])))
    with pytest.raises(NotChanged, match=rf"{path} belongs to user {os.getuid()} and group .* run the command as"):
        change_file(path, append)
    assert path.read_bytes() == b"old\n" and names(path.parent) == ["table"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_root_keeps_the_owner(path: Path) -> None:
    os.chown(path, 1234, 1235)
    change_file(path, append)
    assert (path.stat().st_uid, path.stat().st_gid) == (1234, 1235)
    os.chown(path.parent, 1236, 1237)
    change_file(path.with_name("made"), append, new_mode=0o640)
    assert (path.with_name("made").stat().st_uid, path.with_name("made").stat().st_gid) == (1236, 1237)


def test_what_is_no_file_is_not_read(path: Path) -> None:
    pipe = path.with_name("pipe")
    os.mkfifo(pipe)
    with pytest.raises(OSError, match="no regular file"):
        change_file(pipe, append)
    assert stat.S_ISFIFO(pipe.stat().st_mode)


def test_links_that_lead_to_each_other_are_an_error(path: Path) -> None:
    loop = path.with_name("loop")
    loop.symlink_to("loop")
    with pytest.raises(OSError, match="symbolic links"):
        change_file(loop, append, new_mode=0o640)


def test_who_waits_too_long_gives_up(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(edited_file, "PATIENCE", 0.1)

    def edit(octets: bytes) -> bytes:
        change_file(path.with_name("beside"), append, new_mode=0o640)
        return octets

    with pytest.raises(NotChanged, match="is locked by another program; try again"):
        change_file(path, edit)


def _append(path: Path, number: int) -> None:
    change_file(path, lambda octets: octets + f"{number}\n".encode())


def test_many_changes_at_a_time_are_all_there(path: Path) -> None:
    with ProcessPoolExecutor(4) as processes:
        for done in [processes.submit(_append, path, number) for number in range(60)]:
            done.result(30)
    assert sorted(path.read_text().split()[1:], key=int) == [str(number) for number in range(60)]
