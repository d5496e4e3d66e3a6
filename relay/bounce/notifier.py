"""Writes notifications about deliveries: bounces, delay warnings and success DSNs, as messages for the queue.

`whom_to_tell` decides who is told, and `dsn` writes the text. A notification is from MAILER-DAEMON at a domain that we
sign for, with the null sender, so that it is signed and nobody answers it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache

from relay.bounce.dsn import Action, RecipientReport, Report, build, names_a_mailbox, names_another_mailbox
from relay.bounce.whom_to_tell import whom_to_tell
from relay.config.sections import BouncesTo
from relay.mail.address import domain_of
from relay.mail.envelope import TlsWish
from relay.mail.message import Message
from relay.mail.queue_id import QueueIds, id_text
from relay.queue.retry_schedule import RetrySchedule
from relay.queue.store import Delivery, StoredMessage
from relay.queue.stored_verdict import OWN_MESSAGE
from relay.rate import TokenBuckets
from relay.route.router import Target


@dataclass(frozen=True, slots=True)
class Happening:
    """What became of one delivery.

    Attributes:
        code, enhanced: the next hop's codes.
        words: the text of its reply; empty where it may name the mailbox behind an alias.
    """

    delivery: Delivery
    code: int
    enhanced: str
    expired: bool = False
    words: str = ""


@dataclass(frozen=True, slots=True)
class Notice:
    """A notification to store, or nothing.

    Attributes:
        report: the message; None where nobody is told.
        deliveries: of the report.
        told: what it tells of.
        dead: the failures that nobody may be told of; they become dead letters.
    """

    report: StoredMessage | None = None
    deliveries: tuple[Delivery, ...] = ()
    told: tuple[Happening, ...] = ()
    dead: tuple[Happening, ...] = ()


class Notifier:
    """Writes the notifications of one worker.

    Args:
        from_domain: MAILER-DAEMON's domain, one that we sign for.
        patience: when a notification expires.
        next_hop_key: the key of a recipient's next hop for an own message, see `Delivery.hop`.
        allowance: how many notifications a sender's domain without SPF may have.
        to: who is told, `bounces.to`.
    """

    def __init__(
        self,
        hostname: str,
        from_domain: str,
        patience: RetrySchedule,
        ids: QueueIds,
        next_hop_key: Callable[[str], str],
        allowance: TokenBuckets,
        to: BouncesTo = "verified",
    ) -> None:
        self._hostname = hostname
        self._from_domain = from_domain
        self._patience = patience
        self._ids = ids
        self._next_hop_key = next_hop_key
        self._allowance = allowance
        self._to = to

    def notice(
        self,
        action: Action,
        stored: StoredMessage,
        happened: Sequence[Happening],
        sender_targets: Sequence[Target],
        now: float,
    ) -> Notice:
        """One notification about all of `happened`, as far as the sender may be told.

        Args:
            sender_targets: where mail for the sender goes; empty where it would be refused.
            now: seconds since 1970.
        """
        told: list[Happening] = []
        dead: list[Happening] = []
        # One notification takes one allowance, however many recipients it names.
        allowance = cache(lambda domain: self._allowance.take(domain, now))
        for happening in happened:
            telling = whom_to_tell(
                action,
                sender=stored.sender,
                notify=happening.delivery.notify,
                verdict=stored.verdict,
                to=self._to,
                allowance=allowance,
            )
            if telling == "send" and sender_targets:
                told.append(happening)
            elif telling != "none" and action == "failed":
                dead.append(happening)
        if not told:
            return Notice(dead=tuple(dead))
        report, deliveries = self._report(action, stored, told, sender_targets, now)
        return Notice(report, deliveries, tuple(told), tuple(dead))

    def _report(
        self,
        action: Action,
        stored: StoredMessage,
        told: Sequence[Happening],
        sender_targets: Sequence[Target],
        now: float,
    ) -> tuple[StoredMessage, tuple[Delivery, ...]]:
        number = self._ids.new()
        by_address: dict[str, Happening] = {}
        for happening in told:  # an alias with several mailboxes behind it is one recipient to its sender
            by_address.setdefault(happening.delivery.original, happening)
        # Under our signature a stranger gets no text of his own back but the header of his message.
        known = stored.verdict.trusted
        # RFC 8689 section 5: what the message asked of TLS holds for its bounce, and with REQUIRETLS as if RET=HDRS.
        tls: TlsWish = "prefer" if stored.tls == "require" else stored.tls
        content = build(
            Report(
                hostname=self._hostname,
                from_domain=self._from_domain,
                to=stored.sender,
                queue_id=id_text(stored.id),
                arrived=stored.received,
                now=now,
                original=stored.message,
                unique=id_text(number),
                recipients=tuple(_recipient(action, happening, now, known) for happening in by_address.values()),
                ret=stored.ret if known and tls != "prefer" else "HDRS",
                envid=stored.envid,
                tls_required="No" if tls == "no" else "",
            )
        )
        message = Message(content)
        report = StoredMessage(number, now, "", b"", message, OWN_MESSAGE, smtputf8=message.has_utf8_header, tls=tls)
        deliveries = tuple(
            Delivery(
                number,
                n,
                recipient=target.address,
                original=stored.sender,
                hop=self._next_hop_key(target.address),
                srs=target.srs,
                next_attempt=now,
                expires=self._patience.expires(now, ""),
            )
            for n, target in enumerate(sender_targets)
        )
        return report, deliveries


def _recipient(action: Action, happening: Happening, now: float, known: bool) -> RecipientReport:
    delivery = happening.delivery
    return RecipientReport(
        address=delivery.original,
        action=action,
        code=happening.code,
        enhanced=happening.enhanced,
        expired=happening.expired,
        aliased=delivery.is_aliased,
        words=happening.words if known and not _has_other_original(delivery) else "",
        orcpt=delivery.orcpt if known or names_a_mailbox(delivery.orcpt) else "",
        last_attempt=now,
        retry_until=delivery.expires if action == "delayed" else None,
    )


def _has_other_original(delivery: Delivery) -> bool:
    """Whether the sender gave another address than ours got: an alias here, or of a host before us (RFC 3461)."""
    return delivery.is_aliased or names_another_mailbox(delivery.orcpt, delivery.recipient)


def from_domain(signing_domains: Sequence[str], srs_domain: str) -> str:
    """MAILER-DAEMON's domain: the SRS domain where we can sign for it, otherwise the first that we can sign for."""
    if srs_domain in signing_domains or not signing_domains:
        return srs_domain
    return domain_of("@" + signing_domains[0])
