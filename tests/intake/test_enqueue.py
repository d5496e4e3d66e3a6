"""From the intake into a real queue, and at once to the dispatcher where there is room."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import cast

import pytest
from structlog.testing import capture_logs

from relay.bounce.notifier import Notice
from relay.deliver.dispatcher import Dispatcher
from relay.intake.enqueue import Enqueuer
from relay.mail.message import Message
from relay.mail.queue_id import QueueIds, id_text
from relay.metrics import Metrics
from relay.queue.connect import connect
from relay.queue.database import QueueUnavailable
from relay.queue.store import Change, Delivery, Store, StoredMessage
from relay.queue.stored_verdict import OWN_MESSAGE, StoredVerdict

IDS = QueueIds(time.time)


class NotingDispatcher:
    """Leases where it has room, and notes what it takes."""

    def __init__(self) -> None:
        self.has_room = True
        self.asked: list[tuple[Sequence[Delivery], int]] = []
        self.taken: list[tuple[StoredMessage, Sequence[Delivery]]] = []
        self.left: list[int] = []

    def lease_at_once(self, deliveries: Sequence[Delivery], octets: int) -> list[Delivery]:
        self.asked.append((deliveries, octets))
        leases = [replace(d, lease_owner="worker/1/", lease_token=5, next_attempt=9e9) for d in deliveries]
        return leases if self.has_room else []

    def take(self, stored: StoredMessage, deliveries: Sequence[Delivery]) -> None:
        self.taken.append((stored, deliveries))

    def leave(self, message_id: int) -> None:
        self.left.append(message_id)


def enqueuer(store: Store, dispatcher: NotingDispatcher) -> Enqueuer:
    return Enqueuer(store, cast(Dispatcher, dispatcher), Metrics(), lambda: False)


def message(verdict: StoredVerdict | None = None) -> StoredMessage:
    content = Message(b"Subject: x\r\n\r\nHi.\r\n")
    return StoredMessage(IDS.new(), time.time(), "joe@origin.test", b"", content, verdict or StoredVerdict())


def delivery(stored: StoredMessage, n: int, **more: object) -> Delivery:
    return replace(Delivery(stored.id, n, f"r{n}@d.test", f"r{n}@d.test", "d.test"), **more)  # type: ignore[arg-type]


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    store = Store(await connect(f"sqlite:///{tmp_path}/queue.db"), "worker/1/")
    yield store
    await store.close()


async def test_a_message_is_stored_under_its_lease_before_it_is_attempted(store: Store) -> None:
    dispatcher, stored = NotingDispatcher(), message()
    deliveries = [delivery(stored, 0), delivery(stored, 1)]
    await enqueuer(store, dispatcher).put(stored, deliveries, Notice())
    assert await store.counts() == {"queued": 2}
    assert await store.due(time.time() + 60, 10) == [], "another worker must not attempt it, too"
    ((taken, leased),) = dispatcher.taken
    assert taken is stored and {one.lease_token for one in leased} == {5}
    assert dispatcher.asked == [(deliveries, len(stored.message.content))]
    await store.apply(Change(finished=[one.key for one in leased]))
    assert await store.counts() == {}


async def test_without_room_the_queue_has_it_and_it_is_due(store: Store) -> None:
    dispatcher, stored = NotingDispatcher(), message()
    dispatcher.has_room = False
    await enqueuer(store, dispatcher).put(stored, [delivery(stored, 0)], Notice())
    assert [due.message_id for due in await store.due(time.time(), 10)] == [stored.id]
    assert dispatcher.taken == []


async def test_a_dead_delivery_is_stored_and_never_attempted(store: Store) -> None:
    dispatcher, stored = NotingDispatcher(), message()
    live, dead = delivery(stored, 0), delivery(stored, 1, state="dead")
    with capture_logs() as lines:
        await enqueuer(store, dispatcher).put(stored, [dead, live], Notice())
    assert await store.counts() == {"queued": 1, "dead": 1}
    assert [one.recipient for _, taken in dispatcher.taken for one in taken] == ["r0@d.test"]
    assert [sorted(line["to"]) for line in lines] == [["r0@d.test", "r1@d.test"]]


async def test_a_notice_is_stored_in_the_same_transaction(store: Store) -> None:
    dispatcher, stored, report = NotingDispatcher(), message(), message(OWN_MESSAGE)
    notice = Notice(report, (delivery(report, 0, recipient="joe@origin.test"),))
    with capture_logs() as lines:
        await enqueuer(store, dispatcher).put(stored, [delivery(stored, 0)], notice)
    assert [(line["event"], line["id"], line["to"]) for line in lines] == [
        ("queued", id_text(stored.id), ["r0@d.test"]),
        ("queued", id_text(report.id), ["joe@origin.test"]),
    ]
    assert await store.load(report.id) is not None
    assert [due.message_id for due in await store.due(time.time(), 10)] == [report.id]


async def test_what_could_not_be_stored_is_neither_logged_nor_attempted(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def away(change: Change) -> None:
        raise QueueUnavailable("the disk is gone")

    monkeypatch.setattr(store, "apply", away)
    dispatcher, stored = NotingDispatcher(), message()
    with capture_logs() as lines, pytest.raises(QueueUnavailable):
        await enqueuer(store, dispatcher).put(stored, [delivery(stored, 0)], Notice())
    assert dispatcher.taken == [] and lines == []
    assert dispatcher.left == [stored.id]
