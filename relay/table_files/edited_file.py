"""Changes a file that people edit by hand as well: all of it at once, and only as it was when it was read.

Two commands at a time wait for each other, and every reader sees the whole file, the old one or the new one.
"""

from __future__ import annotations

import errno
import fcntl
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

PATIENCE = 10.0  # seconds to wait for another command
_AGAIN = 0.05  # seconds


class NotChanged(Exception):
    """The file cannot be changed now, and is as it was; the text says why, in one line."""


def change_file(path: Path, edit: Callable[[bytes], bytes], *, new_mode: int | None = None) -> None:
    """Changes the content of a file; its mode and owner stay. Where it is the same, nothing is written.

    A symbolic link to the file stays a link.

    Args:
        edit: makes the new content from the old one, and may raise anything: the file is then as it was.
        new_mode: of a file that is not there, and begins empty. Where root makes it, it belongs to the owner of the
            folder, as whom the relay runs. By default such a file is an error.

    Raises:
        NotChanged: another command is at work for too long, another program has changed the file meanwhile, or its
            owner cannot be kept.
        OSError: the file cannot be read or written, or is no regular file.
    """
    path = _real(path)
    with _locked(path.parent):
        old = path.stat() if new_mode is None or path.exists() else None
        before = content_of(path) if old is not None else b""
        after = edit(before)
        if old is None or after != before:
            mode = old.st_mode & 0o7777 if old is not None else new_mode or 0
            _replace(path, old, before, after, mode)


def _real(path: Path) -> Path:
    """The file behind symbolic links. Raises OSError: they lead to each other."""
    try:
        return path.resolve()
    except RuntimeError:
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), str(path)) from None


def content_of(path: Path) -> bytes:
    """The content of a file. Raises OSError: it cannot be read, or is no regular file."""
    if path.exists() and not path.is_file():  # reading a pipe would wait for a writer
        raise OSError(errno.EINVAL, "it is no regular file", str(path))
    return path.read_bytes()


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Holds the lock of a folder; that of the file would go with the file that is replaced.

    Raises:
        NotChanged: another command holds it for too long.
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
                    raise NotChanged(f"{folder} is locked by another program; try again") from None
                time.sleep(_AGAIN)
        yield
    finally:
        os.close(handle)


def _replace(path: Path, old: os.stat_result | None, before: bytes, after: bytes, mode: int) -> None:
    """Puts a new content in the place of the old one. Raises: as `change_file`."""
    owner = old or (path.parent.stat() if os.geteuid() == 0 else None)
    with _named(path.parent):
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".new")
    new = Path(name)
    try:
        with _named(path), os.fdopen(handle, "wb") as file:
            if owner is not None:
                _give(handle, owner, path)
            os.fchmod(handle, mode)
            file.write(after)
            file.flush()
            os.fsync(handle)
        if (content_of(path) if path.exists() else None) != (before if old is not None else None):
            raise NotChanged(f"{path} was changed meanwhile by another program, and stays as it is; try again")
        new.replace(path)
    except BaseException:
        new.unlink(missing_ok=True)
        raise
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


@contextmanager
def _named(path: Path) -> Iterator[None]:
    """Names a path in errors, in the place of a file that is gone again when somebody reads them."""
    try:
        yield
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from None


def _give(handle: int, owner: os.stat_result, path: Path) -> None:
    """Gives a new file to the owner and the group of the old one. Raises NotChanged: this user may not do that."""
    now = os.fstat(handle)
    if (now.st_uid, now.st_gid) == (owner.st_uid, owner.st_gid):
        return
    try:
        os.fchown(handle, owner.st_uid, owner.st_gid)
    except PermissionError:
        whose = f"user {owner.st_uid} and group {owner.st_gid}"
        text = f"{path} belongs to {whose}, and would not any more: run the command as that user, or as root"
        raise NotChanged(text) from None
