"""Where the content of large messages waits for its end: a file without a name for each, gone with whoever wrote it.

Writing mostly goes to the page cache, in microseconds. Where the disk is behind, the kernel makes writers wait, so it
is done in threads: the event loop never waits for a disk.
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

THREADS = 4  # in each worker: who waits for a slow disk keeps no threads from other work

_pool = ThreadPoolExecutor(THREADS, thread_name_prefix="spool")  # starts no thread before it is used


def temporary_folder() -> Path:
    """Where the system keeps temporary files that are large: `/tmp` is often memory."""
    return Path(os.environ.get("TMPDIR") or "/var/tmp")


class Spool:
    """The folder of these files.

    Args:
        folder: where they are; None where there is none.
        minimum: octets of its disk that must stay free (`queue.min_free`).
    """

    def __init__(self, folder: Path | None, minimum: int = 0) -> None:
        self._folder = folder
        self._minimum = minimum

    def free(self) -> int:
        """Octets that could still be written: none where the folder is missing."""
        if self._folder is None:
            return 0
        try:
            found = os.statvfs(self._folder)
        except OSError:
            return 0
        return max(0, found.f_bavail * found.f_frsize - self._minimum)

    def file(self) -> SpoolFile:
        return SpoolFile(self._folder)


class SpoolFile:
    """Content of one message, written piece after piece. One call at a time; `close` at any time."""

    def __init__(self, folder: Path | None) -> None:
        self.size = 0
        self._folder = folder
        self._file: FileIO | None = None
        self._working: Future[Any] | None = None

    async def write(self, piece: bytes | bytearray) -> None:
        """Append.

        Raises:
            OSError: it could not be written; what was there before stands.
        """
        await self._in_thread(lambda: self._write(piece))
        self.size += len(piece)

    async def read(self) -> bytes:
        """All of it.

        Raises:
            OSError
        """
        return await self._in_thread(self._read)

    def close(self) -> None:
        """Give the disk back, as soon as no thread works on the file: another may get its number."""
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
        with memoryview(piece) as whole:  # given back also where writing fails: a piece that is in use cannot grow
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
        return b"".join(pieces)  # of one piece no copy is made

    def _close(self) -> None:
        if self._file is not None:
            self._file.close()
