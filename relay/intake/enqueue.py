"""Puts accepted messages into the queue, and hands those that can leave at once to the dispatcher."""

from __future__ import annotations

from collections.abc import Sequence

from relay.bounce.notifier import Notice
from relay.deliver.dispatcher import Dispatcher
from relay.deliver.outcome_log import log_queued
from relay.queue.store import Change, Delivery, Store, StoredMessage


class Enqueuer:
    """The way into the queue for one worker."""

    def __init__(self, store: Store, dispatcher: Dispatcher) -> None:
        self._store = store
        self._dispatcher = dispatcher

    async def put(self, stored: StoredMessage, deliveries: Sequence[Delivery], notice: Notice) -> None:
        """Make a message safe; attempt it at once where there is room, otherwise leave it to the queue.

        Raises:
            QueueUnavailable: nothing of it is stored.
        """
        reports = [notice.report] if notice.report is not None else []
        live = [delivery for delivery in deliveries if delivery.state == "queued"]
        dead = [delivery for delivery in deliveries if delivery.state == "dead"]
        leased = self._dispatcher.lease_at_once(live, len(stored.message.content))
        live = leased or live
        try:
            await self._store.apply(Change(arrived=[stored, *reports], deliveries=[*live, *dead, *notice.deliveries]))
        except BaseException:
            self._dispatcher.leave(stored.id)
            raise
        log_queued(stored, [*live, *dead])
        for report in reports:
            log_queued(report, notice.deliveries)
        if leased:
            self._dispatcher.take(stored, leased)
