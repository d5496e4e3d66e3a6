"""The write-ahead log of an SQLite queue: made durable, copied back into the database file, and started anew.

SQLite appends what is committed to the log; a checkpoint copies it into the database file, and the next commit then
starts the log anew. Before 3.51.3 a checkpoint can lose commits for good if the log is started anew while it begins
(https://sqlite.org/wal.html#walresetbug). So none runs here unless a second connection holds the write lock meanwhile:
who cannot write cannot start the log anew.
"""

from __future__ import annotations

import asyncio
import errno
import os
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from relay.queue.schema import VERSION

LOCK_PATIENCE = 1.0  # seconds to wait for other processes' writers; they wait for a checkpoint in turn
_HEADER = 32  # octets at the beginning of the log, with salts that are new whenever it starts anew


class WriteAheadLog:
    """The log beside one database file, which is open in this process already; everything slow runs in threads.

    Syncs run one after the other: the kernel reports a failed one once for each open file, so a second one beside it
    would pass for a success.

    Attributes:
        suspect: whether a sync failed. The kernel may have dropped a part of the log then, and whatever follows the gap
            would be lost with it. Only a log that was started anew can be trusted again.

    Raises:
        OSError, sqlite3.Error
    """

    def __init__(self, path: Path) -> None:
        self.suspect = False
        self._file = os.open(f"{path}-wal", os.O_RDWR)
        self._writer, self._copier = _connection(path), _connection(path)
        self._syncing = ThreadPoolExecutor(1, thread_name_prefix="queue-sync")
        self._copying = ThreadPoolExecutor(1, thread_name_prefix="queue-checkpoint")

    @property
    def octets(self) -> int:
        return os.fstat(self._file).st_size

    async def sync(self) -> None:
        """Return when all that is committed would survive a power failure.

        That holds whatever other processes do. The sync covers the log from its beginning. What is no longer in it when
        the sync begins was copied back, and the database file synced, before the log could be started anew.

        Raises:
            OSError
        """
        await asyncio.get_running_loop().run_in_executor(self._syncing, self._sync)

    def _sync(self) -> None:
        if self.suspect:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        try:
            os.fdatasync(self._file)
        except OSError:
            self.suspect = True
            raise

    async def start_anew(self) -> bool:
        """Copy all of the log back and start it anew, while no process writes; the caller keeps this one from it.

        Returns:
            Whether it is done. It cannot be while another process reads what only the log has, or writes without end.

        Raises:
            sqlite3.Error
        """
        return await asyncio.get_running_loop().run_in_executor(self._copying, self._start_anew)

    def _start_anew(self) -> bool:
        header = os.pread(self._file, _HEADER, 0)
        try:
            self._writer.execute("BEGIN IMMEDIATE")
            with self._writer:
                busy, frames, copied = self._copier.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
            if not busy and copied == frames:
                # Any commit starts the log anew now; this one does so here, because it takes a sync.
                self._writer.execute("BEGIN IMMEDIATE")
                with self._writer:
                    self._writer.execute(f"PRAGMA user_version = {VERSION}")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY:
                raise
        anew = os.pread(self._file, _HEADER, 0) != header
        self.suspect = self.suspect and not anew
        return anew

    def close(self) -> None:
        self._syncing.shutdown()
        self._copying.shutdown()
        self._writer.close()
        self._copier.close()
        os.close(self._file)


def _connection(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, timeout=LOCK_PATIENCE, isolation_level=None, check_same_thread=False)
    configure(connection)
    return connection


def configure(connection: sqlite3.Connection) -> None:
    """What all connections to the queue have to agree on.

    NORMAL syncs log and database file in a checkpoint, and the head of a log that is started anew, but no commit: that
    is for `WriteAheadLog.sync`. Only `start_anew` copies the log back, and it is cut short whenever it starts anew.
    """
    connection.execute("PRAGMA synchronous = NORMAL")
    connection.execute("PRAGMA wal_autocheckpoint = 0")
    connection.execute("PRAGMA journal_size_limit = 0")
