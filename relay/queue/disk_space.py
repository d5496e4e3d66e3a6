"""Whether the disk has room for more mail: asked before a message is taken, so that none is lost to a full one.

An SQLite file does not shrink when mail leaves; what becomes free inside it is filled again before the file grows. So
that counts as room too, as long as the disk itself has enough for the write-ahead log. Mail that nobody waits for never
stands in the way of new mail: where room is short the oldest dead letters go first.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import structlog

from relay.queue.database import QueueUnavailable

log = structlog.get_logger()

BELIEVED_FOR = 1.0  # seconds between two looks into the file
LOG_ROOM = 32 << 20  # octets of the disk for the write-ahead log, which nothing inside the file makes up for


class FreeSpace:
    """The disk under an SQLite queue; a database server looks after its own.

    Args:
        folder: where it is, see `config_sections.Queue.folder`.
        minimum: octets that must stay free (`queue.min_free`).
        reusable: tells how many octets are free inside the file.
        make_room: drops some dead letters, and tells how many.
    """

    def __init__(
        self,
        folder: Path | None,
        minimum: int,
        reusable: Callable[[], Awaitable[int]],
        make_room: Callable[[], Awaitable[int]],
    ) -> None:
        self._folder = folder
        self._minimum = minimum
        self._reusable = reusable
        self._make_room = make_room
        self._looking = asyncio.Lock()
        self._looked_at = 0.0
        self._inside = 0
        self._found_room = True
        self._was_enough = True

    async def enough(self) -> bool:
        """Whether there is room for mail, or could be made."""
        if self._folder is None:
            return True
        problem: str | None = None
        try:
            enough = self._on_disk(self._folder) >= self._minimum
            if enough:
                self._looked_at = 0.0  # what was found inside the file when there was less is no matter any more
            else:
                enough = await self._with_the_inside(self._folder)
        except (OSError, QueueUnavailable) as error:
            enough, problem = False, str(error)
        if enough != self._was_enough:
            log.warning("disk_space", folder=str(self._folder), enough=enough, problem=problem)
        self._was_enough = enough
        return enough

    @staticmethod
    def _on_disk(folder: Path) -> int:
        found = os.statvfs(folder)
        return found.f_bavail * found.f_frsize

    async def _with_the_inside(self, folder: Path) -> bool:
        async with self._looking:
            on_disk = self._on_disk(folder)
            if on_disk < min(self._minimum // 2, LOG_ROOM):
                return False
            wanted = self._minimum - on_disk
            if time.monotonic() - self._looked_at > BELIEVED_FOR or (self._found_room and self._inside < wanted):
                await self._look(wanted)
            return self._inside >= wanted

    async def _look(self, wanted: int) -> None:
        dropped = 0
        try:
            while (inside := await self._reusable()) < wanted and (more := await self._make_room()):
                dropped += more
            self._inside, self._found_room, self._looked_at = inside, inside >= wanted, time.monotonic()
        finally:
            if dropped:
                log.warning("dead_letters_dropped", count=dropped, limit="queue.min_free")
