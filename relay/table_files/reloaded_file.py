"""A file that is read again when it changes; where the new content cannot be used, the old content stays.

Every process of the relay looks at its files at the start of each second, so that all processes see the same versions
and agree on the last good one. A look costs one stat. A worker reads and parses in a thread, so that a table of a
hundred thousand lines does not delay the sessions. The supervisor logs what came of it, for all.
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

from relay.table_files.bad_lines import unsaid

T = TypeVar("T")

log = structlog.get_logger()

LOOK_EVERY = 1.0  # seconds between two looks at a file
_OWN_TROUBLE = (errno.EMFILE, errno.ENFILE, errno.ENOMEM)  # which the other processes may not have
SETTLED = 0.3  # seconds without a write before the file is read, so that an editor can finish


class ReloadedFile(Generic[T]):
    """A file and its parsed content, `value`, as of the last look.

    Args:
        parse: makes the value from the text and the file's name; raises ValueError where the text cannot be used.
            Octets that are no UTF-8 are lone surrogates in the text (PEP 383), so that `parse` can name their lines.

    Raises:
        OSError: the file cannot be read. Later that only logs an error, and the old value stays.
        ValueError: its content cannot be used; the text names the file.
    """

    def __init__(self, path: Path, parse: Callable[[str, str], T]) -> None:
        self.path = path
        self._parse = parse
        self._seen: tuple[int, int, int] | None = _identity(path.stat())
        self.value = self._read()

    def changed(self, *, quiet: bool = False) -> bool:
        """Whether there is a version that was not read yet, and that nobody is writing any more.

        Args:
            quiet: whether another process logs that the file is gone.
        """
        try:
            stat = self.path.stat()
        except OSError as error:
            if self._seen is not None:
                self._seen = None
                if quiet and error.errno not in _OWN_TROUBLE:
                    return False
                log.error("file_gone", path=str(self.path), error=error.strerror, effect="the old content stays")
            return False
        if _identity(stat) == self._seen or 0 <= time.time() - stat.st_mtime < SETTLED:
            return False
        self._seen = _identity(stat)
        return True

    def reload(self, *, quiet: bool = False) -> None:
        """Read the file; where it cannot be used the old value stays.

        Args:
            quiet: whether another process logs what came of it.
        """
        was_unsaid = unsaid.set(quiet)
        try:
            self.value = self._read()
        except (OSError, ValueError) as error:
            own_trouble = isinstance(error, OSError) and error.errno in _OWN_TROUBLE
            if not quiet or own_trouble:
                log.error("file_not_reloaded", path=str(self.path), error=str(error), effect="the old content stays")
        else:
            if not quiet:
                log.info("file_reloaded", path=str(self.path))
        finally:
            unsaid.reset(was_unsaid)

    def _read(self) -> T:
        if self.path.is_fifo():  # reading would wait for a writer, and block every reload and the end of the process
            raise OSError(errno.EINVAL, "a named pipe is no file that can be read again", str(self.path))
        return self._parse(self.path.read_text(encoding="utf-8-sig", errors="surrogateescape"), str(self.path))


def next_look(now: float) -> float:
    """Seconds until the next look, which all processes take at the same time; `now` in seconds since 1970."""
    return LOOK_EVERY - now % LOOK_EVERY


def look(files: Iterable[ReloadedFile[Any]]) -> None:
    """Read the files that have changed, in this thread."""
    for file in files:
        if file.changed():
            file.reload()


async def follow(files: Iterable[ReloadedFile[Any]], *, quiet: bool = False) -> None:
    """Read the files that have changed, in another thread, at every look until cancelled.

    Args:
        quiet: whether another process, which looks as well, logs what came of it.
    """
    while True:
        await asyncio.sleep(next_look(time.time()))
        for file in files:
            if file.changed(quiet=quiet):
                await asyncio.to_thread(file.reload, quiet=quiet)


def _identity(stat: os.stat_result) -> tuple[int, int, int]:
    return stat.st_mtime_ns, stat.st_size, stat.st_ino
