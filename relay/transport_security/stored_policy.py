"""An MTA-STS policy as the queue's database keeps it, and what the database does for those who look one up."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class StoredPolicy:
    """A policy that was fetched.

    Attributes:
        domain: in A-labels.
        policy_id: of the record at that time.
        policy: its text, as it came.
        fetched: Unix time.
        expires: Unix time from which it no longer holds.
        refresh: Unix time from which it is fetched again, whether or not the record changes.
        used: Unix time at which mail went to the domain, exact to a day.
    """

    domain: str
    policy_id: str
    policy: str
    fetched: float
    expires: float
    refresh: float
    used: float


class PolicyStore(Protocol):
    """Keeps policies. It never raises for a database that is away, but says so in the log: policies are a cache."""

    async def policy_of(self, domain: str) -> StoredPolicy | None:
        """The stored policy of a domain, expired or not."""
        ...

    async def keep_policy(self, policy: StoredPolicy) -> None:
        """Store a policy in the place of the one before."""
        ...

    async def policy_used(self, domain: str, now: float) -> None:
        """Note that mail goes to a domain."""
        ...

    async def policies_to_refresh(
        self, now: float, unused_since: float, again: float, limit: int
    ) -> list[StoredPolicy]:
        """Up to `limit` policies that still hold and are to be fetched again; no other worker gets them before `again`.

        Args:
            unused_since: a policy that was last used before this is left to expire.
        """
        ...
