"""Changes of the file of users: one line at a time, with owner, mode, comments and the lines of others kept."""

from __future__ import annotations

import os
import stat
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pytest

from relay.accounts import users_edit
from relay.accounts.users_edit import UsersEditError

TEXT = b"# people\r\n\r\nalice:one  \r\n  Bob : two\n# end\xff\ncarol:three"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    (tmp_path / "users").write_bytes(TEXT)
    return tmp_path / "users"


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_add_puts_a_line_at_the_end(path: Path) -> None:
    users_edit.add(path, "dave", "four")
    assert path.read_bytes() == TEXT + b"\ndave:four\n"


def test_passwd_and_remove_change_one_line(path: Path) -> None:
    users_edit.set_password(path, "ALICE", "new")
    assert path.read_bytes() == TEXT.replace(b"alice:one  \r\n", b"alice:new\n")
    users_edit.remove(path, "alice")
    assert path.read_bytes() == TEXT.replace(b"alice:one  \r\n", b"")
    users_edit.remove(path, "carol")
    assert path.read_bytes().endswith(b"# end\xff\n")


def test_remove_leaves_no_second_line_that_would_then_count(path: Path) -> None:
    path.write_text("joe:one\nann:x\nJOE:two\n")
    users_edit.remove(path, "joe")
    assert path.read_text() == "ann:x\n"


@pytest.mark.parametrize("name", ["alice", "Alice", "carol"])
def test_a_name_is_there_once(path: Path, name: str) -> None:
    with pytest.raises(UsersEditError, match="there is a user"):
        users_edit.add(path, name, "x")
    assert path.read_bytes() == TEXT


@pytest.mark.parametrize(
    "name", ["", "a:b", "a b", "a\n", "#a", "a\x7f", "a@b@c", "\udcff", "x" * 256, "a\u202e", "@a"]
)
def test_names_that_cannot_stand_in_the_file(path: Path, name: str) -> None:
    with pytest.raises(UsersEditError):
        users_edit.add(path, name, "x")
    assert path.read_bytes() == TEXT


def test_a_name_that_is_not_there(path: Path) -> None:
    for act in (users_edit.remove, users_edit.require, lambda path, name: users_edit.set_password(path, name, "x")):
        for name in ("dave", "people", "# people", ""):
            with pytest.raises(UsersEditError, match="there is no user"):
                act(path, name)
    with pytest.raises(FileNotFoundError):
        users_edit.remove(path.with_name("missing"), "alice")
    assert path.read_bytes() == TEXT and [entry.name for entry in path.parent.iterdir()] == ["users"]


def test_a_new_file_is_for_its_owner_and_an_old_one_keeps_its_mode(path: Path) -> None:
    before = os.umask(0)
    try:
        users_edit.add(path.with_name("new"), "alice", "x")
        path.chmod(0o640)
        users_edit.add(path, "dave", "x")
    finally:
        os.umask(before)
    assert (mode(path.with_name("new")), mode(path)) == (0o600, 0o640)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_root_gives_the_file_to_whom_it_belonged(path: Path) -> None:
    os.chown(path, 1234, 1235)
    users_edit.add(path, "dave", "x")
    assert (path.stat().st_uid, path.stat().st_gid) == (1234, 1235)
    folder = path.parent / "conf"
    folder.mkdir()
    os.chown(folder, 1236, 1237)
    users_edit.add(folder / "users", "dave", "x")
    assert ((folder / "users").stat().st_uid, (folder / "users").stat().st_gid) == (1236, 1237)


def test_a_link_stays_a_link(path: Path) -> None:
    link = path.with_name("link")
    link.symlink_to("users")
    users_edit.remove(link, "carol")
    assert link.is_symlink() and b"carol" not in path.read_bytes()


def test_what_fails_leaves_nothing_behind(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        users_edit.add(path, "dave", "x")
    assert path.read_bytes() == TEXT and [entry.name for entry in path.parent.iterdir()] == ["users"]


def _add(path: Path, number: int) -> None:
    users_edit.add(path, f"user{number}", "x")


def test_commands_at_the_same_time_lose_no_line(path: Path) -> None:
    with ProcessPoolExecutor(4) as processes:
        for done in [processes.submit(_add, path, number) for number in range(40)]:
            done.result(30)
    assert sum(line.startswith(b"user") for line in path.read_bytes().splitlines()) == 40
    assert path.read_bytes().startswith(TEXT)
