"""Changes lines of the file of users, and leaves all others as they are.

Two commands at a time wait for each other, and every reader sees the whole file, the old one or the new one.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from relay.accounts.names import check_name, name_key
from relay.accounts.users_file import is_user_line

PATIENCE = 10.0  # seconds to wait for another command
_AGAIN = 0.05  # seconds


class UsersEditError(Exception):
    """The file cannot be changed as asked; the text says why, in one line."""


def add(path: Path, name: str, hashed: str) -> None:
    """Adds a user at the end; a missing file is made, for its owner alone.

    Raises:
        UsersEditError: there is such a user, or the name cannot be one.
        OSError: the file cannot be read or written.
    """
    try:
        check_name(name)
    except ValueError as error:
        raise UsersEditError(f"{name!r}: {error}") from None

    def edit(lines: list[str]) -> list[str]:
        if any(_is_of(line, name) for line in lines):
            raise UsersEditError(f"there is a user {name} already; `srs-relay users passwd` changes the password")
        ended = [line if line.endswith("\n") else f"{line}\n" for line in lines]
        return [*ended, f"{name}:{hashed}\n"]

    _change(path, edit, may_be_new=True)


def set_password(path: Path, name: str, hashed: str) -> None:
    """Changes the hash of a user. Raises UsersEditError: there is no such user; OSError, as `add`."""

    def edit(lines: list[str]) -> list[str]:
        place = next((number for number, line in enumerate(lines) if _is_of(line, name)), None)
        if place is None:
            raise _no_such(name)
        kept = lines[place].lstrip().partition(":")[0]
        return [*lines[:place], f"{kept}:{hashed}\n", *lines[place + 1 :]]

    _change(path, edit)


def require(path: Path, name: str) -> None:
    """Checks that there is such a user. Raises: as `set_password`."""
    if not any(_is_of(line, name) for line in _lines(path)):
        raise _no_such(name)


def remove(path: Path, name: str) -> None:
    """Removes a user, with all lines of that name. Raises: as `set_password`."""

    def edit(lines: list[str]) -> list[str]:
        kept = [line for line in lines if not _is_of(line, name)]
        if len(kept) == len(lines):
            raise _no_such(name)
        return kept

    _change(path, edit)


def _no_such(name: str) -> UsersEditError:
    return UsersEditError(f"there is no user {name}; `srs-relay users list` names them")


def _is_of(line: str, name: str) -> bool:
    return is_user_line(line) and name_key(line.strip().partition(":")[0]) == name_key(name)


def _change(path: Path, edit: Callable[[list[str]], list[str]], *, may_be_new: bool = False) -> None:
    path = path.resolve()  # a link stays one
    with _locked(path.parent):
        lines = [] if may_be_new and not path.exists() else _lines(path)
        _replace(path, "".join(edit(lines)).encode("utf-8", "surrogateescape"))


def _lines(path: Path) -> list[str]:
    """The lines of the file, with their ends. Octets that are no UTF-8 are lone surrogates."""
    text = path.read_bytes().decode("utf-8", "surrogateescape").removeprefix("\ufeff")
    return [f"{line}\n" for line in text.split("\n")[:-1]] + ([last] if (last := text.rpartition("\n")[2]) else [])


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Holds the lock of a folder; that of the file would go with the file that is replaced.

    Raises:
        UsersEditError: another command holds it for too long.
        OSError: there is no such folder.
    """
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise UsersEditError(f"{folder} is locked by another program; try again") from None
                time.sleep(_AGAIN)
        yield
    finally:
        os.close(handle)


def _replace(path: Path, octets: bytes) -> None:
    """Puts a new content in the place of the old one, with the same owner and mode.

    Where root makes the file, it belongs to the owner of the folder, as whom the relay runs.

    Raises:
        OSError: it cannot be written, or not with that owner; the old content stays.
    """
    old = path.stat() if path.exists() else None
    owner = old or (path.parent.stat() if os.geteuid() == 0 else None)
    new = path.with_name(f".{path.name}.{os.getpid()}.new")
    handle = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(handle, "wb") as file:
            if owner is not None and (owner.st_uid, owner.st_gid) != (os.geteuid(), os.getegid()):
                os.chown(new, owner.st_uid, owner.st_gid)
            os.fchmod(handle, old.st_mode & 0o7777 if old is not None else 0o600)
            file.write(octets)
            file.flush()
            os.fsync(handle)
        new.replace(path)
    except BaseException:
        new.unlink(missing_ok=True)
        raise
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
