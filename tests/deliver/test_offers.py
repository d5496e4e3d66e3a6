"""Messages that are offered to their next hop before they are stored, between a real queue and a scripted next hop."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from relay.config.model import Config
from relay.deliver.host_failover import Job
from relay.deliver.in_session import ClientGone
from relay.deliver.next_hop import NextHop
from relay.intake.enqueue import Enqueuer
from relay.mail.outcome import Outcome, deferral
from relay.mail.reply import Refused
from relay.queue.connect import connect
from relay.queue.database import QueueUnavailable
from relay.queue.store import Change, Store
from tests.deliver.test_dispatcher import DEFERRED, FAILED, UNREACHABLE, Hops, House


class BoundHops(Hops):
    """Keeps to the time limit of each attempt. `final` says which domains have the final dot when their gate holds."""

    def __init__(self) -> None:
        super().__init__()
        self.final: set[str] = set()
        self.seconds = 0.0

    async def deliver(self, next_hop: NextHop, job: Job) -> tuple[Outcome, ...]:
        domain = next_hop.domain
        self.jobs.append((domain, job))
        if not job.bound.over:
            with job.bound:
                if domain in self.final:
                    job.bound.final_dot()
                if domain in self.gates:
                    await self.gates[domain].wait()
                await asyncio.sleep(self.seconds)
                return tuple(self.answer(r.address) for r in job.recipients)
        return tuple(deferral("4.4.2", job.bound.over) for _ in job.recipients)


class Desk:
    """A worker that hands messages over."""

    def __init__(self, house: House, hops: BoundHops) -> None:
        self.house, self.hops, self.store = house, hops, house.store
        self.enqueuer = Enqueuer(house.store, house.dispatcher, house.metrics, lambda: False)
        self.leaves = asyncio.get_running_loop().create_future()

    def gone(self) -> asyncio.Future[None]:
        return self.leaves

    async def hand_over(self, recipient: str, **more: Any) -> bool:
        change = self.house.arrival(recipient, **more)
        return await self.enqueuer.hand_over(change.arrived[0], change.deliveries[0], self.gone)

    async def acquaint(self, *domains: str) -> None:
        """Let next hops answer, so that they are asked in the session from now on."""
        for domain in domains:
            assert not await self.hand_over(f"first@{domain}")
        await self.house.counts()

    def hold(self, domain: str, *, final: bool = False) -> asyncio.Event:
        if final:
            self.hops.final.add(domain)
        gate = self.hops.gates[domain] = asyncio.Event()
        return gate

    async def asked(self, count: int) -> None:
        await self.house.until(lambda: len(self.hops.jobs) >= count)

    async def is_idle(self) -> None:
        """No attempt is left, and every place was given back."""
        await self.house.until(lambda: not self.house.dispatcher._running)
        assert not self.house.dispatcher._offers
        assert self.house.dispatcher._hops.young == 0


@asynccontextmanager
async def desk_of(folder: Path, **delivery: Any) -> AsyncIterator[Desk]:
    config = Config.model_validate(
        {
            "hostname": "mx.test",
            "listen": [{"address": "127.0.0.1:0"}],
            "srs": {"domain": "fwd.test", "secrets_file": "/dev/null"},
            "delivery": {"concurrency": 2, "concurrency_total": 10, **delivery},
        }
    )
    store = Store(await connect(f"sqlite:///{folder}/queue.db"), "worker/1/")
    hops = BoundHops()
    house = House(config, store, hops=hops)
    running = asyncio.create_task(house.dispatcher.run())
    try:
        yield Desk(house, hops)
    finally:
        for gate in hops.gates.values():
            gate.set()
        await house.dispatcher.stop(5)
        await asyncio.wait_for(running, 5)
        await store.close()


@pytest.fixture
async def desk(tmp_path: Path) -> AsyncIterator[Desk]:
    async with desk_of(tmp_path) as desk:
        yield desk


def failing(store: Store, monkeypatch: pytest.MonkeyPatch, gate: asyncio.Event | None = None) -> None:
    async def apply(change: Change) -> None:
        if gate is not None:
            await gate.wait()
        raise QueueUnavailable("the disk is full")

    monkeypatch.setattr(store, "apply", apply)


async def test_a_next_hop_is_asked_once_it_has_answered(desk: Desk) -> None:
    assert not await desk.hand_over("a@d.test")
    await desk.house.counts()
    assert await desk.hand_over("a@d.test")
    assert not await desk.hand_over("a@e.test")  # nobody has asked this one
    await desk.is_idle()


async def test_a_refusal_is_heard_in_our_words_and_logged_in_those_of_the_next_hop(desk: Desk) -> None:
    await desk.acquaint("mailbox.test")
    desk.hops.answer = lambda recipient: FAILED
    with capture_logs() as logs:
        with pytest.raises(Refused) as refused:
            await desk.hand_over("hidden@mailbox.test")
        await desk.is_idle()
    assert str(refused.value.reply).startswith("550 5.1.1 ") and "hidden" not in str(refused.value.reply)
    assert [line["text"] for line in logs if line["event"] == "refused_by_next_hop"] == [FAILED.text]
    assert await desk.store.counts() == {}


@pytest.mark.parametrize("outcome", [UNREACHABLE, DEFERRED])
async def test_what_is_put_off_waits_in_the_queue(desk: Desk, outcome: Outcome) -> None:
    await desk.acquaint("d.test")
    desk.hops.answer = lambda recipient: outcome
    assert not await desk.hand_over("a@d.test")
    due = await desk.house.deferred()
    (row,) = await desk.store.lease([due], time.time() + 60)
    assert row.attempts == 1
    asked = len(desk.hops.jobs)
    assert not await desk.hand_over("b@d.test")
    await desk.house.until(lambda: len(desk.hops.jobs) > asked or outcome is UNREACHABLE)
    if outcome is UNREACHABLE:
        assert len(desk.hops.jobs) == asked, "a next hop that cannot be reached is tried from the queue"


async def test_a_client_that_leaves_costs_its_next_hop_nothing(desk: Desk) -> None:
    await desk.acquaint("d.test")
    gate = desk.hold("d.test")
    for number in range(12):
        desk.leaves = asyncio.get_running_loop().create_future()
        leaving = asyncio.create_task(desk.hand_over(f"a{number}@d.test", sender=f"bob@s{number}.test"))
        await desk.asked(number + 2)
        desk.leaves.set_result(None)
        with pytest.raises(ClientGone):
            await leaving
    await desk.is_idle()
    desk.leaves = asyncio.get_running_loop().create_future()
    gate.set()
    assert await desk.hand_over("b@d.test"), "it still counts as well"
    assert await desk.store.counts() == {}


async def test_a_session_that_is_dropped_takes_its_message_along(desk: Desk) -> None:
    await desk.acquaint("d.test")
    desk.hold("d.test")
    session = asyncio.create_task(desk.hand_over("a@d.test"))
    await desk.asked(2)
    session.cancel()
    with pytest.raises(asyncio.CancelledError):
        await session
    await desk.is_idle()
    assert await desk.store.counts() == {}


async def test_what_is_delivered_after_its_session_was_dropped_is_in_the_log(desk: Desk) -> None:
    await desk.acquaint("d.test")
    gate = desk.hold("d.test", final=True)
    session = asyncio.create_task(desk.hand_over("a@d.test"))
    await desk.asked(2)
    session.cancel()
    with pytest.raises(asyncio.CancelledError):
        await session
    with capture_logs() as logs:
        gate.set()
        await desk.is_idle()
    assert [line["event"] for line in logs] == ["delivered"]


async def test_a_session_that_is_dropped_while_its_message_is_stored_leaves_it_to_the_queue(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    await desk.acquaint("d.test")
    storing, go_on, apply = asyncio.Event(), asyncio.Event(), desk.store.apply

    async def slowly(change: Change) -> None:
        storing.set()
        await go_on.wait()
        await apply(change)

    monkeypatch.setattr(desk.store, "apply", slowly)
    desk.hops.answer = lambda recipient: DEFERRED
    session = asyncio.create_task(desk.hand_over("a@d.test"))
    await storing.wait()
    session.cancel()
    with pytest.raises(asyncio.CancelledError):
        await session
    go_on.set()
    await desk.house.deferred()
    await desk.is_idle()


@pytest.mark.parametrize("final", [False, True])
async def test_when_the_relay_stops_nobody_waits_on(desk: Desk, final: bool) -> None:
    """What is not settled is stored at once, and the attempt goes on until the relay ends."""
    await desk.acquaint("d.test")
    gate = desk.hold("d.test", final=final)
    session = asyncio.create_task(desk.hand_over("a@d.test"))
    await desk.asked(2)
    desk.house.dispatcher.end_offers()
    assert not await asyncio.wait_for(session, 5)
    assert await desk.store.counts() == {"queued": 1}
    gate.set()
    await desk.house.counts()
    assert len(desk.hops.jobs) == 2
    assert not await desk.hand_over("b@d.test"), "no other is offered"


async def test_an_attempt_that_is_cut_is_stored(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """The relay stops so soon that the session has not heard of it."""
    monkeypatch.setattr(desk.house.dispatcher, "end_offers", lambda: None)
    await desk.acquaint("d.test")
    desk.hold("d.test", final=True)
    session = asyncio.create_task(desk.hand_over("a@d.test"))
    await desk.asked(2)
    await desk.house.dispatcher.stop(0.01)
    assert not await asyncio.wait_for(session, 5)
    assert await desk.store.counts() == {"queued": 1}


async def test_an_attempt_that_is_cut_while_its_message_is_stored(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    await desk.acquaint("d.test")
    storing, go_on, apply = asyncio.Event(), asyncio.Event(), desk.store.apply

    async def slowly(change: Change) -> None:
        if change.arrived:
            storing.set()
            await go_on.wait()
        await apply(change)

    monkeypatch.setattr(desk.store, "apply", slowly)
    desk.hops.answer = lambda recipient: DEFERRED
    session = asyncio.create_task(desk.hand_over("a@d.test"))
    await storing.wait()
    await desk.house.dispatcher.stop(0.01)
    go_on.set()
    assert not await asyncio.wait_for(session, 5)
    assert await desk.store.counts() == {"queued": 1}


async def test_a_message_that_nobody_takes_and_nothing_holds(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    await desk.acquaint("d.test")
    failing(desk.store, monkeypatch)
    desk.hops.answer = lambda recipient: DEFERRED
    with pytest.raises(QueueUnavailable):
        await desk.hand_over("a@d.test")
    await desk.is_idle()


async def test_a_message_that_cannot_be_stored_but_is_at_its_next_hop(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    await desk.acquaint("d.test")
    gate = desk.hold("d.test", final=True)
    go_on = asyncio.Event()
    failing(desk.store, monkeypatch, go_on)
    session = asyncio.create_task(desk.hand_over("a@d.test"))
    await desk.asked(2)
    desk.house.dispatcher.end_offers()  # stands for the end of the patience
    go_on.set()
    await asyncio.sleep(0.05)
    assert not session.done()
    gate.set()
    assert await session, "the next hop has it"
    await desk.is_idle()


async def test_an_offer_without_room_under_its_table_is_stored_and_waits(tmp_path: Path) -> None:
    async with desk_of(tmp_path, destinations=[{"domains": ["d.test", ".e.test"], "concurrency": 1}]) as desk:
        await desk.acquaint("d.test", "x.e.test")
        gate = desk.hold("d.test")
        first = asyncio.create_task(desk.hand_over("a@d.test"))
        await desk.asked(3)
        assert not await desk.hand_over("b@x.e.test")
        assert await desk.store.counts() == {"queued": 1} and len(desk.hops.jobs) == 3
        gate.set()
        assert await first
        await desk.house.counts()
        assert await desk.hand_over("c@x.e.test")


async def test_an_offer_past_the_rate_of_its_table_is_stored_and_waits(tmp_path: Path) -> None:
    async with desk_of(tmp_path, destinations=[{"domains": ["d.test"], "rate": 60}]) as desk:
        await desk.acquaint("d.test")
        said = [await desk.hand_over(f"a{number}@d.test") for number in range(4)]
        assert said.count(True) <= 1
        await desk.house.counts()
        assert len(desk.hops.jobs) == 5


async def test_an_offer_whose_table_is_found_by_its_mx_hosts_only(tmp_path: Path) -> None:
    async with desk_of(tmp_path, destinations=[{"domains": ["mx:*.mail.test"], "concurrency": 1}]) as desk:
        await desk.acquaint("d.test", "e.test")
        (table,) = desk.house.config.destinations
        desk.hops.by_mx = dict.fromkeys(("d.test", "e.test"), table)
        gate = desk.hold("d.test")
        first = asyncio.create_task(desk.hand_over("a@d.test"))
        await desk.asked(3)
        assert not await desk.hand_over("b@e.test"), "its attempt finds that there is no room"
        assert await desk.store.counts() == {"queued": 1} and len(desk.hops.jobs) == 3
        gate.set()
        assert await first
        await desk.house.counts()


async def test_what_waits_in_the_queue_goes_before_what_is_offered(desk: Desk) -> None:
    """There is room again, and the delivery that waits for it has not been looked at yet."""
    await desk.acquaint("d.test")
    desk.house.dispatcher._rooms.waiting.add("d.test")
    assert not await desk.hand_over("b@d.test")
    await desk.house.until(lambda: "d.test" not in desk.house.dispatcher._rooms.waiting)
    await desk.is_idle()
    assert await desk.hand_over("c@d.test")


async def test_a_flood_through_the_queue_leaves_sessions_their_reply(desk: Desk) -> None:
    await desk.acquaint("d.test")
    desk.hold("d.test")
    await desk.store.apply(desk.house.arrival(*(f"w{number}@d.test" for number in range(50))))
    await desk.house.until(lambda: "d.test" in desk.house.dispatcher._rooms.waiting or len(desk.hops.jobs) > 1)
    for number in range(8):
        await desk.store.apply(desk.house.arrival(f"v{number}@d.test"))
    await desk.house.until(lambda: "d.test" in desk.house.dispatcher._rooms.waiting)
    began = time.monotonic()
    assert not await desk.hand_over("a@d.test")
    assert time.monotonic() - began < 5


async def test_an_attempt_that_fails_by_our_fault_is_made_again(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    await desk.acquaint("d.test")

    async def fails(*_: object) -> None:
        raise RuntimeError("a fault")

    monkeypatch.setattr(desk.house.dispatcher._attempts, "results", fails)
    assert not await desk.hand_over("a@d.test")
    await desk.is_idle()
    assert await desk.store.counts() == {"queued": 1}
    assert not desk.house.dispatcher._leases._held, "its lease runs out"
