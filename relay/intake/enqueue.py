"""Hands accepted messages on: to the next hop while the client waits, or into the queue, and from there at once to the
dispatcher where there is room."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from relay.bounce.notifier import Notice
from relay.bounce.reasons import reason
from relay.deliver.dispatcher import Dispatcher
from relay.deliver.in_session import Offer
from relay.deliver.outcome_log import log_queued
from relay.mail.outcome import Outcome
from relay.mail.reply import Refused
from relay.metrics import Metrics
from relay.queue.store import Change, Delivery, Store, StoredMessage
from relay.receive.handler import Gone

REFUSALS = (550, 552, 553, 554, 556)  # codes at the end of DATA that a client gets as its next hop gave them


class Enqueuer:
    """The way of accepted messages out of the intake, for one worker.

    Args:
        memory_is_short: whether so much memory is used for messages that no client is to wait for a next hop.
    """

    def __init__(
        self, store: Store, dispatcher: Dispatcher, metrics: Metrics, memory_is_short: Callable[[], bool]
    ) -> None:
        self._store = store
        self._dispatcher = dispatcher
        self._metrics = metrics
        self._memory_is_short = memory_is_short
        self._keeping: set[asyncio.Task[Outcome | None]] = set()

    async def put(self, stored: StoredMessage, deliveries: Sequence[Delivery], notice: Notice) -> None:
        """Make a message safe; attempt it at once where there is room, otherwise leave it to the queue.

        Raises:
            QueueUnavailable: nothing of it is stored.
        """
        reports = [notice.report] if notice.report is not None else []
        live = [delivery for delivery in deliveries if delivery.state == "queued"]
        others = [delivery for delivery in deliveries if delivery.state != "queued"]
        leased = self._dispatcher.lease_at_once(live, len(stored.message.content)) if live else []
        all_of_it = [*(leased or live), *others]
        try:
            await self._store.apply(Change(arrived=[stored, *reports], deliveries=[*all_of_it, *notice.deliveries]))
        except BaseException:
            self._dispatcher.leave(stored.id)
            raise
        log_queued(stored, all_of_it)
        for report in reports:
            log_queued(report, notice.deliveries)
        if leased:
            self._dispatcher.take(stored, leased)

    async def hand_over(self, stored: StoredMessage, delivery: Delivery, gone: Gone) -> bool:
        """Offer a message to its next hop, where that can be asked now; make it safe where that does not take it.

        Args:
            delivery: the only one that it leads to.

        Returns:
            Whether the next hop has taken it; otherwise it is in the queue.

        Raises:
            Refused: the next hop refuses it for good.
            ClientGone: nobody has it, and the client is gone.
            QueueUnavailable: nobody has it.
        """
        offer = None if self._memory_is_short() else self._dispatcher.offer(stored, delivery)
        if offer is None:
            await self.put(stored, [delivery], Notice())
            return False
        try:
            outcome = await offer.outcome(gone)
        except BaseException:  # the client is gone, or the relay drops its session
            offer.give_up("the session has ended")
            offer.drop()
            self._metrics.in_session.add("withdrawn")
            raise
        if outcome is None:
            outcome = await self._kept(stored, offer)
        if outcome is None:
            self._metrics.in_session.add("queued")
            return False
        offer.drop()
        if outcome.status == "failed":
            self._metrics.in_session.add("refused")
            raise _refusal(outcome, delivery)
        self._metrics.in_session.add("delivered")
        return True

    async def _kept(self, stored: StoredMessage, offer: Offer) -> Outcome | None:
        """As `_keep`, to its end: a session that is dropped now leaves the message to the queue, with the outcome of
        its attempt."""
        keeping = asyncio.create_task(self._keep(stored, offer, self._dispatcher.leased(offer)))
        self._keeping.add(keeping)
        keeping.add_done_callback(self._has_kept)
        return await asyncio.shield(keeping)

    def _has_kept(self, keeping: asyncio.Task[Outcome | None]) -> None:
        self._keeping.discard(keeping)
        if not keeping.cancelled():
            keeping.exception()  # looked at here, for a session that was dropped and does not

    async def _keep(self, stored: StoredMessage, offer: Offer, deliveries: Sequence[Delivery]) -> Outcome | None:
        """Store a message whose attempt is over, or goes on. Returns None, or the outcome that made storing needless
        after it had failed.

        Raises:
            QueueUnavailable: nobody has the message.
        """
        try:
            await self._store.apply(Change(arrived=[stored], deliveries=deliveries))
        except Exception:
            outcome = await offer.abandon("the message could not be stored")
            offer.drop()
            if outcome is None:
                raise
            return outcome
        log_queued(stored, deliveries)
        self._dispatcher.keep(offer)
        return None


def _refusal(outcome: Outcome, delivery: Delivery) -> Refused:
    """What the client hears of a refusal of the next hop: its class and its reason, in our words."""
    code = outcome.code if outcome.code in REFUSALS else 550
    cause = reason(outcome.enhanced, delivery.is_aliased).cause
    return Refused(code, outcome.enhanced, f"the next host has refused the message: {cause}")
