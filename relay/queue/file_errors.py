"""Says what to do where the file of the queue, or its folder, cannot be used."""

from __future__ import annotations

import errno
import os
import pwd
import sqlite3
import stat
from pathlib import Path

_CANNOT_WRITE = (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM, sqlite3.SQLITE_AUTH)
_NO_ACCESS = (errno.EACCES, errno.EPERM, errno.EROFS)
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT)
_PAGE = 64 << 10  # octets that a connection needs at least: a part of the log's index is 32 KiB


def mend(path: Path, error: BaseException) -> str:
    """What to do about an error, to be put after its text, such as `: make room on the disk of /var/lib/srs-relay`.

    Args:
        path: the file of the queue, or one beside it.
        error: of the system, or of SQLite; what wraps it has it as `__cause__` or `orig`.

    Returns:
        The clause; empty where nothing can be told.
    """
    code = _sqlite_code(error)
    number = error.errno if isinstance(error, OSError) else None
    folder = path.parent
    is_full = code == sqlite3.SQLITE_IOERR and _has_no_room(folder)  # where the log beside the file cannot grow
    if code == sqlite3.SQLITE_FULL or number in _NO_ROOM or is_full:
        return f": make room on the disk of {folder}"
    if number == errno.ENOTDIR and (above := next(filter(_is_file, path.parents), None)):
        return f": {above} is a file: name one in a folder in queue.url"
    is_folder = stat.S_ISDIR(_mode(path))
    if code == sqlite3.SQLITE_NOTADB or is_folder:
        what = ": it is a folder" if is_folder else ""
        return f"{what}: move it away, or name another file in queue.url"
    if code in _CANNOT_WRITE or number in _NO_ACCESS:
        return _no_access(path, folder)
    return ""


def make_folder(folder: Path) -> str:
    """The command that makes the folder of the queue."""
    return f"install -d -m 700 -o {_user()} {folder}"


def _no_access(path: Path, folder: Path) -> str:
    if _is_read_only(folder):
        return (
            f": {folder} is on a file system that is mounted read-only here (in a systemd unit, StateDirectory= or "
            "ReadWritePaths= opens it; in a container, a volume)"
        )
    for place in (path, folder):
        owner = _owner(place)
        if owner is None or os.access(place, os.R_OK | os.W_OK, effective_ids=True):
            continue
        if owner == _user():
            return f": {owner} may not write to {place}: chmod u+rw{'x' * place.is_dir()} {place}"
        return f": {place} belongs to {owner}, and {_user()} may not write there: run this as the owner"
    return ""


def _sqlite_code(error: BaseException) -> int | None:
    """The primary code of an SQLite error, also where SQLAlchemy wraps it."""
    for each in (error, getattr(error, "orig", None), error.__cause__):
        code = getattr(each, "sqlite_errorcode", None)
        if code is not None:
            return int(code) & 0xFF
    return None


def _has_no_room(folder: Path) -> bool:
    """Whether there is no room for a page of the database."""
    try:
        disk = os.statvfs(folder)
    except OSError:
        return False
    return disk.f_bavail * disk.f_frsize < _PAGE


def _is_read_only(folder: Path) -> bool:
    try:
        return bool(os.statvfs(folder).f_flag & os.ST_RDONLY)
    except OSError:
        return False


def _is_file(place: Path) -> bool:
    return stat.S_ISREG(_mode(place))


def _mode(place: Path) -> int:
    """The mode; 0 where we may not see it, or it is not there."""
    try:
        return place.stat().st_mode
    except OSError:
        return 0


def _owner(place: Path) -> str | None:
    try:
        return _name(place.stat().st_uid)
    except OSError:
        return None


def _user() -> str:
    return _name(os.geteuid())


def _name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)
