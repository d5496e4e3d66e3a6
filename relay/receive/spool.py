"""Unnamed temporary files that hold large messages while they are received. They vanish with their process.

Writes mostly go to the page cache, in microseconds. Where the disk is slow, the kernel makes writers wait, so threads
write: the event loop never waits for a disk.
"""

from __future__ import annotations

import asyncio
import errno
import os
import tempfile
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from io import FileIO
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")

THREADS = 4  # in each worker, apart from those for other work, which do not wait for a slow disk

_pool = ThreadPoolExecutor(THREADS, thread_name_prefix="spool")  # starts its threads on first use


def temporary_folder() -> Path:
    """The folder for large temporary files; `/tmp` is often in memory."""
    return Path(os.environ.get("TMPDIR") or "/var/tmp")


class Spool:
    """The folder of the temporary files.

    Args:
        folder: None where there is none.
        minimum: octets of its disk that must stay free (`queue.min_free`).
    """

    def __init__(self, folder: Path | None, minimum: int = 0) -> None:
        self._folder = folder
        self._minimum = minimum

    def free(self) -> int:
        """Octets that may still be written; 0 where the folder is missing."""
        if self._folder is None:
            return 0
        try:
            disk = os.statvfs(self._folder)
        except OSError:
            return 0
        return max(0, disk.f_bavail * disk.f_frsize - self._minimum)

    def file(self) -> SpoolFile:
        """A file for one message, which is created at the first write."""
        return SpoolFile(self._folder)


class SpoolFile:
    """The content of one message, written piece by piece. One call at a time; `close` may come at any time."""

    def __init__(self, folder: Path | None) -> None:
        self.size = 0
        self._folder = folder
        self._file: FileIO | None = None
        self._working: Future[Any] | None = None

    async def write(self, piece: bytes | bytearray) -> None:
        """Appends a piece.

        Raises:
            OSError: the piece could not be written; what was written before is still there.
        """
        await self._in_thread(lambda: self._write(piece))
        self.size += len(piece)

    async def read(self) -> bytes:
        """The whole content.

        Raises:
            OSError: it could not be read.
        """
        return await self._in_thread(self._read)

    def close(self) -> None:
        """Closes the file and frees its disk space, once no thread uses its descriptor, which another file may get."""
        if self._working is not None:
            self._working.add_done_callback(lambda _: _pool.submit(self._close))
            self._working = None

    async def _in_thread(self, work: Callable[[], T]) -> T:
        self._working = future = _pool.submit(work)
        return await asyncio.wrap_future(future)

    def _write(self, piece: bytes | bytearray) -> None:
        if self._file is None:
            self._file = tempfile.TemporaryFile(buffering=0, dir=self._folder)  # noqa: SIM115
        written = 0
        with memoryview(piece) as whole:  # released also where writing fails: a bytearray with a view cannot grow
            while written < len(piece):
                with whole[written:] as rest:
                    written += os.pwrite(self._file.fileno(), rest, self.size + written)

    def _read(self) -> bytes:
        pieces: list[bytes] = []
        at = 0
        while self._file is not None and at < self.size:
            piece = os.pread(self._file.fileno(), self.size - at, at)
            if not piece:
                raise OSError(errno.EIO, "a spool file has lost its end")
            pieces.append(piece)
            at += len(piece)
        return b"".join(pieces)  # a single piece is not copied

    def _close(self) -> None:
        if self._file is not None:
            self._file.close()
