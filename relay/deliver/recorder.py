"""Records the outcomes of attempts in the queue, and waits as long as the queue cannot be written."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from functools import partial
from typing import Protocol, TypeVar

import structlog

from relay.bounce.notifier import Notifier
from relay.deliver.outcome_log import log_outcome, log_queued
from relay.deliver.settlement import Result, Settlement, concerns_sender, damaged, defer, needs_sender, settle, shared
from relay.mail.outcome import Outcome
from relay.mail.queue_id import id_text
from relay.metrics import Metrics
from relay.queue.change import DeliveryUpdate
from relay.queue.database import QueueUnavailable
from relay.queue.retry_schedule import RetrySchedule
from relay.queue.store import Change, Damaged, Delivery, Key, Store, StoredMessage
from relay.route.router import TableAway, Target

T = TypeVar("T")

log = structlog.get_logger()

AT_ONCE = 500  # deliveries put back in one transaction, so that it does not hold the event loop
PUT_OFF = 300.0  # seconds until the next attempt, where a table is away that knows where the sender's mail goes
RETRY = 5.0  # seconds between tries to record an outcome in a queue that cannot be written


class Observer(Protocol):
    """Is told what recording has led to (`deliver.dispatcher`)."""

    def notification_queued(self) -> None:
        """A notification has entered the queue, and is due."""

    def recorded_late(self) -> None:
        """An outcome was recorded long after it was known, so that what it deferred may be due already."""


class Recorder:
    """Records outcomes for one worker.

    Args:
        patience: when a deferred delivery is tried again.
        targets_of_sender: where mail for a sender goes; empty where it would be refused. Raises TableAway, while that
            cannot be found out.
    """

    def __init__(
        self,
        store: Store,
        notifier: Notifier,
        patience: RetrySchedule,
        targets_of_sender: Callable[[str], Awaitable[Sequence[Target]]],
        metrics: Metrics,
    ) -> None:
        self._store = store
        self._notifier = notifier
        self._patience = patience
        self._targets_of_sender = targets_of_sender
        self._metrics = metrics
        self._stopping = False

    def stop(self) -> None:
        """Give up on what cannot be recorded: its lease ends, and it is attempted again."""
        self._stopping = True

    async def load(self, message_id: int, deliveries: Sequence[Delivery]) -> StoredMessage | None:
        """A message to attempt; None where it is gone, cannot be read now, or is damaged. The deliveries of a damaged
        message become dead letters."""
        try:
            try:
                return await self._store.load(message_id)
            except Damaged as error:
                log.error("message_damaged", id=id_text(message_id), problem=str(error))
                await self._store.apply(damaged(deliveries, str(error), time.time()))
        except QueueUnavailable as error:
            log.error("message_unreadable", id=id_text(message_id), problem=str(error))
        return None

    async def load_small(self, message_ids: Sequence[int]) -> dict[int, StoredMessage]:
        """Those of these messages that can be read in one go; the others are left to `load`."""
        try:
            return await self._store.load_small(message_ids)
        except QueueUnavailable:
            return {}

    async def whole(self, stored: StoredMessage, observer: Observer) -> StoredMessage:
        """A message with its content again, which a notification returns; as it is where the content is lost.

        Raises:
            QueueUnavailable: the relay stops, and the queue does not answer.
        """
        return await self._patiently(lambda: self._reload(stored), observer)

    async def _reload(self, stored: StoredMessage) -> StoredMessage:
        try:
            return await self._store.load(stored.id) or stored
        except Damaged as error:
            log.error("message_damaged", id=id_text(stored.id), problem=str(error))
            return stored

    async def settle(self, stored: StoredMessage, results: Sequence[Result], observer: Observer) -> None:
        """Record the outcomes of deliveries of one message, and store the notifications that follow.

        Raises:
            QueueUnavailable: the relay stops, and the queue does not answer.
        """
        if not results:
            return
        sender_targets: Sequence[Target] = ()
        if needs_sender(stored, results):
            try:
                sender_targets = await self._patiently(lambda: self._targets_of_sender(stored.sender), observer)
            except TableAway as away:
                results = await self._put_off(stored, results, away, observer)
        settlement = settle(stored, results, self._notifier, self._patience, sender_targets, random.random, time.time())
        await self._record(settlement, observer)

    async def _put_off(
        self, stored: StoredMessage, results: Sequence[Result], away: TableAway, observer: Observer
    ) -> list[Result]:
        """Forget outcomes that the sender may have to hear of, while nobody knows where its mail goes: they come again.

        Returns the others, which are deliveries that were made.
        """
        later = [result.delivery for result in results if result.outcome.status != "delivered"]
        log.warning("outcome_put_off", id=id_text(stored.id), deliveries=len(later), reply=str(away.reply))
        await self.put_all_back([(later, time.time() + PUT_OFF)], observer)
        return [result for result in results if result.outcome.status == "delivered"]

    async def put_back(self, deliveries: Sequence[Delivery], observer: Observer) -> None:
        """End the leases of deliveries that were not tried. They are due, as if nothing had happened.

        Raises:
            QueueUnavailable: the relay stops, and the queue does not answer.
        """
        await self.put_all_back([(deliveries, time.time())], observer)

    async def put_all_back(self, waited: Iterable[tuple[Sequence[Delivery], float]], observer: Observer) -> None:
        """As `put_back`, for deliveries that are due since the time beside them.

        Raises:
            QueueUnavailable: the relay stops, and the queue does not answer.
        """
        updated: list[tuple[Key, DeliveryUpdate]] = [
            (delivery.key, {"next_attempt": since}) for deliveries, since in waited for delivery in deliveries
        ]
        for start in range(0, len(updated), AT_ONCE):
            change = Change(updated=updated[start : start + AT_ONCE], durable=False)
            await self._patiently(partial(self._store.apply, change), observer)

    async def share_outcome(self, deliveries: Sequence[Delivery], outcome: Outcome, observer: Observer) -> None:
        """Defer leased deliveries by the outcome of another's attempt at their next hop."""
        now, outcome = time.time(), shared(outcome)
        quiet: list[Delivery] = []
        by_message: dict[int, list[Result]] = {}
        for delivery in deliveries:
            result = Result(delivery, outcome)
            if concerns_sender(result, self._patience, now):
                by_message.setdefault(delivery.message_id, []).append(result)
            else:
                quiet.append(delivery)
        if quiet:
            await self._record(defer(quiet, outcome, self._patience, random.random, now), observer)
        for message_id, results in by_message.items():
            stored = await self.load(message_id, [result.delivery for result in results])
            if stored is not None:
                await self.settle(stored, results, observer)

    async def _record(self, settlement: Settlement, observer: Observer) -> None:
        await self._patiently(lambda: self._store.apply(settlement.change), observer)
        for report in settlement.change.arrived:
            log_queued(report, settlement.change.deliveries)
            observer.notification_queued()
        now = time.time()
        for event in settlement.events:
            log_outcome(event, self._metrics, now)

    async def _patiently(self, act: Callable[[], Awaitable[T]], observer: Observer) -> T:
        """The result of `act`, as soon as the queue answers.

        Raises:
            QueueUnavailable: the relay stops, and the queue does not answer.
        """
        failed = False
        while True:
            try:
                result = await act()
            except QueueUnavailable as error:
                log.error("queue_unavailable", problem=str(error))
                failed = True
                if self._stopping:
                    raise
            else:
                if failed:
                    observer.recorded_late()
                return result
            await asyncio.sleep(RETRY)
