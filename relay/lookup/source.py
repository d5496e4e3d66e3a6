"""A table that is asked for one key at a time, and what stands between it and many sessions.

A database may be slow or away. So answers are remembered for a minute, sessions that ask the same wait for one look-up,
and after a failure nobody waits for the next one.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Literal, NamedTuple, Protocol

import structlog

log = structlog.get_logger()

REMEMBERED_FOR = 60.0  # seconds that an answer holds, also that there is none
REMEMBERED = 10_000  # answers of one table; those that were not asked for longest go first
REMEMBERED_CHARACTERS = 4_000_000  # of all these answers
RETRY_AFTER = 1.0  # seconds without a look-up after one that failed
KEY_CHARACTERS = (
    320  # an address has at most 64 + 1 + 255 octets (RFC 5321 section 4.5.3.1); no longer key is asked for
)

Result = Literal["found", "notfound", "remembered", "failed"]


class SourceUnavailable(Exception):
    """A table cannot answer now; the text says why."""


class BadTable(SourceUnavailable):
    """A line of the table that cannot be used may be for this key."""


class BadKey(SourceUnavailable):
    """A database cannot answer for this key, and may well answer for others."""


class Found(NamedTuple):
    """The value of a key, and the table or the line that has it."""

    value: str
    where: str


class Source(Protocol):
    """A table. `get` gives what it has for a key, None where that is nothing; it raises SourceUnavailable."""

    @property
    def name(self) -> str: ...

    async def get(self, key: str) -> Found | None: ...


class Database(Protocol):
    """What `Remembering` asks: as `Source`, without its memory."""

    async def get(self, key: str) -> str | None: ...


class Remembering:
    """Remembers the answers of a database, and asks it once for sessions that ask the same at a time.

    Args:
        name: the database in words, for the log.
        clock: monotonic seconds.

    Attributes:
        count: told what came of each look-up.
    """

    def __init__(self, database: Database, name: str, clock: Callable[[], float] = time.monotonic) -> None:
        self.name = name
        self.count: Callable[[Result], None] = _uncounted
        self._database = database
        self._clock = clock
        self._answers: OrderedDict[str, tuple[float, Found | None]] = OrderedDict()
        self._characters = 0
        self._asking: dict[str, asyncio.Task[Found | None]] = {}
        self._problem = ""
        self._retry_at = 0.0

    async def get(self, key: str) -> Found | None:
        """What the database has for a key. Raises SourceUnavailable."""
        if len(key) > KEY_CHARACTERS or "\0" in key:
            return None
        until, found = self._answers.get(key, (0.0, None))
        if self._clock() < until:
            self._answers.move_to_end(key)
            self.count("remembered")
            return found
        task = self._asking.get(key)
        if task is None:
            if self._problem and self._clock() < self._retry_at:
                self.count("failed")
                raise SourceUnavailable(self._problem)
            task = asyncio.create_task(self._ask(key))
            self._asking[key] = task
            task.add_done_callback(lambda done: self._asked(key, done))
        return await asyncio.shield(task)  # a session that goes away does not take the answer from the others

    def _asked(self, key: str, task: asyncio.Task[Found | None]) -> None:
        del self._asking[key]
        if not task.cancelled():
            task.exception()  # those who waited have it; asyncio would complain where nobody waits any more

    async def _ask(self, key: str) -> Found | None:
        try:
            value = await self._database.get(key)
        except SourceUnavailable as error:
            self.count("failed")
            if isinstance(error, BadKey):
                log.warning("table_key_failed", table=self.name, key=key, error=str(error))
                raise BadKey(f"{self.name}: {error}") from error
            if not self._problem:
                log.error("table_away", table=self.name, error=str(error), effect="what is asked of it hears 451 4.3.0")
            self._problem = f"{self.name}: {error}"
            self._retry_at = self._clock() + RETRY_AFTER
            raise SourceUnavailable(self._problem) from error
        if self._problem:
            self._problem = ""
            log.info("table_back", table=self.name)
        found = None if value is None else Found(value, self.name)
        self.count("notfound" if found is None else "found")
        self._remember(key, found)
        return found

    def _remember(self, key: str, found: Found | None) -> None:
        self._forget(key)
        self._answers[key] = self._clock() + REMEMBERED_FOR, found
        self._characters += _size(key, found)
        while len(self._answers) > REMEMBERED or self._characters > REMEMBERED_CHARACTERS:
            self._forget(next(iter(self._answers)))

    def _forget(self, key: str) -> None:
        if (answer := self._answers.pop(key, None)) is not None:
            self._characters -= _size(key, answer[1])

    def cancel(self) -> None:
        """End the look-ups that are under way."""
        for task in list(self._asking.values()):
            task.cancel()


def _size(key: str, found: Found | None) -> int:
    return len(key) + (0 if found is None else len(found.value))


def _uncounted(result: Result) -> None:
    """Counts nothing."""
