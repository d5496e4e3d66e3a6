"""What lasts: the slow share of places and of memory, and what we write ourselves."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace

import pytest

from relay.deliver import concurrency as hops
from relay.deliver import underway
from relay.deliver.host_failover import Job
from relay.deliver.next_hop import NextHop
from relay.mail.outcome import Outcome, deferral
from relay.queue.store import Change, Due
from tests.deliver.test_dispatcher import DELIVERED, FAILED, House, house

__all__ = ["house"]

LARGE = b"x" * 6_000_000 + b" the end\r\n"  # of the ten million octets that this dispatcher may hold


class Lasting:
    """Next hops named `…slow.test` that stay silent, and `…final.test` that do so behind the final dot."""

    def __init__(self, house: House) -> None:
        self._deliver = house.hops.deliver
        self.over = asyncio.Event()

    async def deliver(self, next_hop: NextHop, job: Job) -> tuple[Outcome, ...]:
        domain = next_hop.domain
        with job.bound:
            if domain.endswith("final.test"):
                await job.content()
                job.bound.final_dot()
            if domain.endswith(("slow.test", "final.test")):
                await self.over.wait()
        if job.bound.over and not domain.endswith("final.test"):
            return tuple(deferral("4.4.2", job.bound.over) for _ in job.recipients)
        return await self._deliver(next_hop, job)


@pytest.fixture
def lasting(house: House, monkeypatch: pytest.MonkeyPatch) -> Lasting:
    for module in (hops, underway):
        monkeypatch.setattr(module, "SLOW", 0.3)
    lasting = Lasting(house)
    monkeypatch.setattr(house.hops, "deliver", lasting.deliver)
    return lasting


def has_room(house: House) -> bool:
    """Whether a large message for a next hop of its own could be attempted from memory."""
    return bool(house.dispatcher.lease_at_once(house.arrival("r@quick.test").deliveries, len(LARGE)))


async def attempt(house: House, change: Change) -> None:
    """Store a message and attempt it from memory, as for a client."""
    until = time.time() + 60
    deliveries = [
        replace(delivery, lease_owner=house.store.owner, lease_token=1, next_attempt=until)
        for delivery in change.deliveries
    ]
    await house.store.apply(Change(arrived=change.arrived, deliveries=deliveries))
    house.dispatcher.take(change.arrived[0], deliveries)


async def given_up(house: House, count: int) -> list[str]:
    """The domains whose deliveries were put off, once there are so many, for the reason that others needed the room."""
    due: list[Due] = []

    async def all_put_off() -> bool:
        later = time.time() + 200  # than the end of any lease
        due[:] = [
            delivery for delivery in await house.store.due(time.time() + 400, 100) if delivery.next_attempt > later
        ]
        return len(due) >= count

    await house.until(all_put_off)
    rows = await house.store.lease(due, time.time() + 500)
    assert all(row.last and "to make room for others" in row.last["text"] for row in rows)
    return sorted(row.hop for row in rows)


async def test_what_is_slow_is_given_up_where_its_share_is_full_and_its_place_goes_to_others(
    house: House, lasting: Lasting
) -> None:
    for n in range(5):  # of eight places for the young and two for the slow
        await attempt(house, house.arrival(f"r@{n}slow.test"))
    assert await given_up(house, 3) == ["0slow.test", "1slow.test", "2slow.test"]
    await house.store.apply(house.arrival("r@quick.test"))
    await house.until(lambda: "r@quick.test" in house.hops.recipients())
    lasting.over.set()
    await house.until(lambda: len(house.hops.jobs) == 3)


async def test_one_hop_cannot_push_the_others_out_of_the_slow_share(house: House, lasting: Lasting) -> None:
    await attempt(house, house.arrival("r@honest-but-slow.test"))
    for n in range(4):
        await attempt(house, house.arrival(f"r{n}@0slow.test"))
    assert await given_up(house, 3) == ["0slow.test"] * 3
    lasting.over.set()
    await house.until(lambda: "r@honest-but-slow.test" in house.hops.recipients())


async def test_what_waits_for_the_reply_to_its_final_dot_holds_no_memory(house: House, lasting: Lasting) -> None:
    for n in range(3):
        await attempt(house, house.arrival(f"r@{n}final.test", body=LARGE))
    assert not has_room(house)
    await house.store.apply(house.arrival("r@quick.test", body=LARGE))
    await house.until(lambda: "r@quick.test" in house.hops.recipients())
    lasting.over.set()
    await house.counts()
    assert house.hops.recipients() == ["r@0final.test", "r@1final.test", "r@2final.test", "r@quick.test"]


async def test_a_refusal_of_what_was_let_go_of_returns_it_whole(house: House, lasting: Lasting) -> None:
    house.hops.answer = lambda r: FAILED if r.endswith("final.test") else DELIVERED
    await attempt(house, house.arrival("r@0final.test", "r@1final.test", body=LARGE))
    await house.until(lambda: has_room(house))
    lasting.over.set()
    await house.until(lambda: "bob@origin.test" in house.hops.recipients())
    (bounce,) = [job for _, job in house.hops.jobs if job.sender == ""]
    assert b"Subject: hello" in b"".join(await bounce.content())
    await house.counts()


async def test_slow_messages_hold_a_quarter_of_the_memory(house: House, lasting: Lasting) -> None:
    await attempt(house, house.arrival("r@0slow.test", body=LARGE))
    await attempt(house, house.arrival("r@1slow.test", body=LARGE))

    assert await given_up(house, 1) == ["0slow.test"]
    assert has_room(house), "the young have their own"
    lasting.over.set()


async def test_a_content_that_is_larger_than_its_share_is_attempted_all_the_same(
    house: House, lasting: Lasting
) -> None:
    await attempt(house, house.arrival("r@0slow.test", body=LARGE))
    await house.until(lambda: len(house.dispatcher._underway._slow) == 1)
    await asyncio.sleep(0.1)
    lasting.over.set()
    await house.counts()
    assert house.hops.recipients() == ["r@0slow.test"]


async def test_bounces_have_a_tenth_of_the_places_and_leave_the_others_to_mail(house: House, lasting: Lasting) -> None:
    house.hops.answer = lambda r: FAILED if r.endswith("mailbox.test") else DELIVERED
    for n in range(4):
        await house.store.apply(house.arrival(f"r{n}@mailbox.test", sender=f"bob@{n}slow.test"))
    await house.until(lambda: len(house.dispatcher._underway._young) == 1 and len(house.hops.jobs) == 4)
    await house.store.apply(house.arrival("r@0quick.test"))
    await house.until(lambda: "r@0quick.test" in house.hops.recipients())
    assert sum(job.bound.open for _, job in house.hops.jobs if not job.sender) == 0
    lasting.over.set()
    await house.counts()
    assert [r for r in house.hops.recipients() if r.endswith("slow.test")] == [f"bob@{n}slow.test" for n in range(4)]


async def test_while_bounces_wait_for_places_those_that_last_are_given_up_sooner(
    house: House, lasting: Lasting, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (hops, underway):
        monkeypatch.setattr(module, "SLOW", 60.0)
    monkeypatch.setattr(underway, "SOONER", 600)
    monkeypatch.setattr(underway, "LOOK", 0.05)
    house.hops.answer = lambda r: FAILED if r.endswith("mailbox.test") else DELIVERED
    await attempt(house, house.arrival("r@5slow.test"))
    for n in range(3):
        await house.store.apply(house.arrival(f"r{n}@mailbox.test", sender=f"bob@{n}slow.test"))
    assert len(await given_up(house, 2)) == 2, "of one place for our own, and one for a slow one of them"
    assert len(house.dispatcher._underway._young) >= 1, "other mail is not slow yet"
    await house.store.apply(house.arrival("r@mailbox.test", sender="bob@quick.test"))
    await house.until(lambda: "bob@quick.test" in house.hops.recipients())
    lasting.over.set()
