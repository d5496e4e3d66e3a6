"""Rewrites a delivery status notification of another host as one of ours, which hides the mailbox behind an alias.

The notification came to an SRS address, so it goes to the sender of a message that we forwarded, and it names the
address that the message was forwarded to. Ours keeps the outcome: action, status, the code of the reply. It drops the
text of the reply, and the fields that the message got after it left us. A notification that cannot be read goes on
unchanged.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import get_args

from relay.bounce.dsn import build
from relay.bounce.multipart import Unreadable, content_type, decoded, parts
from relay.bounce.report import Action, RecipientReport, Report
from relay.mail.address import BadAddress, domain_of, is_ascii, lookup_key, parse
from relay.mail.mailbox_list import read, text_of
from relay.mail.message import HeaderField, Message
from relay.route.loops import is_looping

RECIPIENTS = 100  # in one report: every server takes as many in a transaction (RFC 5321 section 4.5.3.1.8)
UNKNOWN = "unknown-recipient"  # the local part of a recipient whose address the sender does not know

_VALUE_OCTETS = 1000  # of a field of a report: an address and some text
FIELDS_OCTETS = 128 << 10  # of the fields for programs, and of the header that comes back: twice what hosts return
FIELDS = 1000  # of a message that comes back: several times what the longest chains of forwarders leave
HOPS = 100  # of them Received; `receive.max_hops` lets far fewer pass
_YEAR = 366 * 86400  # seconds
# What `relay.rewrite.received_field.received_field` writes; a host on the way may have folded it differently. Releases
# up to 0.2.0 wrote TLS after the id.
_RECEIVED = re.compile(
    r"from [^ ]++(?: \([^ ()]++ \[[^] ]++\]\))?(?: \(using [^ ]++ with cipher [^ ]++ \([^()]*+\)\))?"
    r" by ([^ ]++) with [A-Z0-9]++ id ([0-9A-Z]{12})(?: \([^()]*+\))?(?: for <([^<>]++)>)?; (.*+)"
)
_TYPED = re.compile(r"\s*+(?:rfc822|utf-8)\s*+;\s*+<?([^<>]++)>?\s*+", re.IGNORECASE)  # RFC 3464 section 2.1.2
_REPLY = re.compile(r"smtp\s*+;\s*+([245][0-9]{2})(?![0-9])", re.IGNORECASE)  # section 2.3.6
_STATUS = re.compile(r"[245]\.[0-9]{1,3}\.[0-9]{1,3}(?![0-9])")  # section 2.3.4
_REPORTS = ("message/delivery-status", "message/global-delivery-status")
_WHOLE = ("message/rfc822", "message/global")
_HEADERS = ("text/rfc822-headers", "message/global-headers", "message/rfc822-headers")
# Fields that the sender wrote, wherever the message has been.
_SENDERS_OWN = frozenset(
    ("from", "sender", "reply-to", "to", "cc", "subject", "date", "message-id", "in-reply-to", "references")
)
_OFTEN_REWRITTEN = frozenset(("to", "cc"))  # by hosts behind us, to the mailbox
_NAMING_MAILBOXES = frozenset(
    ("delivered-to", "x-delivered-to", "x-original-to", "envelope-to", "x-envelope-to", "return-path")
)


@dataclass(frozen=True, slots=True)
class ReportingMta:
    """The names under which we report, and by which we recognize messages that we forwarded.

    Attributes:
        hostname: the name in our Received fields; a message that another host of ours took bears our mark of the alias.
        from_domain: the domain of MAILER-DAEMON, one that we sign for.
        secrets: those of the marks.
    """

    hostname: str
    from_domain: str
    secrets: Sequence[bytes]


@dataclass(frozen=True, slots=True)
class _Reception:
    """How we received the message that comes back, by our Received field; `at` is None where there is none."""

    index: int = -1
    queue_id: str = ""
    alias: str = ""
    at: float | None = None


def rebuilt(message: Message, ours: ReportingMta, *, to: str, unique: str, now: float) -> bytes:
    """Our notification in place of another host's: header and body, CRLF line ends.

    It may take some milliseconds for each 10 KiB, so a large message belongs into a thread.

    Args:
        message: the notification that came to an SRS address.
        to: the sender behind that address.
        unique: the unique part of its Message-ID, of letters, digits and dots.
        now: seconds since 1970.

    Raises:
        Unreadable: it is no report of RFC 3464, or cannot be read; it is to go on as it came.
    """
    status, returned = _read_report(message)
    if max(len(status), returned.body_offset) > FIELDS_OCTETS:
        raise Unreadable(f"more than {FIELDS_OCTETS} octets of fields")
    blocks = [block for block in status.split(b"\r\n\r\n") if block.strip()]
    if len(blocks) > RECIPIENTS + 1:
        raise Unreadable(f"more than {RECIPIENTS} recipients")
    groups = [_read_group(block) for block in blocks]
    if len(returned.fields) > FIELDS:
        raise Unreadable(f"more than {FIELDS} fields in the message that comes back")
    reception = _reception(returned, ours, now)
    arrived = Message(b"".join(field.raw for field in returned.fields[max(reception.index, 0) :]))
    naming = _Naming(reception.alias, arrived, ours)
    recipients = [_recipient(group, naming, now) for group in groups if "action" in group]
    if not recipients:
        raise Unreadable("no recipient in it")
    of_message = {name: value for group in groups if "action" not in group for name, value in group.items()}
    first_of_each = {(recipient.address, recipient.action): recipient for recipient in reversed(recipients)}
    return build(
        Report(
            hostname=ours.hostname,
            from_domain=ours.from_domain,
            to=to,
            queue_id=reception.queue_id or unique,
            arrived=reception.at or _seconds(of_message.get("arrival-date", ""), now) or now,
            now=now,
            original=_shown(arrived, reception, naming.hidden),
            unique=unique,
            recipients=tuple(first_of_each.values())[::-1],
            ret="HDRS",
            envid=_xtext(of_message.get("original-envelope-id", "")),
        )
    )


def _read_report(message: Message) -> tuple[bytes, Message]:
    """The fields for programs, and the header of the message that comes back, which may be empty.

    Raises:
        Unreadable
    """
    kind = content_type(message)
    if kind.name != "multipart/report":
        raise Unreadable(f"{kind.name}, no multipart/report")
    if kind.parameters.get("report-type", b"delivery-status").lower() != b"delivery-status":
        raise Unreadable("a report of something else than delivery")
    named_parts = [(content_type(part).name, part) for part in parts(message)]
    status = next((part for name, part in named_parts if name in _REPORTS), None)
    if status is None:
        raise Unreadable("no delivery-status in it")
    for name, part in named_parts:
        if name in _WHOLE:
            return decoded(status), Message(decoded(part))
        if name in _HEADERS:
            return decoded(status), Message(decoded(part).rstrip(b"\r\n") + b"\r\n\r\n")
    return decoded(status), Message(b"")


# recipients and their outcomes


def _read_group(block: bytes) -> dict[str, str]:
    """A group of fields (RFC 3464 section 2.1), their names in lower case; of fields with one name the first."""
    fields: dict[str, str] = {}
    for field in Message(block.strip(b"\r\n") + b"\r\n\r\n").fields:
        fields.setdefault(field.name, text_of(field.value[:_VALUE_OCTETS]))
    return fields


class _Naming:
    """Names the recipients of a report as the sender knows them.

    That is the address for which we received the message, where Received tells it; else one in To or Cc.

    Attributes:
        hidden: addresses in the report that the sender need not know.
    """

    def __init__(self, alias: str, arrived: Message, ours: ReportingMta) -> None:
        self._alias = alias
        self._known = {lookup_key(alias): alias} if alias else _addressed(arrived)
        self._unknown = f"{UNKNOWN}@{ours.from_domain}"
        self.hidden: set[str] = set()

    def name(self, addresses: Sequence[str]) -> str:
        """The name of the recipient with these addresses."""
        known = [self._known[key] for address in addresses if (key := lookup_key(address)) in self._known]
        for address in addresses:
            if "@" in address and lookup_key(address) not in self._known:
                self.hidden |= {address, domain_of(address)}  # Exchange puts its host's name into fields below ours
        return known[0] if known else self._alias or self._unknown


def _addressed(arrived: Message) -> dict[str, str]:
    """The addresses in To and Cc, by their lookup keys."""
    fields = [*arrived.all("to"), *arrived.all("cc")]
    addresses = [mailbox.address for field in fields[:2] for mailbox in read(text_of(field.value))]
    return {lookup_key(address): address for address in addresses if _is_valid(address)}


def _recipient(group: dict[str, str], naming: _Naming, now: float) -> RecipientReport:
    stated = group["action"].partition("(")[0].strip().lower()
    action = next((action for action in get_args(Action) if action == stated), None)
    if action is None:
        raise Unreadable("an action that is none of RFC 3464")
    addresses = list(filter(None, (_address(group, name) for name in ("original-recipient", "final-recipient"))))
    address = naming.name(addresses)
    status, reply = _STATUS.match(group.get("status", "")), _REPLY.match(group.get("diagnostic-code", ""))
    enhanced = status.group() if status is not None else ""
    return RecipientReport(
        address=address,
        action=action,
        code=int(reply[1]) if reply is not None else 0,
        enhanced=enhanced,
        expired=action == "failed" and enhanced.startswith("4"),
        aliased=not addresses or lookup_key(addresses[-1]) != lookup_key(address),
        last_attempt=_seconds(group.get("last-attempt-date", ""), now),
        retry_until=_seconds(group.get("will-retry-until", ""), now),
    )


def _address(group: dict[str, str], name: str) -> str:
    """The address in a field of the form `address-type; address`; empty where it is no mail address."""
    typed = _TYPED.fullmatch(group.get(name, ""))
    return typed[1].strip() if typed is not None else ""


def _seconds(date: str, now: float) -> float | None:
    """A date of RFC 5322 in seconds since 1970; None where it cannot be read or is more than a year away."""
    try:
        moment = parsedate_to_datetime(date[:100])
        seconds = (moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)).timestamp()
    except (ValueError, TypeError, OverflowError, IndexError):
        return None
    return seconds if abs(seconds - now) < _YEAR else None


def _xtext(text: str) -> str:
    """The text as xtext (RFC 3461 section 4), as in the ENVID parameter of MAIL; empty where it is not ASCII."""
    return "".join(c if "!" <= c <= "~" and c not in "+=" else f"+{ord(c):02X}" for c in text) if is_ascii(text) else ""


# the message that comes back


def _reception(returned: Message, ours: ReportingMta, now: float) -> _Reception:
    """How we received the message; the first time, where we did twice, so that no later field is shown."""
    received = [(index, field) for index, field in enumerate(returned.fields) if field.name == "received"]
    if len(received) > HOPS:
        return _Reception()
    for index, field in reversed(received):
        trace = _RECEIVED.fullmatch(" ".join(text_of(field.value).split()))
        if trace is not None:
            hostname, queue_id, recipient, date = trace.groups()
            alias = recipient if _is_valid(recipient or "") else ""
            if hostname.lower() == ours.hostname or (alias and is_looping(returned, [[alias]], ours.secrets)):
                return _Reception(index, queue_id, alias, _seconds(date, now))
    return _Reception()


def _is_valid(address: str) -> bool:
    try:
        parse(address)
    except BadAddress:
        return False
    return address.isprintable()


def _shown(arrived: Message, reception: _Reception, hidden: Iterable[str]) -> Message:
    """The header that goes back: as the message arrived here, without fields that tell where it went."""
    header = b"".join(field.raw for field in arrived.fields).lower()
    to_hide = [octets for address in hidden if (octets := address.lower().encode()) in header]
    return Message(b"".join(field.raw for field in arrived.fields if _is_shown(field, reception, to_hide)))


def _is_shown(field: HeaderField, reception: _Reception, to_hide: Collection[bytes]) -> bool:
    if field.name in _SENDERS_OWN and field.name not in _OFTEN_REWRITTEN:
        return True
    if field.name not in _SENDERS_OWN and (reception.index < 0 or not field.name or field.name in _NAMING_MAILBOXES):
        return False
    raw = field.raw.lower()
    return not any(octets in raw for octets in to_hide)
