"""The MTA-STS policies that one worker has read from the database lately, so that not every message reads them anew."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from relay.transport_security.mta_sts_policy import Policy
from relay.transport_security.stored_policy import StoredPolicy

LIFETIME = 60.0  # seconds after which the database is read again: another worker may have fetched another policy
ENTRIES = 10_000
OCTETS = 4 * 2**20  # of the texts of all policies; in memory a policy takes up to eight times its text


@dataclass(frozen=True, slots=True)
class HeldPolicy:
    """A stored policy, and what it says."""

    stored: StoredPolicy
    policy: Policy


class PolicyMemory:
    """The policies of domains, and of which domains none is stored. What was used longest ago is dropped.

    Args:
        clock: monotonic seconds.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._entries: OrderedDict[str, tuple[float, HeldPolicy | None]] = OrderedDict()
        self._octets = 0

    def has(self, domain: str) -> bool:
        """Whether `get` knows what the database says of a domain."""
        entry = self._entries.get(domain)
        return entry is not None and entry[0] > self._clock()

    def get(self, domain: str) -> HeldPolicy | None:
        """The policy of a domain; None where none is stored."""
        entry = self._entries.get(domain)
        if entry is None:
            return None
        self._entries.move_to_end(domain)
        return entry[1]

    def put(self, domain: str, held: HeldPolicy | None) -> None:
        """Remember what is stored for a domain."""
        self._drop(domain)
        self._entries[domain] = self._clock() + LIFETIME, held
        self._octets += _octets(held)
        while len(self._entries) > ENTRIES or self._octets > OCTETS:
            self._drop(next(iter(self._entries)))

    def _drop(self, domain: str) -> None:
        _, held = self._entries.pop(domain, (0.0, None))
        self._octets -= _octets(held)


def _octets(held: HeldPolicy | None) -> int:
    return len(held.stored.policy) if held is not None else 0
