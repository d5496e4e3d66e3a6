"""Turns what happened to deliveries into notifications that enter the queue like any other message.

Who is told is decided in `policy`, what it says in `dsn`; here the two meet the queue. The letter is from
MAILER-DAEMON at a domain whose key we hold, with the null sender, so that it is signed and never answered.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache

from relay.bounce.dsn import Action, RecipientReport, Report, build, names_a_mailbox
from relay.bounce.whom_to_tell import fate
from relay.config.sections import BouncesTo
from relay.mail.address import domain_of, lookup_key
from relay.mail.message import Message
from relay.mail.queue_id import QueueIds, id_text
from relay.queue.retry_schedule import Patience
from relay.queue.store import OURS, Delivery, StoredMessage
from relay.rate import TokenBuckets
from relay.route.router import Target


@dataclass(frozen=True, slots=True)
class Happening:
    """What became of one delivery: the remote's codes, never its words, which may name the mailbox."""

    delivery: Delivery
    code: int
    enhanced: str
    expired: bool = False


@dataclass(frozen=True, slots=True)
class Notice:
    """What is to be told: a message and its deliveries, or nothing.

    Attributes:
        dead: what failed and may be told to nobody; it is kept in the queue for the administrator.
    """

    report: StoredMessage | None = None
    deliveries: tuple[Delivery, ...] = ()
    dead: list[Happening] = field(default_factory=list)


class Notifier:
    """Writes notifications.

    Args:
        from_domain: MAILER-DAEMON's domain, one that we sign for.
        hop_of: the key of a recipient's next hop, see `Delivery.hop`.
        allowance: how many letters a sender's domain without SPF may have.
        to: who is told, `bounces.to`.
    """

    def __init__(
        self,
        hostname: str,
        from_domain: str,
        patience: Patience,
        ids: QueueIds,
        hop_of: Callable[[str], str],
        allowance: TokenBuckets,
        to: BouncesTo = "verified",
    ) -> None:
        self._hostname = hostname
        self._from_domain = from_domain
        self.patience = patience
        self._ids = ids
        self._hop_of = hop_of
        self._allowance = allowance
        self._to = to

    def notice(
        self, action: Action, stored: StoredMessage, happened: Sequence[Happening], home: Sequence[Target], now: float
    ) -> Notice:
        """One notification about all of `happened`, as far as the sender is to be told.

        Args:
            home: where mail for the sender goes; empty where it would be refused.
            now: seconds since 1970.
        """
        told: list[Happening] = []
        dead: list[Happening] = []
        # One letter takes one allowance, however many recipients it names.
        allowance = cache(lambda domain: self._allowance.take(domain, now))
        for one in happened:
            match self._fate(action, stored, one, allowance):
                case "send" if home:
                    told.append(one)
                case "send" | "dead" if action == "failed":
                    dead.append(one)
                case _:
                    pass
        if not told:
            return Notice(dead=dead)
        report, deliveries = self._letter(action, stored, told, home, now)
        return Notice(report, deliveries, dead)

    def _fate(self, action: Action, stored: StoredMessage, one: Happening, allowance: Callable[[str], bool]) -> str:
        return fate(
            action,
            sender=stored.sender,
            notify=one.delivery.notify,
            verdict=stored.verdict,
            to=self._to,
            allowance=allowance,
        )

    def _letter(
        self, action: Action, stored: StoredMessage, told: Sequence[Happening], home: Sequence[Target], now: float
    ) -> tuple[StoredMessage, tuple[Delivery, ...]]:
        number = self._ids.new()
        by_address: dict[str, Happening] = {}
        for one in told:  # an alias with several mailboxes behind it is one recipient to its sender
            by_address.setdefault(one.delivery.original, one)
        # Whom we do not know gets no text of his own under our signature but the header of his message.
        known = bool(stored.verdict.get("trusted"))
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
                recipients=tuple(_recipient(action, one, now, known) for one in by_address.values()),
                ret=stored.ret if known else "HDRS",
                envid=stored.envid,
            )
        )
        message = Message(content)
        letter = StoredMessage(number, now, "", b"", message, dict(OURS), smtputf8=message.has_utf8_header)
        deliveries = tuple(
            Delivery(
                number,
                n,
                recipient=target.address,
                original=stored.sender,
                hop=self._hop_of(target.address),
                srs=target.srs,
                next_attempt=now,
                expires=self.patience.expires(now, ""),
            )
            for n, target in enumerate(home)
        )
        return letter, deliveries


def _recipient(action: Action, one: Happening, now: float, known: bool) -> RecipientReport:
    orcpt = one.delivery.orcpt
    return RecipientReport(
        address=one.delivery.original,
        action=action,
        code=one.code,
        enhanced=one.enhanced,
        expired=one.expired,
        aliased=lookup_key(one.delivery.recipient) != lookup_key(one.delivery.original),
        orcpt=orcpt if known or names_a_mailbox(orcpt) else "",
        last_attempt=now,
        retry_until=one.delivery.expires if action == "delayed" else None,
    )


def from_domain(signing_domains: Sequence[str], srs_domain: str) -> str:
    """MAILER-DAEMON's domain: the SRS domain where we can sign for it, otherwise the first that we can sign for."""
    if srs_domain in signing_domains or not signing_domains:
        return srs_domain
    return domain_of("@" + signing_domains[0])
