"""Where due deliveries go by the configuration of now, whatever it was when they were stored.

A stored key (`queue.hop_keys`) that has become wrong is replaced in the queue before its delivery takes a place or
shares an outcome. A domain says by itself where it goes now. The URL of a configured next hop does not say whose mail
it is: the recipients of such deliveries are read. What was stored after this worker began has the right key already. So
only older deliveries that are due cost anything, a page of them at a time.
"""

from __future__ import annotations

from collections.abc import Sequence

from relay.deliver.next_hop import NextHops
from relay.mail.queue_id import given_at
from relay.queue.hop_keys import is_doubtful_hop, is_own_hop, is_url, shown_hop
from relay.queue.store import Due, Store

OVERLAP = 30.0  # seconds for which workers with the configuration before may still store deliveries


class CurrentHops:
    """The current keys of due deliveries.

    Args:
        since: when the configuration was read, in seconds since 1970.
    """

    def __init__(self, store: Store, next_hops: NextHops, since: float) -> None:
        self._store = store
        self._next_hops = next_hops
        self._new_from = since + OVERLAP

    async def of(self, page: Sequence[Due]) -> list[Due]:
        """The deliveries with their keys of now. Where a key has changed, it is changed in the queue as well.

        Raises:
            QueueUnavailable
        """
        old = {(due.message_id, due.n) for due in page if given_at(due.message_id) < self._new_from}
        if not old:
            return list(page)
        by_recipient = [due for due in page if is_url(due.hop) and (due.message_id, due.n) in old]
        recipients = await self._store.recipients(by_recipient)
        current: list[Due] = []
        changed: list[Due] = []
        by_domain: dict[str, str] = {}
        for due in page:
            key = due.message_id, due.n
            if key in recipients:
                hop = self._key(recipients[key], due.hop)
            elif is_url(due.hop) or key not in old:
                hop = due.hop
            else:
                hop = by_domain.get(due.hop) or self._key(f"x@{shown_hop(due.hop)}", due.hop)
                by_domain[due.hop] = hop
            if hop != due.hop:
                due = due._replace(hop=hop)
                changed.append(due)
            current.append(due)
        await self._store.rekey(changed)
        return current

    def _key(self, recipient: str, stored: str) -> str:
        return self._next_hops.key(recipient, own=is_own_hop(stored), doubtful=is_doubtful_hop(stored))
