"""Whether the disk has room for more mail; this is checked before a message is accepted.

An SQLite file does not shrink when mail leaves: its free pages are used again before the file grows. So they count as
room too, if the disk itself has enough for the write-ahead log. Where room is short the oldest dead letters are
dropped.
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

MEASURE_EVERY = 1.0  # seconds for which a measurement of the free pages counts
PLENTY = 2  # times the minimum: with so much free on the disk, nobody fills it within that second
LOG_ROOM = 32 << 20  # octets of the disk for the write-ahead log, which free pages cannot replace


class FreeSpace:
    """The room on the disk of an SQLite queue; with a database server there is always room.

    Args:
        folder: the folder of the queue, see `QueueSection.folder`; None with a database server.
        minimum: octets that must stay free (`queue.min_free`).
        reusable: returns how many octets are free inside the file.
        log_room: returns how many octets of the disk the write-ahead log has, and writes over again.
        make_room: drops some dead letters, and returns how many.
    """

    def __init__(
        self,
        folder: Path | None,
        minimum: int,
        reusable: Callable[[], Awaitable[int]],
        log_room: Callable[[], int],
        make_room: Callable[[], Awaitable[int]],
    ) -> None:
        self._folder = folder
        self._minimum = minimum
        self._reusable = reusable
        self._log_room = log_room
        self._make_room = make_room
        self._measuring = asyncio.Lock()
        self._plenty_until = 0.0  # by the monotonic clock
        self._measured_at = 0.0
        self._inside = 0  # octets free inside the file, when they were measured last
        self._had_room = True  # whether those were enough
        self._was_enough = True

    async def enough(self) -> bool:
        """Whether there is room for mail, after dead letters have made way."""
        now = time.monotonic()
        if self._folder is None or now < self._plenty_until:
            return True
        problem: str | None = None
        try:
            on_disk = self._on_disk(self._folder)
            if on_disk >= PLENTY * self._minimum:
                self._plenty_until = now + MEASURE_EVERY
            enough = on_disk >= self._minimum
            if enough:
                self._measured_at = 0.0  # the last measurement is outdated when the disk gets full again
            else:
                enough = await self._enough_with_file(self._folder)
        except (OSError, QueueUnavailable) as error:
            enough, problem = False, str(error)
        if enough != self._was_enough:
            log.warning("disk_space", folder=str(self._folder), enough=enough, problem=problem)
        self._was_enough = enough
        return enough

    @staticmethod
    def _on_disk(folder: Path) -> int:
        disk = os.statvfs(folder)
        return disk.f_bavail * disk.f_frsize

    async def _enough_with_file(self, folder: Path) -> bool:
        async with self._measuring:
            on_disk = self._on_disk(folder)
            if on_disk + self._log_room() < min(self._minimum // 2, LOG_ROOM):
                return False
            wanted = self._minimum - on_disk
            if time.monotonic() - self._measured_at > MEASURE_EVERY or (self._had_room and self._inside < wanted):
                await self._measure(wanted)
            return self._inside >= wanted

    async def _measure(self, wanted: int) -> None:
        """Measure the room inside the file, and drop dead letters until there is as much as wanted."""
        dropped = 0
        try:
            while (inside := await self._reusable()) < wanted and (more := await self._make_room()):
                dropped += more
            self._inside, self._had_room, self._measured_at = inside, inside >= wanted, time.monotonic()
        finally:
            if dropped:
                log.warning("dead_letters_dropped", count=dropped, limit="queue.min_free")
