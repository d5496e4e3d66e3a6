"""Whether there is room for more mail, on a disk whose free space each test sets."""

from __future__ import annotations

import os
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from structlog.testing import capture_logs

from relay.queue import disk_space
from relay.queue.database import QueueUnavailable
from relay.queue.disk_space import LOG_ROOM, FreeSpace

FOLDER = Path("/queue")
MINIMUM = 100 << 20


class Disk:
    """A disk and a queue on it.

    Attributes:
        free: octets free on the disk.
        inside: octets free inside the file.
        log: octets that the write-ahead log has.
        letters: how many octets each dead letter leaves inside the file; the oldest is the last.
        measured: how often the room inside the file was measured.
    """

    def __init__(self, free: int, inside: int = 0, letters: tuple[int, ...] = ()) -> None:
        self.free, self.inside, self.letters = free, inside, list(letters)
        self.log = 0
        self.measured = 0

    async def reusable(self) -> int:
        self.measured += 1
        return self.inside

    async def make_room(self) -> int:
        if not self.letters:
            return 0
        self.inside += self.letters.pop()
        return 1

    def space(self, monkeypatch: pytest.MonkeyPatch, folder: Path | None = FOLDER) -> FreeSpace:
        monkeypatch.setattr(os, "statvfs", lambda _: SimpleNamespace(f_bavail=self.free, f_frsize=1))
        return FreeSpace(folder, MINIMUM, self.reusable, lambda: self.log, self.make_room)


@pytest.mark.parametrize(
    ("free", "inside", "enough"),
    [
        (MINIMUM, 0, True),
        (MINIMUM - 1, 0, False),
        (MINIMUM - 1, 1, True),
        (LOG_ROOM, MINIMUM - LOG_ROOM, True),
        (LOG_ROOM, MINIMUM - LOG_ROOM - 1, False),
        (LOG_ROOM - 1, 1 << 40, False),  # room inside the file is none for the write-ahead log
    ],
)
async def test_free_pages_count_as_long_as_the_log_has_room(
    monkeypatch: pytest.MonkeyPatch, free: int, inside: int, enough: bool
) -> None:
    assert await Disk(free, inside).space(monkeypatch).enough() is enough


async def test_what_the_log_has_of_the_disk_is_room_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    disk = Disk(LOG_ROOM - 1, inside=1 << 40)
    assert not await disk.space(monkeypatch).enough()
    disk.log = 1
    assert await disk.space(monkeypatch).enough()


async def test_with_a_database_server_there_is_always_room(monkeypatch: pytest.MonkeyPatch) -> None:
    assert await Disk(0).space(monkeypatch, folder=None).enough()


async def test_dead_letters_are_dropped_until_there_is_room_and_no_further(monkeypatch: pytest.MonkeyPatch) -> None:
    disk = Disk(MINIMUM - 10, letters=(5, 5, 5, 5))
    space = disk.space(monkeypatch)
    with capture_logs() as lines:
        assert await space.enough()
    assert disk.letters == [5, 5]
    assert [(line["event"], line["count"], line["limit"]) for line in lines] == [
        ("dead_letters_dropped", 2, "queue.min_free")
    ]


async def test_the_file_is_not_measured_for_every_message(monkeypatch: pytest.MonkeyPatch) -> None:
    disk = Disk(MINIMUM - 10, inside=20)
    space = disk.space(monkeypatch)
    assert [await space.enough() for _ in range(3)] == [True] * 3
    assert disk.measured == 1
    disk.free -= 15
    assert not await space.enough(), "what is inside is no longer enough"
    assert disk.measured == 2
    assert not await space.enough()
    assert disk.measured == 2, "measured again at once, although there was no room"
    monkeypatch.setattr(disk_space, "MEASURE_EVERY", 0.0)
    disk.inside = 25
    assert await space.enough()
    assert disk.measured == 3


async def test_a_disk_with_plenty_of_room_is_not_asked_for_every_message(monkeypatch: pytest.MonkeyPatch) -> None:
    disk = Disk(2 * MINIMUM)
    space = disk.space(monkeypatch)
    assert await space.enough()
    disk.free = 0
    assert await space.enough()
    later = time.monotonic() + 1
    monkeypatch.setattr(disk_space, "time", SimpleNamespace(monotonic=lambda: later))
    assert not await space.enough()


async def test_a_change_is_logged_once(monkeypatch: pytest.MonkeyPatch) -> None:
    disk = Disk(MINIMUM)
    space = disk.space(monkeypatch)
    with capture_logs() as lines:
        for free in (MINIMUM, MINIMUM - 1, MINIMUM - 1, MINIMUM, MINIMUM):
            disk.free = free
            await space.enough()
    assert [(line["event"], line["folder"], line["enough"], line["problem"]) for line in lines] == [
        ("disk_space", "/queue", False, None),
        ("disk_space", "/queue", True, None),
    ]


@pytest.mark.parametrize("error", [QueueUnavailable("disk I/O error"), OSError("no such folder")])
async def test_a_disk_that_cannot_be_asked_has_no_room(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    async def broken() -> int:
        raise error

    disk = Disk(MINIMUM - 1)
    monkeypatch.setattr(disk, "reusable", broken)
    with capture_logs() as lines:
        assert not await disk.space(monkeypatch).enough()
    assert [line["problem"] for line in lines] == [str(error)]
