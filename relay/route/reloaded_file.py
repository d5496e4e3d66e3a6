"""A table in a file that may change while we run: read again when it does, and never traded for a worse one.

Every process of the relay looks at its files on the stroke of each second, whether or not mail comes, so that all of
them have seen the same versions and agree on the last good one. A look costs one stat; a worker reads and parses in a
thread, so that a table of a hundred thousand lines does not hold the sessions up.
"""

from __future__ import annotations

import asyncio
import errno
import os
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Generic, TypeVar

import structlog

T = TypeVar("T")

log = structlog.get_logger()

LOOK_EVERY = 1.0  # seconds between two looks at a file
SETTLED = 0.3  # seconds without a write before the file is read: an editor that is half-way through gets to its end


class ReloadedFile(Generic[T]):
    """The parsed content of a file, `value`, as new as the last look.

    Args:
        parse: from the text and the file's name to the value; raises ValueError where the text is no good. Octets that
            are no UTF-8 stand in the text as lone surrogates (PEP 383), for `parse` to judge the lines they are in.

    Raises:
        OSError: the file cannot be read now (later that keeps the old value, and says so in the log).
        ValueError: its content is no good; the text names the file.
    """

    def __init__(self, path: Path, parse: Callable[[str, str], T]) -> None:
        self.path = path
        self._parse = parse
        self._seen: tuple[int, int, int] | None = _identity(path.stat())
        self.value = self._read()

    def changed(self) -> bool:
        """Whether there is a version that was not read yet, and that nobody is writing to any more."""
        try:
            stat = self.path.stat()
        except OSError as error:
            if self._seen is not None:
                self._seen = None
                log.error("file_gone", path=str(self.path), error=error.strerror, effect="the old content stays")
            return False
        if _identity(stat) == self._seen or 0 <= time.time() - stat.st_mtime < SETTLED:
            return False
        self._seen = _identity(stat)
        return True

    def reload(self) -> None:
        """Read the file; where it is no good the old value stays."""
        try:
            self.value = self._read()
        except (OSError, ValueError) as error:
            log.error("file_not_reloaded", path=str(self.path), error=str(error), effect="the old content stays")
        else:
            log.info("file_reloaded", path=str(self.path))

    def _read(self) -> T:
        if self.path.is_fifo():  # reading would wait for a writer, and hold up every reload and the end of the process
            raise OSError(errno.EINVAL, "a named pipe is no file that can be read again", str(self.path))
        return self._parse(self.path.read_text(encoding="utf-8-sig", errors="surrogateescape"), str(self.path))


def next_look(now: float) -> float:
    """Seconds until the next look; `now` in seconds since 1970, by which all processes look together."""
    return LOOK_EVERY - now % LOOK_EVERY


def look(files: Iterable[ReloadedFile[Any]]) -> None:
    """Read what has changed, here and now."""
    for file in files:
        if file.changed():
            file.reload()


async def follow(files: Iterable[ReloadedFile[Any]]) -> None:
    """Read what has changed, in a thread, at every look until it is cancelled."""
    while True:
        await asyncio.sleep(next_look(time.time()))
        for file in files:
            if file.changed():
                await asyncio.to_thread(file.reload)


def _identity(stat: os.stat_result) -> tuple[int, int, int]:
    return stat.st_mtime_ns, stat.st_size, stat.st_ino
