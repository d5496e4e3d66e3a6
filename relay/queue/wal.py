"""The write-ahead log of an SQLite queue: how it is synced, copied into the database file, and started anew.

SQLite appends every commit to the log. A checkpoint copies the log into the database file, and the next commit then
starts the log anew. Before 3.51.3 a checkpoint can lose commits for good if another process starts the log anew while
it begins (https://sqlite.org/wal.html#walresetbug). So a checkpoint runs here only while a second connection holds the
write lock: a process that cannot write cannot start the log anew.
"""

from __future__ import annotations

import asyncio
import errno
import os
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from relay.queue.schema import VERSION

LOCK_PATIENCE = 1.0  # seconds that a checkpoint waits for the writers of other processes
_HEADER = 32  # octets at the beginning of the log; its salts change whenever the log starts anew


class WriteAheadLog:
    """The log beside one database file, which this process has open already; everything slow runs in threads.

    Syncs run one after the other: the kernel reports a failure once for each open file, so a second sync at the same
    time would look like a success.

    Attributes:
        suspect: whether a sync failed. The kernel may have dropped a part of the log then, and what follows the gap
            would be lost with it. Only a log that was started anew can be trusted again.

    Args:
        kept: octets that the file keeps, see `configure`.

    Raises:
        OSError, sqlite3.Error
    """

    def __init__(self, path: Path, kept: int) -> None:
        self.suspect = False
        self._file = os.open(f"{path}-wal", os.O_RDWR)
        self._writer, self._copier = _connection(path, kept), _connection(path, kept)
        self._syncing = ThreadPoolExecutor(1, thread_name_prefix="queue-sync")
        self._copying = ThreadPoolExecutor(1, thread_name_prefix="queue-checkpoint")

    @property
    def octets(self) -> int:
        """The size of the file: that of the log, if it is more than the file keeps."""
        return os.fstat(self._file).st_size

    async def sync(self) -> None:
        """Return when no power failure can undo what is committed.

        This holds whatever other processes do: the sync covers the whole log, and commits that are no longer in it were
        copied into the database file, which was synced before the log could start anew.

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
        """Copy the log into the database file and start it anew. The caller writes nothing meanwhile.

        Returns:
            Whether it was done. It fails while another process reads what only the log has, or does not stop writing.

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
                # The next commit starts the log anew, and waits for a sync. This one does it outside the event loop.
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
        """Wait for what is under way, and close the file."""
        self._syncing.shutdown()
        self._copying.shutdown()
        self._writer.close()
        self._copier.close()
        os.close(self._file)


def _connection(path: Path, kept: int) -> sqlite3.Connection:
    connection = sqlite3.connect(path, timeout=LOCK_PATIENCE, isolation_level=None, check_same_thread=False)
    configure(connection, kept)
    return connection


def configure(connection: sqlite3.Connection, kept: int) -> None:
    """Set what all connections to the queue must have in common.

    NORMAL syncs the log and the database file in a checkpoint, and the header of a log that is started anew, but no
    commit: `WriteAheadLog.sync` does that. Only `start_anew` makes checkpoints. When the log starts anew, its file is
    truncated to `kept` octets: to write over what is there takes the kernel less time than to make a file longer, and
    a sync then has no new size to write.
    """
    connection.execute("PRAGMA synchronous = NORMAL")
    connection.execute("PRAGMA wal_autocheckpoint = 0")
    connection.execute(f"PRAGMA journal_size_limit = {kept}")
