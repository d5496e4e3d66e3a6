"""Changes lines of the file of users, and leaves all others as they are."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from relay.accounts.names import check_name, name_key
from relay.accounts.users_file import is_user_line
from relay.table_files.edited_file import NotChanged, change_file

NEW_MODE = 0o600  # the hashes of passwords are for the owner alone


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
    if not any(_is_of(line, name) for line in _split(path.read_bytes())):
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
    def edit_octets(octets: bytes) -> bytes:
        return "".join(edit(_split(octets))).encode("utf-8", "surrogateescape")

    try:
        change_file(path, edit_octets, new_mode=NEW_MODE if may_be_new else None)
    except NotChanged as error:
        raise UsersEditError(str(error)) from None


def _split(octets: bytes) -> list[str]:
    """The lines of a file, with their ends. Octets that are no UTF-8 are lone surrogates."""
    text = octets.decode("utf-8", "surrogateescape").removeprefix("\ufeff")
    return [f"{line}\n" for line in text.split("\n")[:-1]] + ([last] if (last := text.rpartition("\n")[2]) else [])
