"""What a trusted client's own MTA found out about the mail that it hands over: its Authentication-Results (RFC 8601).

The usual relayhost: Postfix takes mail in, its milters check it, and each of them writes a field under the MTA's
authserv-id; then Postfix hands the mail to us. Only fields above the MTA's own Received field can be those: what stands
below came in with the message, and an MTA that does not remove forged ones (section 5) would let a stranger speak.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import cast

from relay.address import normal_domain, split
from relay.authenticate import spf
from relay.authenticate.dkim import DkimVerdict
from relay.authenticate.spf import SpfVerdict
from relay.authenticate.tags import Result as DkimResult
from relay.message import HeaderField, Message
from relay.reply import printable

FIELDS = 20  # of one message that are looked at
VALUE_OCTETS = 16384  # of one field: what many signatures fill
RECEIVED = 2  # fields that the MTA may have written itself: as it took the message in, and after a content filter

# No expression here can backtrack: whatever stands in the header is read once.
_PIECE = re.compile(r'"(?:[^"\\]|\\.)*+"|\\.|[();]|[^\\();"]++|.', re.DOTALL)
_RESULT = re.compile(r"\s*+([A-Za-z][A-Za-z0-9-]*+)\s*+(?:/\s*+[0-9]++\s*+)?=\s*+([A-Za-z]++)")
_PROPERTY = re.compile(r'([A-Za-z]++)\s*+\.\s*+([A-Za-z0-9_-]++)\s*+=\s*+("(?:[^"\\]|\\.)*+"|[^\s;"]++)', re.DOTALL)
_POLICY = re.compile(r"\bp\s*+=\s*+(none|quarantine|reject)\b", re.IGNORECASE)
_SPF = frozenset(("none", "neutral", "pass", "fail", "softfail", "temperror", "permerror"))
_DKIM = frozenset(("pass", "fail", "policy", "neutral", "temperror", "permerror"))


@dataclass(frozen=True, slots=True)
class Statement:
    """One method's result as somebody else wrote it.

    Attributes:
        method, result: lower case.
        properties: by `ptype.property`, lower case; the values without quotes.
        comment: the text of its comments.
    """

    method: str
    result: str
    properties: dict[str, str]
    comment: str


@dataclass(frozen=True, slots=True)
class Vouched:
    """What an MTA says.

    Attributes:
        authserv_id: its name.
        statements: of all its fields, top to bottom.
        value: all of it as one value of Authentication-Results, ASCII, for an ARC set of ours.
    """

    authserv_id: str
    statements: tuple[Statement, ...]
    value: str

    def spf_verdict(self, sender: str) -> SpfVerdict | None:
        """SPF of MAIL FROM, or of the EHLO name for the null sender; None where it does not say."""
        for one in self._of("spf"):
            helo = one.properties.get("smtp.helo", "")
            mailfrom = one.properties.get("smtp.mailfrom", one.properties.get("smtp.mail", ""))
            if one.result in _SPF and (mailfrom or not sender):
                name = split(mailfrom).domain or mailfrom if sender else helo or split(mailfrom).domain or mailfrom
                domain = printable(normal_domain(name))
                return SpfVerdict(cast(spf.Result, one.result), "mailfrom" if sender else "helo", domain)
        return None

    def dkim_verdicts(self) -> tuple[DkimVerdict, ...]:
        """The result of each signature that it says something of."""
        return tuple(
            DkimVerdict(
                cast(DkimResult, one.result),
                printable(normal_domain(_signer(one))),
                printable(one.properties.get("header.s", "")),
                printable(one.properties.get("header.a", "")),
            )
            for one in self._of("dkim")
            if one.result in _DKIM
        )

    @property
    def dmarc(self) -> str:
        """The DMARC result, empty where it does not say."""
        return next((one.result for one in self._of("dmarc")), "")

    @property
    def policy(self) -> str:
        """The DMARC policy as far as it is stated: as a property, or in a comment as most write it."""
        for one in self._of("dmarc"):
            stated = one.properties.get("policy.dmarc", "") or next(iter(_POLICY.findall(one.comment)), "")
            if stated:
                return stated.lower()
        return ""

    def _of(self, method: str) -> Iterator[Statement]:
        return (one for one in self.statements if one.method == method)


def vouched(message: Message, authserv_ids: Collection[str]) -> Vouched | None:
    """What the MTAs with these ids say of a message; None where none of them says anything. Never raises.

    Believed are the fields above the second Received field from the top, and of them those of the topmost id.

    Args:
        authserv_ids: normal domains.
    """
    if not authserv_ids:
        return None
    speaker, statements, values = "", list[Statement](), list[str]()
    for field in _believable(message):
        name, found, value = read(field.value[:VALUE_OCTETS].decode("utf-8", "replace"))
        if name in authserv_ids and name == (speaker or name):
            speaker = name
            statements += found
            values.append(value)
    if not statements:
        return None
    return Vouched(speaker, tuple(statements), printable(f"{speaker}; {'; '.join(values)}", VALUE_OCTETS))


def dmarc_of(results: str) -> str:
    """The DMARC result in a value of Authentication-Results or of ARC-Authentication-Results; empty without one."""
    _, found, _ = read(results[:VALUE_OCTETS])
    return next((one.result for one in found if one.method == "dmarc"), "")


def _believable(message: Message) -> Iterator[HeaderField]:
    received = fields = 0
    for field in message.fields:
        received += field.name == "received"
        if received == RECEIVED or fields == FIELDS:
            return
        if field.name == "authentication-results":
            fields += 1
            yield field


def read(value: str) -> tuple[str, Sequence[Statement], str]:
    """A value of Authentication-Results: the normal authserv-id, the results in their order, and their text.

    Lenient, as everybody writes it a little differently: what is no result is passed over.
    """
    head, *parts = _parts(value)
    words = head.bare.split()
    statements = []
    for part in parts:
        found = _RESULT.match(part.bare)
        if found and found[2].lower():
            properties = {
                f"{ptype}.{name}".lower(): _unquoted(given) for ptype, name, given in _PROPERTY.findall(part.bare)
            }
            statements.append(Statement(found[1].lower(), found[2].lower(), properties, part.comment))
    text = "; ".join(" ".join(part.text.split()) for part in parts if part.text.strip())
    return normal_domain(words[0].strip('"')) if words else "", statements, text


@dataclass(slots=True)
class _Part:
    """What stands between two semicolons: with its comments, without them, and they alone."""

    text: str = ""
    bare: str = ""
    comment: str = ""


def _parts(value: str) -> list[_Part]:
    parts, depth = [_Part()], 0
    for piece in _PIECE.findall(value):
        part = parts[-1]
        if piece == ";" and not depth:
            parts.append(_Part())
            continue
        part.text += piece
        if piece == ")" and depth:
            depth -= 1
            part.bare += " " if not depth else ""
        elif piece == "(":
            depth += 1
        elif depth:
            part.comment += piece
        else:
            part.bare += piece
    return parts


def _signer(one: Statement) -> str:
    return one.properties.get("header.d", "") or one.properties.get("header.i", "").rpartition("@")[2]


def _unquoted(value: str) -> str:
    return re.sub(r"\\(.)", r"\1", value[1:-1]) if value[0] == '"' else value
