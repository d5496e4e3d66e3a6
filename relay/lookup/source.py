"""A table that is asked for one key at a time, and what stands between it and many sessions.

A database may be slow or away. So answers are remembered for a minute, sessions that ask the same wait for one look-up,
and after a failure nobody waits for the next one.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Protocol

import structlog

log = structlog.get_logger()

REMEMBERED_FOR = 60.0  # seconds that an answer holds, also that there is none
REMEMBERED = 10_000  # answers of one source; those that were not asked for longest go first
RETRY_AFTER = 1.0  # seconds without a look-up after one that failed
KEY_CHARACTERS = (
    320  # an address has at most 64 + 1 + 255 octets (RFC 5321 section 4.5.3.1); no longer key is asked for
)


class SourceUnavailable(Exception):
    """A source cannot answer now; the text says why."""


class BadTable(SourceUnavailable):
    """A line of the source that cannot be used may be for this key."""


class Source(Protocol):
    """A table. `get` gives the value of a key, None where it has none; it raises SourceUnavailable."""

    async def get(self, key: str) -> str | None: ...

    async def close(self) -> None: ...


class First:
    """Several sources: the first that has a value answers. One that cannot answer keeps those behind it from it."""

    def __init__(self, sources: Sequence[Source]) -> None:
        self._sources = sources

    async def get(self, key: str) -> str | None:
        for source in self._sources:
            value = await source.get(key)
            if value is not None:
                return value
        return None

    async def close(self) -> None:
        for source in self._sources:
            await source.close()


class Remembering:
    """Remembers the answers of a source, and asks it once for sessions that ask the same at a time.

    Args:
        name: the source in words, for the log.
        clock: monotonic seconds.
    """

    def __init__(self, source: Source, name: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._source = source
        self._name = name
        self._clock = clock
        self._answers: OrderedDict[str, tuple[float, str | None]] = OrderedDict()
        self._asking: dict[str, asyncio.Task[str | None]] = {}
        self._problem = ""
        self._retry_at = 0.0

    async def get(self, key: str) -> str | None:
        if len(key) > KEY_CHARACTERS or "\0" in key:
            return None
        until, value = self._answers.get(key, (0.0, None))
        if self._clock() < until:
            self._answers.move_to_end(key)
            return value
        task = self._asking.get(key)
        if task is None:
            if self._problem and self._clock() < self._retry_at:
                raise SourceUnavailable(self._problem)
            task = asyncio.create_task(self._ask(key))
            self._asking[key] = task
            task.add_done_callback(lambda done: self._asked(key, done))
        return await asyncio.shield(task)  # a session that goes away does not take the answer from the others

    def _asked(self, key: str, task: asyncio.Task[str | None]) -> None:
        del self._asking[key]
        if not task.cancelled():
            task.exception()  # those who waited have it; asyncio would complain where nobody waits any more

    async def _ask(self, key: str) -> str | None:
        try:
            value = await self._source.get(key)
        except SourceUnavailable as error:
            if not self._problem:
                log.error("table_away", table=self._name, error=str(error), effect="its addresses answer 451")
            self._problem = str(error)
            self._retry_at = self._clock() + RETRY_AFTER
            raise
        if self._problem:
            self._problem = ""
            log.info("table_back", table=self._name)
        self._answers[key] = self._clock() + REMEMBERED_FOR, value
        self._answers.move_to_end(key)
        if len(self._answers) > REMEMBERED:
            self._answers.popitem(last=False)
        return value

    async def close(self) -> None:
        for task in list(self._asking.values()):
            task.cancel()
        await self._source.close()
