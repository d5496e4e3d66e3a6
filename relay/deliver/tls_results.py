"""Counts how connections to next hops were protected: for the metrics, and for the TLS reports of RFC 8460.

A report counts sessions, so a connection counts once, however many messages it carries. The counts of a minute stay in
memory and are then added to the queue's; kill -9 loses that minute, and no message waits for them.
"""

from __future__ import annotations

import asyncio
import json
import ssl
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate, islice
from typing import Literal, NamedTuple, Protocol

import structlog

from relay.mail.reply import printable
from relay.metrics import Metrics
from relay.queue.database import QueueUnavailable
from relay.queue.tls_results import AT_ONCE, TlsSession

log = structlog.get_logger()

FLUSH_EVERY = 60.0  # seconds
PENDING = 5_000  # kinds of sessions in memory; those beyond are counted without their domain
REASON = 80  # characters of a failure-reason-code
POLICY_TEXT = 4_000  # characters of a policy: what is longer, as a stranger may make it, is cut after a whole line

SUCCESS = "success"

PolicyType = Literal["tlsa", "sts", "no-policy-found"]  # RFC 8460 section 4.2


class Shortfall(NamedTuple):
    """Why TLS is less than a policy asks for.

    Attributes:
        result: the failure type of RFC 8460 section 4.3.
        reason: more about it (failure-reason-code); empty where there is nothing to add.
    """

    result: str
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Published:
    """What the owner of a domain publishes about TLS, as a report names it.

    Attributes:
        domain: of the recipients.
        policy_domain: what published it: the domain, or the TLSA base domain.
        text: the lines of the policy, or its TLSA records.
    """

    type: PolicyType
    domain: str
    policy_domain: str
    text: tuple[str, ...] = ()


class Table(Protocol):
    """Where the counts go (`queue.tls_results`)."""

    async def add(self, counts: dict[TlsSession, int]) -> None:
        """Add sessions, at most `AT_ONCE` kinds. Raises QueueUnavailable."""
        ...


class TlsResults:
    """The counts of one worker.

    Args:
        clock: seconds since 1970.
    """

    def __init__(self, metrics: Metrics, clock: Callable[[], float] = time.time) -> None:
        self._metrics = metrics
        self._clock = clock
        self._pending: dict[TlsSession, int] = {}

    def count(
        self,
        published: Published | None,
        policy: str,
        shortfall: Shortfall | None,
        *,
        mx: str = "",
        address: str = "",
        source: str = "",
    ) -> None:
        """Count a session.

        Args:
            published: None for one that no report is about.
            policy: the name of the policy that held, for the metrics.
            shortfall: None for a success.
            address, source: the IP addresses of the mail host and of ours.
        """
        if shortfall is not None:
            self._metrics.tls_failures.add((policy, shortfall.result))
        if published is None:
            return
        session = TlsSession(
            day=int(self._clock() // 86400),
            domain=published.domain,
            policy=published.type,
            policy_domain=published.policy_domain,
            policy_text=_as_json(published.text),
            mx=mx,
            result=SUCCESS,
        )
        if shortfall is not None:
            reason = printable(shortfall.reason, REASON)
            session = session._replace(result=shortfall.result, reason=reason, address=address, source=source)
        self._add(session, 1)

    def _add(self, session: TlsSession, count: int) -> None:
        if session not in self._pending and len(self._pending) >= PENDING:
            session = session.without_domain()
        self._pending[session] = self._pending.get(session, 0) + count

    async def run(self, table: Table) -> None:
        """Store the counts from time to time, until the task is cancelled."""
        while True:
            await asyncio.sleep(FLUSH_EVERY)
            await self.flush(table)

    async def flush(self, table: Table) -> None:
        """Store what was counted; what the queue does not take now is kept for the next time."""
        while part := dict(islice(self._pending.items(), AT_ONCE)):
            for session in part:
                del self._pending[session]
            try:
                await table.add(part)
            except BaseException as problem:
                for session, count in part.items():
                    self._add(session, count)
                if not isinstance(problem, QueueUnavailable):
                    raise
                log.error("queue_unavailable", problem=str(problem))
                return


def _as_json(lines: Sequence[str]) -> str:
    """The lines of a policy as a JSON array; empty where there are none."""
    octets = accumulate(len(line) + 4 for line in lines)
    kept = [line for line, total in zip(lines, octets, strict=True) if total <= POLICY_TEXT]
    return json.dumps(kept) if lines else ""


def shortfall_of(error: BaseException) -> Shortfall:
    """What a failed handshake counts as."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return Shortfall(_VERIFY_RESULTS.get(error.verify_code, "certificate-not-trusted"), error.verify_message)
    if isinstance(error, ssl.SSLError):
        return Shortfall("validation-failure", error.reason or "")
    return Shortfall("validation-failure", "connection lost in the handshake")


_VERIFY_RESULTS = {  # by the codes of OpenSSL (openssl/x509_vfy.h): X509_V_ERR_…
    9: "certificate-expired",  # CERT_NOT_YET_VALID: there is no type of its own
    10: "certificate-expired",  # CERT_HAS_EXPIRED
    13: "certificate-expired",  # ERROR_IN_CERT_NOT_BEFORE_FIELD
    14: "certificate-expired",  # ERROR_IN_CERT_NOT_AFTER_FIELD
    62: "certificate-host-mismatch",  # HOSTNAME_MISMATCH
    64: "certificate-host-mismatch",  # IP_ADDRESS_MISMATCH
}
