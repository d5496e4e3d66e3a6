"""The copy of an SQLite queue that is made before a migration."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

from relay.queue.database import QueueUnavailable

ROOM_FOR_LOG = 32 << 20  # octets that must stay free beside the copy, for the write-ahead log of the migration


def copy_queue(path: Path, version: int) -> Path:
    """Copy a queue beside itself, as one complete file that only its owner may read.

    No process may write to the queue meanwhile: the caller holds its write lock. The copy is safe from a power failure
    when this returns. Nothing is left of a copy that fails.

    Args:
        version: the schema version of the queue, which becomes a part of the name.

    Returns:
        The copy, named like `queue.db.v2-20260131T235959Z`.

    Raises:
        QueueUnavailable: there is no room.
        sqlite3.Error, OSError: the copy could not be written.
    """
    copy = path.with_name(f"{path.name}.v{version}-{datetime.now(UTC):%Y%m%dT%H%M%SZ}")
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        _check_room(path.parent, _content(connection))
        os.close(os.open(copy, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
        try:
            connection.execute("VACUUM INTO ?", (str(copy),))
            sync(copy)
            sync(path.parent)
        except BaseException:
            copy.unlink(missing_ok=True)
            raise
    return copy


def _content(connection: sqlite3.Connection) -> int:
    """The size of the copy in octets, at most: free pages are left out of it."""
    pages, free, size = (
        int(connection.execute(f"PRAGMA {name}").fetchone()[0])
        for name in ("page_count", "freelist_count", "page_size")
    )
    return (pages - free) * size


def _check_room(folder: Path, octets: int) -> None:
    disk = os.statvfs(folder)
    free = disk.f_bavail * disk.f_frsize
    needed = octets + ROOM_FOR_LOG
    if free < needed:
        raise QueueUnavailable(
            f"no room in {folder} for a copy of the queue before its migration: "
            f"{_mebibytes(needed)} MiB are needed, {free >> 20} MiB are free; nothing was changed"
        )


def _mebibytes(octets: int) -> int:
    return -(-octets >> 20)


def sync(path: Path) -> None:
    """Make a file, or the names in a folder, safe from a power failure.

    Raises:
        OSError
    """
    opened = os.open(path, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)
