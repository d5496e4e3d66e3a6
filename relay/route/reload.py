"""A table in a file that may change while we run: read again when it does, and never traded for a worse one.

A look costs one stat a second at most; reading and parsing happen in a thread, so that a table of a hundred thousand
lines does not hold the sessions up.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Generic, TypeVar

import structlog

T = TypeVar("T")

log = structlog.get_logger()

CHECK_INTERVAL = 1.0  # seconds between two looks at the file
SETTLED = 0.3  # seconds without a write before the file is read: an editor that is half-way through gets to its end


class ReloadedFile(Generic[T]):
    """The parsed content of a file, as new as `fresh` finds it.

    Args:
        parse: from the text and the file's name to the value; raises ValueError where the text is no good.
        clock: monotonic seconds.

    Raises:
        OSError: the file cannot be read now (later that keeps the old value, and says so in the log).
        ValueError: its content is no good; the text names the file.
    """

    def __init__(self, path: Path, parse: Callable[[str, str], T], clock: Callable[[], float] = time.monotonic) -> None:
        self._path = path
        self._parse = parse
        self._clock = clock
        self._looked = clock()
        self._seen: tuple[int, int, int] | None = _identity(path.stat())
        self.value = self._read()

    async def fresh(self) -> T:
        """The value of now. Whoever finds the file changed waits for it; others go on with the old one meanwhile."""
        now = self._clock()
        if now - self._looked >= CHECK_INTERVAL:
            self._looked = now
            if self._changed():
                await asyncio.to_thread(self._reload)
        return self.value

    def _changed(self) -> bool:
        try:
            stat = self._path.stat()
        except OSError as error:
            if self._seen is not None:
                self._seen = None
                log.error("file_gone", path=str(self._path), error=error.strerror, effect="the old content stays")
            return False
        if _identity(stat) == self._seen or 0 <= time.time() - stat.st_mtime < SETTLED:
            return False
        self._seen = _identity(stat)
        return True

    def _reload(self) -> None:
        try:
            self.value = self._read()
        except (OSError, ValueError) as error:
            log.error("file_not_reloaded", path=str(self._path), error=str(error), effect="the old content stays")
        else:
            log.info("file_reloaded", path=str(self._path))

    def _read(self) -> T:
        try:
            text = self._path.read_text(encoding="utf-8-sig")
        except UnicodeDecodeError as error:
            raise ValueError(f"{self._path}: not UTF-8 at octet {error.start}") from None
        return self._parse(text, str(self._path))


def _identity(stat: os.stat_result) -> tuple[int, int, int]:
    return stat.st_mtime_ns, stat.st_size, stat.st_ino
