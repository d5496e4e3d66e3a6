"""A delivery status notification of another host becomes one of ours, which does not show the mailbox behind an alias.

It came to an SRS address, so it goes to the sender of a message that we forwarded, and names the address that the
message was forwarded to. The outcome stays: action, status, the code of the reply. The host's words go, and of the
message the fields that it got behind us. A report that cannot be read is not touched.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import get_args

from relay.bounce.dsn import Action, RecipientReport, Report, build
from relay.bounce.multipart import Unreadable, content_type, decoded, parts
from relay.mail.address import BadAddress, domain_of, is_ascii, lookup_key, parse
from relay.mail.mailbox_list import read, text_of
from relay.mail.message import HeaderField, Message
from relay.route.loops import is_looping

RECIPIENTS = 100  # in one report: what RFC 5321 section 4.5.3.1.8 lets a transaction have everywhere
UNKNOWN = "unknown-recipient"  # local part of who is named where the address that the sender gave is not known

_VALUE_OCTETS = 1000  # of a field of a report: an address and some words
FIELDS_OCTETS = 128 << 10  # of the fields for programs, and of the header that comes back: twice what hosts return
FIELDS = 1000  # of a message that comes back: several times what the longest chains of forwarders leave
HOPS = 100  # of them Received; `receive.max_hops` lets far fewer pass
_YEAR = 366 * 86400  # seconds
# What `relay.rewrite.received_field.received_field` writes; a host on the way may have folded it otherwise.
_RECEIVED = re.compile(
    r"from [^ ]++ \([^ ()]++ \[[^] ]++\]\) by ([^ ]++) with [A-Z0-9]++ id ([0-9A-Z]{12})"
    r"(?: \([^()]*+\))?(?: for <([^<>]++)>)?; (.*+)"
)
_TYPED = re.compile(r"\s*+(?:rfc822|utf-8)\s*+;\s*+<?([^<>]++)>?\s*+", re.IGNORECASE)  # RFC 3464 section 2.1.2
_REPLY = re.compile(r"smtp\s*+;\s*+([245][0-9]{2})(?![0-9])", re.IGNORECASE)  # section 2.3.6
_STATUS = re.compile(r"[245]\.[0-9]{1,3}\.[0-9]{1,3}(?![0-9])")  # section 2.3.4
_REPORTS = ("message/delivery-status", "message/global-delivery-status")
_WHOLE = ("message/rfc822", "message/global")
_HEADERS = ("text/rfc822-headers", "message/global-headers", "message/rfc822-headers")
# What the sender wrote, wherever the message has been.
_SENDERS_OWN = frozenset(
    ("from", "sender", "reply-to", "to", "cc", "subject", "date", "message-id", "in-reply-to", "references")
)
_OFTEN_REWRITTEN = frozenset(("to", "cc"))  # by hosts behind us, to the mailbox
_TELLING = frozenset(("delivered-to", "x-delivered-to", "x-original-to", "envelope-to", "x-envelope-to", "return-path"))


@dataclass(frozen=True, slots=True)
class ReportingMta:
    """Who we are.

    Attributes:
        hostname: what Received says; messages that another host of ours took are known by our mark of the alias.
        from_domain: the domain of MAILER-DAEMON, one that we sign for.
        secrets: of the marks.
    """

    hostname: str
    from_domain: str
    secrets: Sequence[bytes]


@dataclass(frozen=True, slots=True)
class _Taken:
    """How we took a message that comes back, by our Received field; `at` is None where there is none."""

    index: int = -1
    queue_id: str = ""
    alias: str = ""
    at: float | None = None


def rebuilt(message: Message, site: ReportingMta, *, to: str, unique: str, now: float) -> bytes:
    """Our notification in place of another host's: header and body, CRLF line ends.

    It may take some milliseconds for each 10 KiB: a large message is for a thread.

    Args:
        message: what came to an SRS address.
        to: the sender behind that address.
        unique: what makes its Message-ID unique, of letters, digits and dots.
        now: seconds since 1970.

    Raises:
        Unreadable: it is no report of RFC 3464, or cannot be read; it is to go on as it came.
    """
    status, returned = _report(message)
    if max(len(status), returned.body_offset) > FIELDS_OCTETS:
        raise Unreadable(f"more than {FIELDS_OCTETS} octets of fields")
    blocks = [block for block in status.split(b"\r\n\r\n") if block.strip()]
    if len(blocks) > RECIPIENTS + 1:
        raise Unreadable(f"more than {RECIPIENTS} recipients")
    groups = [_group(block) for block in blocks]
    if len(returned.fields) > FIELDS:
        raise Unreadable(f"more than {FIELDS} fields in the message that comes back")
    taken = _taken(returned, site, now)
    came = Message(b"".join(field.raw for field in returned.fields[max(taken.index, 0) :]))
    naming = _Naming(taken.alias, came, site)
    recipients = [_recipient(group, naming, now) for group in groups if "action" in group]
    if not recipients:
        raise Unreadable("no recipient in it")
    about = {name: value for group in groups if "action" not in group for name, value in group.items()}
    return build(
        Report(
            hostname=site.hostname,
            from_domain=site.from_domain,
            to=to,
            queue_id=taken.queue_id or unique,
            arrived=taken.at or _seconds(about.get("arrival-date", ""), now) or now,
            now=now,
            original=_shown(came, taken, naming.hidden),
            unique=unique,
            recipients=tuple({(one.address, one.action): one for one in reversed(recipients)}.values())[::-1],
            ret="HDRS",
            envid=_xtext(about.get("original-envelope-id", "")),
        )
    )


def _report(message: Message) -> tuple[bytes, Message]:
    """The fields for programs, and the header of the message that comes back, which may be empty.

    Raises:
        Unreadable
    """
    kind = content_type(message)
    if kind.name != "multipart/report":
        raise Unreadable(f"{kind.name}, no multipart/report")
    if kind.parameters.get("report-type", b"delivery-status").lower() != b"delivery-status":
        raise Unreadable("a report of something else than delivery")
    found = parts(message)
    kinds = [content_type(part).name for part in found]
    status = next((part for part, kind in zip(found, kinds, strict=True) if kind in _REPORTS), None)
    if status is None:
        raise Unreadable("no delivery-status in it")
    for part, name in zip(found, kinds, strict=True):
        if name in _WHOLE:
            return decoded(status), Message(decoded(part))
        if name in _HEADERS:
            return decoded(status), Message(decoded(part).rstrip(b"\r\n") + b"\r\n\r\n")
    return decoded(status), Message(b"")


# What became of whom.


def _group(block: bytes) -> dict[str, str]:
    """A group of fields (RFC 3464 section 2.1), their names in lower case; of fields with one name the first."""
    fields: dict[str, str] = {}
    for field in Message(block.strip(b"\r\n") + b"\r\n\r\n").fields:
        fields.setdefault(field.name, text_of(field.value[:_VALUE_OCTETS]))
    return fields


class _Naming:
    """How the recipients of a report are named: as the sender knows them.

    That is the address for which we took the message, where it was one; else one that the sender wrote into To or Cc.

    Attributes:
        hidden: addresses in the report that the sender need not know.
    """

    def __init__(self, alias: str, came: Message, site: ReportingMta) -> None:
        self._alias = alias
        self._known = {lookup_key(alias): alias} if alias else _written(came)
        self._unknown = f"{UNKNOWN}@{site.from_domain}"
        self.hidden: set[str] = set()

    def name(self, addresses: Sequence[str]) -> str:
        """The name for who has these addresses."""
        known = [self._known[key] for one in addresses if (key := lookup_key(one)) in self._known]
        for one in addresses:
            if "@" in one and lookup_key(one) not in self._known:
                self.hidden |= {one, domain_of(one)}  # Exchange puts its host's name into fields below ours
        return known[0] if known else self._alias or self._unknown


def _written(came: Message) -> dict[str, str]:
    """The addresses in To and Cc, by their keys."""
    fields = [*came.all("to"), *came.all("cc")]
    found = [one.address for field in fields[:2] for one in read(text_of(field.value))]
    return {lookup_key(address): address for address in found if _usable(address)}


def _recipient(group: dict[str, str], naming: _Naming, now: float) -> RecipientReport:
    word = group["action"].partition("(")[0].strip().lower()
    action = next((one for one in get_args(Action) if one == word), None)
    if action is None:
        raise Unreadable("an action that is none of RFC 3464")
    addresses = [found for name in ("original-recipient", "final-recipient") if (found := _address(group, name))]
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
    """The address in a field of type `address-type; address`; empty where it is none of mail."""
    found = _TYPED.fullmatch(group.get(name, ""))
    return found[1].strip() if found is not None else ""


def _seconds(date: str, now: float) -> float | None:
    """A date of RFC 5322 in seconds since 1970; None where there is none within a year."""
    try:
        read = parsedate_to_datetime(date[:100])
        seconds = (read if read.tzinfo is not None else read.replace(tzinfo=UTC)).timestamp()
    except (ValueError, TypeError, OverflowError, IndexError):
        return None
    return seconds if abs(seconds - now) < _YEAR else None


def _xtext(text: str) -> str:
    """RFC 3461 section 4, as the parameter of MAIL has it."""
    return "".join(c if "!" <= c <= "~" and c not in "+=" else f"+{ord(c):02X}" for c in text) if is_ascii(text) else ""


# What comes back of the message.


def _taken(returned: Message, site: ReportingMta, now: float) -> _Taken:
    """How we took the message: the first time, where it came by twice, so that nothing behind us is shown."""
    received = [(n, field) for n, field in enumerate(returned.fields) if field.name == "received"]
    if len(received) > HOPS:
        return _Taken()
    for n, field in reversed(received):
        found = _RECEIVED.fullmatch(" ".join(text_of(field.value).split()))
        if found is not None:
            alias = found[3] if _usable(found[3] or "") else ""
            if found[1].lower() == site.hostname or (alias and is_looping(returned, [[alias]], site.secrets)):
                return _Taken(n, found[2], alias, _seconds(found[4], now))
    return _Taken()


def _usable(address: str) -> bool:
    try:
        parse(address)
    except BadAddress:
        return False
    return address.isprintable()


def _shown(came: Message, taken: _Taken, hidden: Iterable[str]) -> Message:
    """The header that goes back: what the message had when we took it, without what tells where it went."""
    header = b"".join(field.raw for field in came.fields).lower()
    telling = [octets for address in hidden if (octets := address.lower().encode()) in header]
    return Message(b"".join(field.raw for field in came.fields if _is_shown(field, taken, telling)))


def _is_shown(field: HeaderField, taken: _Taken, telling: Collection[bytes]) -> bool:
    if field.name in _SENDERS_OWN and field.name not in _OFTEN_REWRITTEN:
        return True
    if field.name not in _SENDERS_OWN and (taken.index < 0 or not field.name or field.name in _TELLING):
        return False
    raw = field.raw.lower()
    return not any(octets in raw for octets in telling)
