"""How workers hear what is due: what is sent and told here, what goes through a server in `test_news.py`."""

from __future__ import annotations

import asyncio

import pytest

from relay.queue import announcements
from relay.queue.announcements import Announcer, Listener
from relay.queue.database import QueueUnavailable
from tests.peers import wait_for


class Line:
    """Takes announcements; while `away`, there is nobody to take them."""

    def __init__(self) -> None:
        self.sent = 0
        self.away = False

    async def send(self) -> None:
        if self.away:
            raise QueueUnavailable("away")
        self.sent += 1


class Connection:
    """A connection that delivers what the test lets it deliver."""

    async def add_listener(self, channel: str, heard: object) -> None:
        assert channel == announcements.CHANNEL


async def test_what_is_announced_within_a_moment_is_sent_at_once_and_once_more() -> None:
    line = Line()
    announcer = Announcer(line.send)
    for _ in range(100):
        announcer.announce()
    await wait_for(lambda: line.sent, "the first announcement")
    for _ in range(100):
        announcer.announce()
    await announcer.close()
    assert line.sent == 2


async def test_an_announcement_that_cannot_be_sent_is_forgotten_and_the_next_one_is_sent() -> None:
    line = Line()
    line.away = True
    announcer = Announcer(line.send)
    announcer.announce()
    await announcer.close()
    line.away = False
    announcer.announce()
    await announcer.close()
    assert line.sent == 1


async def test_an_end_does_not_wait_for_a_server_that_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(announcements, "PATIENCE", 0.01)
    announcer = Announcer(asyncio.Event().wait)
    announcer.announce()
    async with asyncio.timeout(5):
        await announcer.close()


async def test_announcements_of_others_are_told_at_once_and_those_in_a_row_together() -> None:
    told: list[int] = []
    listener = Listener("mx1/aa")
    listener.watch(lambda: told.append(1))
    await listener.listen(Connection())
    await wait_for(lambda: told, "what may have been missed before")
    listener._told = 0.0  # long ago
    for _ in range(100):
        listener._received(None, 1, announcements.CHANNEL, "mx2/bb")
    await wait_for(lambda: len(told) == 2, "an announcement")
    listener._received(None, 1, announcements.CHANNEL, "mx2/bb")
    assert listener._telling is not None and listener._telling.when() > asyncio.get_running_loop().time()
    listener.close()


async def test_a_worker_does_not_hear_itself() -> None:
    listener = Listener("mx1/aa")
    listener._received(None, 1, announcements.CHANNEL, "mx1/aa")
    assert listener._telling is None
