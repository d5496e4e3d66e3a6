"""New messages that wait in memory behind a next hop that is full, between a real queue and scripted next hops."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from relay.bounce.notifier import Notice
from relay.deliver import dispatcher, waiting_messages
from relay.intake.enqueue import Enqueuer
from relay.queue import admin
from relay.queue.database import QueueUnavailable
from relay.queue.retry_schedule import RetrySchedule
from relay.queue.selector import Selector
from relay.queue.store import Change, Delivery, Due, StoredMessage
from tests.deliver.test_dispatcher import UNREACHABLE, House, house
from tests.deliver.test_offers import desk_of
from tests.deliver.test_scheduling import entry, running

__all__ = ["house"]


class Door:
    """Takes new messages in, and counts what the queue is asked for."""

    def __init__(self, house: House, monkeypatch: pytest.MonkeyPatch) -> None:
        self.house, self.hops, self.store = house, house.hops, house.store
        self.enqueuer = Enqueuer(house.store, house.dispatcher, house.metrics, lambda: False)
        self.loaded = 0
        load_small = house.store.load_small

        async def counted(message_ids: Sequence[int]) -> dict[int, StoredMessage]:
            loaded = await load_small(message_ids)
            self.loaded += len(loaded)
            return loaded

        monkeypatch.setattr(house.store, "load_small", counted)

    async def put(self, *recipients: str, **more: Any) -> StoredMessage:
        change = self.house.arrival(*recipients, **more)
        await self.enqueuer.put(change.arrived[0], change.deliveries, Notice())
        return change.arrived[0]

    async def full(self, domain: str) -> asyncio.Event:
        """Let a next hop answer once, and then hold as many transactions as it may have. The event lets them go."""
        await self.put(f"first@{domain}")
        await self.house.until(lambda: self.house.dispatcher._hops.answered_since(domain, 0))
        gate = self.hops.gates[domain] = asyncio.Event()
        before = self.begun(domain)
        while domain not in self.lines:
            await self.put(f"full{self.begun(domain)}@{domain}")
            await asyncio.sleep(0.01)
        assert self.begun(domain) > before
        return gate

    @property
    def lines(self) -> waiting_messages.WaitingMessages:
        return self.house.dispatcher._lines

    def begun(self, domain: str) -> int:
        return sum(each == domain for each, _ in self.hops.jobs)

    def order(self, prefix: str) -> list[str]:
        """The recipients whose names begin so, in the order of their attempts."""
        return [r.address for _, job in self.hops.jobs for r in job.recipients if r.address.startswith(prefix)]

    async def unleased(self) -> list[Due]:
        return await self.store.due(time.time(), 1000)


@pytest.fixture
async def door(house: House, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Door]:
    yield Door(house, monkeypatch)


async def test_what_a_full_next_hop_has_no_place_for_is_attempted_from_memory_in_its_order(door: Door) -> None:
    gate = await door.full("d.test")
    for n in range(30):
        await door.put(f"r{n}@d.test")
    assert await door.unleased() == [], "no other worker attempts it"
    gate.set()
    await door.house.counts()
    assert door.order("r") == [f"r{n}@d.test" for n in range(30)]
    assert door.loaded == 0


async def test_a_next_hop_that_is_full_holds_up_no_other_recipient_of_a_message(door: Door) -> None:
    gate = await door.full("d.test")
    await door.put("late@d.test", "soon@e.test", "soon@f.test")
    await door.house.until(lambda: sorted(door.order("soon")) == ["soon@e.test", "soon@f.test"])
    assert door.order("late") == []
    gate.set()
    await door.house.counts()
    assert door.order("late") == ["late@d.test"] and door.loaded == 0


async def test_a_recipient_that_cannot_wait_in_memory_is_left_to_the_queue_alone(door: Door) -> None:
    gate = await door.full("d.test")
    door.lines._memory = 0
    stored = await door.put("late@d.test", "soon@e.test")
    assert [(due.message_id, due.hop) for due in await door.unleased()] == [(stored.id, "d.test")]
    await door.house.until(lambda: door.order("soon") == ["soon@e.test"])
    gate.set()
    await door.house.counts()
    assert door.order("late") == ["late@d.test"]


async def test_a_next_hop_that_has_not_answered_has_no_line(door: Door) -> None:
    gate = door.hops.gates["tarpit.test"] = asyncio.Event()
    for n in range(10):
        await door.put(f"r{n}@tarpit.test")
    assert "tarpit.test" not in door.lines
    assert await door.unleased() != []
    gate.set()
    await door.house.counts()


async def test_a_line_is_bounded_and_leaves_room_to_others(door: Door) -> None:
    slow, quick = await door.full("slow.test"), await door.full("quick.test")
    for n in range(10):
        await door.put(f"r{n}@slow.test", body=b"x" * 200_000)
    waits = [each.stored.id for each in door.lines._lines["slow.test"].messages]
    assert 1 < len(waits) < 7, "half of a sixteenth of twenty million octets"
    assert len(await door.unleased()) >= 4
    await door.put("r@quick.test", body=b"x" * 200_000)
    assert len(door.lines._lines["quick.test"].messages) == 2
    slow.set()
    quick.set()
    await door.house.counts()
    assert len(door.order("r")) == 11


async def test_what_is_due_in_the_queue_takes_turns_with_what_waits_in_memory(door: Door) -> None:
    gate = await door.full("d.test")
    for n in range(40):
        await door.store.apply(door.house.arrival(f"old{n}@d.test"))
    await door.house.until(lambda: "d.test" in door.house.dispatcher._rooms.waiting)
    for n in range(40):
        await door.put(f"new{n}@d.test")
    assert len(door.lines._lines["d.test"].messages) >= 40
    gate.set()
    await door.house.counts()
    both = [each[:3] for each in door.order("old") + door.order("new")]
    assert len(both) == 80 and door.loaded == 40
    order = [each[:3] for _, job in door.hops.jobs for r in job.recipients if (each := r.address)[:3] in ("old", "new")]
    for end in range(10, 80, 10):
        assert order[:end].count("old") >= end // 2 - 4, "neither goes before the other"
        assert order[:end].count("new") >= min(end // 2 - 8, 40)


async def test_when_a_next_hop_fails_what_waits_for_it_shares_that(door: Door) -> None:
    gate = await door.full("d.test")
    for n in range(30):
        await door.put(f"r{n}@d.test")
    tried = len(door.hops.jobs)
    door.hops.answer = lambda recipient: UNREACHABLE
    gate.set()

    async def all_deferred() -> bool:
        return not await door.store.due(time.time() + 200, 1)

    await door.house.until(all_deferred)
    assert len(door.hops.jobs) - tried < 5 and "d.test" not in door.lines
    rows = await door.store.lease(await door.store.due(time.time() + 400, 100), time.time() + 500)
    assert {row.attempts for row in rows} == {1} and len(rows) >= 30
    await door.house.until(lambda: not door.house.dispatcher._leases._held)


async def test_what_came_after_a_try_that_failed_gets_a_try_of_its_own(door: Door) -> None:
    gate = await door.full("d.test")
    await asyncio.sleep(0.3)  # longer than a pause: the tries under way began before this
    for n in range(3):
        await door.put(f"r{n}@d.test")
    failing = True
    door.hops.answer = lambda recipient: UNREACHABLE if failing else door.hops.__class__().answer(recipient)
    gate.set()
    await door.house.until(lambda: door.house.dispatcher._rooms.failure("d.test") is not None)
    failing = False
    await door.house.until(lambda: sorted(door.order("r")) == [f"r{n}@d.test" for n in range(3)])


async def test_when_the_relay_stops_what_waits_is_due_again_at_once_in_one_write(
    door: Door, monkeypatch: pytest.MonkeyPatch
) -> None:
    await door.full("d.test")
    ids = [(await door.put(f"r{n}@d.test")).id for n in range(20)]
    waiting = len(door.lines._lines["d.test"].messages)
    changes: list[Change] = []
    apply = door.store.apply

    async def noted(change: Change) -> None:
        changes.append(change)
        await apply(change)

    monkeypatch.setattr(door.store, "apply", noted)
    await door.house.dispatcher.stop(0.05)
    due = await door.unleased()
    assert len(due) == waiting and {each.message_id for each in due} >= set(ids)
    assert [each.message_id for each in due] == sorted(each.message_id for each in due), "in their order"
    assert len(changes) == 1
    assert not door.order("r")
    rows = await door.store.lease(due, time.time() + 60)
    assert {row.attempts for row in rows} == {0} and {row.last for row in rows} == {None}


async def test_a_relay_that_stops_without_its_queue_stops_all_the_same(
    door: Door, monkeypatch: pytest.MonkeyPatch
) -> None:
    await door.full("d.test")

    async def away(change: Change) -> None:
        raise QueueUnavailable("the disk is gone")

    with monkeypatch.context() as patched:
        patched.setattr(door.store, "apply", away)
        await asyncio.wait_for(door.house.dispatcher.stop(0.05), 5)
    assert await door.store.free(door.store.owner, time.time()) > 0, "their leases are for the supervisor to free"


async def test_what_has_waited_for_too_long_goes_back_to_the_queue(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    gate = await door.full("d.test")
    await door.put("r@d.test")
    door.lines._wait = 0.0
    door.house.dispatcher._wake.set()

    async def is_due() -> bool:
        return bool(await door.unleased())

    await door.house.until(is_due)
    assert "d.test" not in door.lines and not door.order("r")
    gate.set()
    await door.house.counts()
    assert door.order("r") == ["r@d.test"]


async def test_what_was_held_meanwhile_stays_held_once_it_is_back(door: Door) -> None:
    await door.full("d.test")
    stored = await door.put("r@d.test")
    waiting = door.lines._lines["d.test"].messages[-1]
    assert waiting.stored is stored
    held = [(each.key, {"state": "held", "next_attempt": time.time()}) for each in waiting.deliveries]
    await door.store.apply(Change(updated=held))  # type: ignore[arg-type]
    door.lines._wait = 0.0
    door.house.dispatcher._wake.set()
    await door.house.until(lambda: "d.test" not in door.lines)
    assert (await door.store.counts())["held"] == 1


@pytest.mark.parametrize("command", ["hold", "drop"])
async def test_a_queue_command_reaches_what_waits_in_memory(door: Door, command: str) -> None:
    gate = await door.full("d.test")
    ids = [(await door.put(f"r{n}@d.test")).id for n in range(5)]
    selectors = [Selector(number) for number in ids[:3]]
    if command == "hold":
        assert await admin.hold(door.store._database, selectors) == 3
    else:
        assert await admin.drop(door.store._database, selectors) == 3
    await door.house.until(lambda: len([m for m in door.lines.all() if m.stored.id in ids]) == 2)
    gate.set()
    await door.house.counts(**({"held": 3} if command == "hold" else {}))
    assert door.order("r") == ["r3@d.test", "r4@d.test"]
    assert door.lines._total == 0
    if command == "hold":
        assert await admin.release(door.store._database, selectors, time.time(), RetrySchedule()) == 3
        await door.house.counts()
        assert sorted(door.order("r")) == [f"r{n}@d.test" for n in range(5)]


async def test_what_is_stored_late_is_found_behind_what_came_later(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    gate = door.hops.gates["tarpit.test"] = asyncio.Event()
    for n in range(6):
        await door.put(f"x{n}@tarpit.test")
    apply, hold, storing = door.store.apply, asyncio.Event(), asyncio.Event()

    async def slowly(change: Change) -> None:
        if change.deliveries and change.deliveries[0].recipient == "late@tarpit.test":
            storing.set()
            await hold.wait()
        await apply(change)

    monkeypatch.setattr(door.store, "apply", slowly)
    putting = asyncio.create_task(door.put("late@tarpit.test"))
    await storing.wait()
    gate.set()
    await door.store.apply(door.house.arrival("other@e.test"))
    await door.house.until(lambda: "other@e.test" in door.hops.recipients())
    await door.house.until(lambda: not door.house.dispatcher._rooms.waiting._deferred_up_to)
    hold.set()
    await putting
    await door.house.counts()
    assert "late@tarpit.test" in door.hops.recipients()


async def test_what_was_leased_when_the_relay_stops_is_left_to_others(
    door: Door, monkeypatch: pytest.MonkeyPatch
) -> None:
    lease, leased, go = door.store.lease, asyncio.Event(), asyncio.Event()

    async def slowly(wanted: Sequence[Due], until: float) -> list[Delivery]:
        found = await lease(wanted, until)
        leased.set()
        await go.wait()
        return found

    monkeypatch.setattr(door.store, "lease", slowly)
    await door.store.apply(door.house.arrival("r@d.test"))
    await leased.wait()
    await door.house.dispatcher.stop(0.05)
    go.set()
    await asyncio.sleep(0.1)
    assert not door.house.dispatcher._running and not door.hops.jobs


async def test_a_message_whose_lease_was_lost_while_it_waited_is_not_attempted_by_two(door: Door) -> None:
    """The process was stopped for longer than its leases last."""
    gate = await door.full("d.test")
    await door.put("r@d.test")
    await door.store.free(door.store.owner, time.time())
    taken: list[Delivery] = await door.store.lease(await door.unleased(), time.time() + 60)
    assert [each for each in taken if each.recipient == "r@d.test"]
    line = door.lines._lines["d.test"].messages
    line[0] = line[0]._replace(since=time.time() - 120)
    gate.set()
    await door.house.until(lambda: "d.test" not in door.lines)
    await door.house.until(lambda: not door.house.dispatcher._running)
    assert not door.order("r"), "another worker attempts it"
    mine = [each for each in taken if each.recipient == "r@d.test"]
    await door.store.renew([each.key for each in mine], time.time() + 90)
    assert await door.unleased() == [], "and keeps its lease"


async def test_a_message_that_could_not_be_stored_waits_nowhere(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    await door.full("d.test")
    waiting = len(door.lines._lines["d.test"].messages)

    async def away(change: Change) -> None:
        raise QueueUnavailable("the disk is gone")

    with monkeypatch.context() as patched, pytest.raises(QueueUnavailable):
        patched.setattr(door.store, "apply", away)
        await door.put("r@d.test")
    assert len(door.lines._lines["d.test"].messages) == waiting
    assert not door.house.dispatcher._new._decisions
    assert door.lines._total == sum(each.octets for each in door.lines._lines["d.test"].messages)


async def test_messages_that_are_stored_at_the_same_time_do_not_take_the_same_memory(
    door: Door, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = await door.full("d.test")
    apply, hold = door.store.apply, asyncio.Event()

    async def slowly(change: Change) -> None:
        if change.arrived:
            await hold.wait()
        await apply(change)

    monkeypatch.setattr(door.store, "apply", slowly)
    putting = [asyncio.create_task(door.put(f"r{n}@d.test", body=b"x" * 200_000)) for n in range(20)]
    await asyncio.sleep(0.1)
    hold.set()
    await asyncio.gather(*putting)
    waiting = door.lines._lines["d.test"].messages
    assert len(waiting) > 1 and sum(each.octets for each in waiting) <= 2 * 10**7 // 32
    gate.set()
    await door.house.counts()
    assert len(door.order("r")) == 20 and door.lines._total == 0 and not door.lines._reserved


async def test_an_error_leaves_no_lease_that_is_renewed_for_ever(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    async def broken(message_ids: Sequence[int]) -> dict[int, StoredMessage]:
        raise ValueError("a bug")

    monkeypatch.setattr(door.store, "load_small", broken)
    for n in range(3):
        await door.store.apply(door.house.arrival(f"r{n}@d.test"))
    lease, leased = door.store.lease, asyncio.Event()

    async def noted(wanted: Sequence[Due], until: float) -> list[Delivery]:
        found = await lease(wanted, until)
        leased.set()
        return found

    monkeypatch.setattr(door.store, "lease", noted)
    await asyncio.wait_for(leased.wait(), 5)
    await asyncio.sleep(0.05)
    assert not door.house.dispatcher._leases._held


async def test_a_place_that_falls_free_while_a_message_is_stored_is_taken(
    door: Door, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = await door.full("d.test")
    apply, hold, storing = door.store.apply, asyncio.Event(), asyncio.Event()

    async def slowly(change: Change) -> None:
        if change.arrived:
            storing.set()
            await hold.wait()
        await apply(change)

    monkeypatch.setattr(door.store, "apply", slowly)
    putting = asyncio.create_task(door.put("r@d.test"))
    await storing.wait()
    gate.set()
    await door.house.until(lambda: not door.house.dispatcher._running)
    hold.set()
    await putting
    assert "d.test" not in door.lines
    await door.house.counts()
    assert door.order("r") == ["r@d.test"]


async def test_what_waits_in_memory_goes_before_what_is_offered_in_a_session(door: Door) -> None:
    gate = await door.full("d.test")
    change = door.house.arrival("offered@d.test")
    door.house.dispatcher._hops._hops["d.test"].active -= 1  # a place has just fallen free
    assert door.house.dispatcher.offer(change.arrived[0], change.deliveries[0]) is None
    door.house.dispatcher._hops._hops["d.test"].active += 1
    gate.set()
    await door.house.counts()


async def test_memory_is_counted_for_each_next_hop_that_a_message_waits_for(door: Door) -> None:
    gates = [await door.full(f"d{n}.test") for n in range(2)]
    before = {hop: len(line.messages) for hop, line in door.lines._lines.items()}
    large = b"x" * 400_000
    for hop in ("d0.test", "d1.test"):
        assert door.lines.reserve(hop, len(large))
        door.lines.free(hop, len(large))
    await door.put("r@d0.test", "r@d1.test", body=large)
    after = {hop: len(line.messages) for hop, line in door.lines._lines.items()}
    assert sum(after.values()) == sum(before.values()) + 1
    for gate in gates:
        gate.set()
    await door.house.counts()
    assert len(door.order("r")) == 2


async def test_a_next_hop_whose_table_is_known_later_waits_in_the_queue_from_then_on(tmp_path: Path) -> None:
    async with running(
        tmp_path, workers=1, concurrency=2, destinations=[entry("mx:*.big.test", concurrency=1)]
    ) as host:
        (house,), (table,) = host.workers, host.config.destinations
        with pytest.MonkeyPatch.context() as monkeypatch:
            door = Door(house, monkeypatch)
            gate = await door.full("d.test")
            await door.put("r@d.test")
            house.dispatcher._limits.note("d.test", table)
            house.hops.by_mx["d.test"] = table
            house.dispatcher._wake.set()
            await house.until(lambda: "d.test" not in door.lines)
            await door.put("s@d.test")
            assert "d.test" not in door.lines and len(await door.unleased()) >= 2
            gate.set()
            await house.counts()
            assert sorted(door.order("r") + door.order("s")) == ["r@d.test", "s@d.test"]


async def test_what_has_no_room_at_all_goes_before_what_waits_in_memory(door: Door) -> None:
    gate = await door.full("d.test")
    await door.put("r@d.test")
    rooms, waiting = door.house.dispatcher._rooms, len(door.lines._lines["d.test"].messages)
    rooms.starved = True
    door.house.dispatcher._hops._all._young_places += 5
    assert rooms.has_place("d.test", time.time())
    door.house.dispatcher._new.look()
    assert len(door.lines._lines["d.test"].messages) == waiting
    rooms.starved = False
    gate.set()
    await door.house.counts()
    assert door.order("r") == ["r@d.test"]


async def test_what_waits_in_memory_begins_as_soon_as_nothing_goes_before_it(
    door: Door, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dispatcher, "IDLE", 3600.0)
    gate = await door.full("d.test")
    await door.put("r@d.test")
    door.house.dispatcher._rooms.starved = True
    gate.set()
    await door.house.counts()
    assert door.order("r") == ["r@d.test"]


async def test_what_waits_in_memory_begins_as_soon_as_memory_falls_free(
    door: Door, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dispatcher, "IDLE", 3600.0)
    gate = await door.full("d.test")
    for n in range(5):
        await door.put(f"r{n}@d.test", body=b"x" * 30_000)
    door.house.dispatcher._underway._memory = 20_000  # one of them at a time
    gate.set()
    await door.house.counts()
    assert door.order("r") == [f"r{n}@d.test" for n in range(5)]


async def test_an_offer_without_room_waits_in_memory_instead(tmp_path: Path) -> None:
    async with desk_of(tmp_path) as desk:
        await desk.acquaint("d.test")
        gate = desk.hold("d.test")
        lines = desk.house.dispatcher._lines
        sessions: list[asyncio.Task[bool]] = []
        while "d.test" not in lines:
            sessions.append(asyncio.create_task(desk.hand_over(f"a{len(sessions)}@d.test")))
            await asyncio.sleep(0.02)
        assert "d.test" not in desk.house.dispatcher._rooms.waiting
        gate.set()
        assert sorted(await asyncio.gather(*sessions))[:2] == [False, True], "one was queued, the others were taken"
        await desk.house.counts()
        assert await desk.hand_over("b@d.test")
