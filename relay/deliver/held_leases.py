"""The leases that one worker holds on deliveries, renewed while their attempts last."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Sequence

import structlog

from relay.queue.database import QueueUnavailable
from relay.queue.store import Delivery, Due, Store

log = structlog.get_logger()


class HeldLeases:
    """Leases, renewed until they are let go.

    Args:
        seconds: how long one lasts without that.
    """

    def __init__(self, store: Store, seconds: float) -> None:
        self._store = store
        self._seconds = seconds
        self._held: dict[tuple[int, int], Delivery] = {}

    async def lease(self, wanted: Sequence[Due]) -> list[Delivery]:
        """Lease deliveries; those that another worker took, or that changed since, are left out.

        Raises:
            QueueUnavailable
        """
        leased = await self._store.lease(wanted, time.time() + self._seconds)
        self.hold(leased)
        return leased

    def hold(self, deliveries: Iterable[Delivery]) -> None:
        """Renew the leases of these deliveries from now on."""
        for delivery in deliveries:
            self._held[delivery.message_id, delivery.n] = delivery

    def let_go(self, deliveries: Iterable[Delivery]) -> None:
        """Renew these leases no more. The lease of a delivery that was not settled runs out, and it is due again."""
        for delivery in deliveries:
            self._held.pop((delivery.message_id, delivery.n), None)

    async def renew(self) -> None:
        """Renew all leases that are held, until cancelled."""
        while True:
            await asyncio.sleep(self._seconds / 3)
            try:
                keys = [delivery.key for delivery in self._held.values()]
                await self._store.renew(keys, time.time() + self._seconds)
            except QueueUnavailable as error:
                log.error("lease_renewal_failed", problem=str(error))
