"""Outcomes in a queue that goes away, that is damaged, or whose relay stops."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from relay.bounce.notifier import Notifier
from relay.deliver import recorder as recorder_module
from relay.deliver.recorder import Recorder
from relay.deliver.settlement import Result
from relay.mail.message import Message
from relay.mail.outcome import Outcome
from relay.mail.queue_id import QueueIds
from relay.metrics import Metrics
from relay.queue.connect import connect
from relay.queue.database import QueueUnavailable
from relay.queue.retry_schedule import RetrySchedule
from relay.queue.store import Change, Damaged, Delivery, Store, StoredMessage
from relay.queue.stored_verdict import StoredVerdict
from relay.rate import TokenBuckets
from relay.route.router import Target

JOE = "joe@origin.test"
DELIVERED = Outcome("delivered", 250, "2.0.0", "Ok", remote=True)
DEFERRED = Outcome("deferred", 451, "4.3.0", "later", remote=True)
FAILED = Outcome("failed", 550, "5.1.1", "no such user", remote=True)
UNREACHABLE = Outcome("deferred", 451, "4.4.1", "connection refused", unreachable=True)
PATIENCE = RetrySchedule(first=100.0, longest=100.0)


class FailingStore(Store):
    """A queue that does not answer as often as it is told.

    Attributes:
        away: how many more calls fail.
        damaged: the messages that are not whole.
        loaded: the messages that were read.
    """

    away = 0
    damaged: frozenset[int] = frozenset()
    loaded: list[int]

    async def apply(self, change: Change) -> None:
        self._fail()
        await super().apply(change)

    async def load(self, message_id: int) -> StoredMessage | None:
        self._fail()
        self.loaded.append(message_id)
        if message_id in self.damaged:
            raise Damaged("content is missing from octet 3 on")
        return await super().load(message_id)

    def _fail(self) -> None:
        if self.away:
            self.away -= 1
            raise QueueUnavailable("the disk is gone")


class Told:
    """Notes what recording has led to."""

    def __init__(self) -> None:
        self.calls: list[str] = []

    def notification_queued(self) -> None:
        self.calls.append("notification_queued")

    def recorded_late(self) -> None:
        self.calls.append("recorded_late")


class House:
    def __init__(self, store: FailingStore) -> None:
        self.store, self.told, self.metrics = store, Told(), Metrics()
        self.ids = QueueIds(time.time)
        self.home: Sequence[Target] = (Target(JOE),)
        self.asked: list[str] = []
        notifier = Notifier("mx.test", "fwd.test", PATIENCE, self.ids, lambda to: "!" + to, TokenBuckets(1, 10))
        self.recorder = Recorder(store, notifier, PATIENCE, self.targets_of_sender, self.metrics)

    async def targets_of_sender(self, sender: str) -> Sequence[Target]:
        self.asked.append(sender)
        return self.home

    async def leased(
        self, count: int = 1, *, age: float = 0.0, hop: str = "d.test", **more: Any
    ) -> tuple[StoredMessage, list[Delivery]]:
        """A message in the queue, with its leased deliveries."""
        received = time.time() - age
        number = QueueIds(lambda: received).new()
        content = Message(b"From: joe@origin.test\r\nSubject: hello\r\n\r\nHi.\r\n")
        stored = StoredMessage(number, received, JOE, b"", content, StoredVerdict(spf="pass"))
        expires = PATIENCE.expires(received, JOE)
        deliveries = [
            Delivery(number, n, f"r{n}@d.test", f"r{n}@d.test", hop, next_attempt=received, expires=expires, **more)
            for n in range(count)
        ]
        await self.store.apply(Change(arrived=[stored], deliveries=deliveries))
        due = [one for one in await self.store.due(time.time(), 100) if one.message_id == number]
        return stored, await self.store.lease(due, time.time() + 600)

    async def queued(self) -> list[Delivery]:
        """The deliveries that are in the queue, as a worker leases them."""
        due = await self.store.due(time.time() + 1e7, 1000)
        return await self.store.lease(due, time.time() + 2e7)


@pytest.fixture
async def house(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[House]:
    monkeypatch.setattr(recorder_module, "RETRY", 0.005)
    store = FailingStore(await connect(f"sqlite:///{tmp_path}/queue.db"), "worker/1/")
    store.loaded = []
    yield House(store)
    store.away = 0
    await store.close()


async def test_a_delivery_that_is_over_leaves_the_queue(house: House) -> None:
    stored, deliveries = await house.leased()
    with capture_logs() as lines:
        await house.recorder.settle(stored, [Result(deliveries[0], DELIVERED)], house.told)
    assert await house.store.counts() == {}
    assert [line["event"] for line in lines] == ["delivered"]
    assert house.told.calls == [] and house.asked == []


async def test_a_bounce_enters_the_queue_and_the_dispatcher_is_told_of_it(house: House) -> None:
    stored, deliveries = await house.leased()
    with capture_logs() as lines:
        await house.recorder.settle(stored, [Result(deliveries[0], FAILED)], house.told)
    assert house.told.calls == ["notification_queued"] and house.asked == [JOE]
    assert [line["event"] for line in lines] == ["queued", "bounced"]
    assert lines[0]["id"] == lines[1]["report"] and lines[0]["to"] == [JOE]
    assert [delivery.recipient for delivery in await house.queued()] == [JOE]


async def test_a_failure_is_dead_where_the_senders_mail_would_be_refused(house: House) -> None:
    house.home = ()
    stored, deliveries = await house.leased()
    await house.recorder.settle(stored, [Result(deliveries[0], FAILED)], house.told)
    assert await house.store.counts() == {"dead": 1}


async def test_nothing_to_record_asks_nobody(house: House) -> None:
    stored, _ = await house.leased()
    house.store.away = 1
    await house.recorder.settle(stored, [], house.told)
    assert house.store.away == 1 and house.told.calls == []


async def test_an_outcome_waits_for_the_queue_and_the_dispatcher_hears_that_it_is_late(house: House) -> None:
    stored, deliveries = await house.leased()
    house.store.away = 3
    with capture_logs() as lines:
        await house.recorder.settle(stored, [Result(deliveries[0], DEFERRED)], house.told)
    assert [line["event"] for line in lines] == ["queue_unavailable"] * 3 + ["deferred"]
    assert lines[0]["problem"] == "the disk is gone"
    assert house.told.calls == ["recorded_late"]
    (delivery,) = await house.queued()
    assert delivery.attempts == 1


async def test_a_relay_that_stops_gives_up_on_what_cannot_be_recorded(house: House) -> None:
    stored, deliveries = await house.leased()
    house.store.away = 10**6
    recording = asyncio.create_task(house.recorder.settle(stored, [Result(deliveries[0], DELIVERED)], house.told))
    async with asyncio.timeout(10):
        while house.store.away > 10**6 - 2:
            await asyncio.sleep(0.001)
        assert not recording.done()
        house.recorder.stop()
        with pytest.raises(QueueUnavailable):
            await recording
    assert house.told.calls == []
    house.store.away = 0
    assert await house.store.counts() == {"queued": 1}


async def test_a_relay_that_stops_still_records_what_it_can(house: House) -> None:
    stored, deliveries = await house.leased()
    house.recorder.stop()
    await house.recorder.settle(stored, [Result(deliveries[0], DELIVERED)], house.told)
    assert await house.store.counts() == {}


# loading


async def test_a_message_is_loaded_whole(house: House) -> None:
    stored, deliveries = await house.leased()
    found = await house.recorder.load(stored.id, deliveries)
    assert found is not None and found.message.content == stored.message.content


async def test_a_message_that_is_gone_is_none(house: House) -> None:
    assert await house.recorder.load(12345, []) is None


async def test_a_message_that_cannot_be_read_now_is_none_and_stays_in_the_queue(house: House) -> None:
    stored, deliveries = await house.leased()
    house.store.away = 1
    with capture_logs() as lines:
        assert await house.recorder.load(stored.id, deliveries) is None
    assert [line["event"] for line in lines] == ["message_unreadable"]
    assert await house.store.counts() == {"queued": 1}


async def test_a_damaged_message_is_a_dead_letter_that_says_why(house: House) -> None:
    stored, deliveries = await house.leased(2)
    house.store.damaged = frozenset({stored.id})
    with capture_logs() as lines:
        assert await house.recorder.load(stored.id, deliveries) is None
    assert [(line["event"], line["problem"]) for line in lines] == [
        ("message_damaged", "content is missing from octet 3 on")
    ]
    assert await house.store.counts() == {"dead": 2}


async def test_the_content_for_a_notification_comes_from_the_queue_as_soon_as_that_answers(house: House) -> None:
    stored, _ = await house.leased()
    house.store.away = 2
    freed = StoredMessage(stored.id, stored.received, JOE, b"", Message(b""), stored.verdict)
    whole = await house.recorder.whole(freed, house.told)
    assert whole.message.content == stored.message.content
    assert house.told.calls == ["recorded_late"]


@pytest.mark.parametrize("damaged", [True, False])
async def test_without_its_content_a_message_is_notified_of_all_the_same(house: House, damaged: bool) -> None:
    freed = StoredMessage(77, time.time(), JOE, b"", Message(b""), StoredVerdict(spf="pass"))
    house.store.damaged = frozenset({77} if damaged else ())
    assert await house.recorder.whole(freed, house.told) is freed


# deliveries that share another's outcome


async def test_deliveries_that_wait_for_a_dead_next_hop_are_deferred_without_reading_their_messages(
    house: House,
) -> None:
    _, deliveries = await house.leased(2)
    with capture_logs() as lines:
        await house.recorder.share_outcome(deliveries, UNREACHABLE, house.told)
    assert [line["event"] for line in lines] == ["deferred", "deferred"]
    assert house.store.loaded == [] and house.asked == [] and house.told.calls == []
    found = await house.queued()
    assert {delivery.attempts for delivery in found} == {1}
    assert {delivery.last["text"] for delivery in found if delivery.last is not None} == {
        "delivery temporarily suspended: connection refused"
    }


async def test_only_the_message_whose_sender_has_to_be_told_is_read(house: House) -> None:
    _, young = await house.leased(2)
    expired, old = await house.leased(2, age=PATIENCE.retry_for + 60)
    await house.recorder.share_outcome([*young, *old], UNREACHABLE, house.told)
    assert house.store.loaded == [expired.id]
    assert house.told.calls == ["notification_queued"]
    found = await house.queued()
    assert sorted(delivery.recipient for delivery in found if delivery.recipient == JOE) == [JOE]
    assert await house.store.counts() == {"queued": 3}


async def test_a_suspended_delivery_whose_warning_is_due_is_warned_of(house: House) -> None:
    _, deliveries = await house.leased(1, age=PATIENCE.warn_after + 60, notify="DELAY")
    await house.recorder.share_outcome(deliveries, UNREACHABLE, house.told)
    assert house.told.calls == ["notification_queued"]
    by_recipient = {delivery.recipient: delivery for delivery in await house.queued()}
    assert by_recipient["r0@d.test"].warned and JOE in by_recipient


async def test_a_suspended_delivery_whose_message_is_damaged_is_dead(house: House) -> None:
    stored, old = await house.leased(1, age=PATIENCE.retry_for + 60)
    house.store.damaged = frozenset({stored.id})
    await house.recorder.share_outcome(old, UNREACHABLE, house.told)
    assert await house.store.counts() == {"dead": 1} and house.told.calls == []
