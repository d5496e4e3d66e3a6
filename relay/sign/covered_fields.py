"""Which header fields a signature of ours covers, and how often `h=` names each: for DKIM and ARC alike.

A name that `h=` has once more than it occurs is closed: a field of that name which somebody adds later breaks the
signature (RFC 6376 section 8.15). Readers show the topmost Subject, and what Content-Type says decides which parts of
a body they show at all. Names that mailing lists and mail programs add to honest mail stay open.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import cached_property

from relay.mail.body_hash import Canonicalization
from relay.mail.message import HeaderField

# Closed in all mail, whether there is one or not: what people see of a message, and how its body is read.
CLOSED = ("from", "reply-to", "subject", "to", "cc", "mime-version", "content-type", "content-transfer-encoding")
# Closed where there is one, as all other content-* are: without one, hosts and lists on the way may add it.
CLOSED_IF_PRESENT = ("date", "message-id", "sender", "in-reply-to", "references")
CONTENT = "content-"
OPEN = ("list-", "resent-")  # signed as often as they occur: lists and people who redirect mail add their own
# Closed in what we write ourselves, too: nobody on the way has anything to add to it but trace fields and X-.
CLOSED_IN_OURS = (
    *CLOSED,
    *CLOSED_IF_PRESENT,
    *("bcc", "comments", "keywords"),  # RFC 5322 sections 3.6.3 and 3.6.5
    *("resent-date", "resent-from", "resent-sender", "resent-reply-to"),  # section 3.6.6
    *("resent-to", "resent-cc", "resent-bcc", "resent-message-id"),
    *("list-id", "list-help", "list-unsubscribe", "list-unsubscribe-post"),  # RFC 2369, RFC 2919, RFC 8058
    *("list-subscribe", "list-post", "list-owner", "list-archive"),
    *("content-disposition", "content-description", "content-id", "content-language", "content-location"),
    *("content-base", "content-duration", "content-features", "content-md5"),
    *("auto-submitted", "archived-at", "disposition-notification-to", "return-receipt-to", "original-message-id"),
    *("followup-to", "mail-followup-to", "mail-reply-to", "errors-to", "organization", "autocrypt"),
    *("importance", "priority", "sensitivity", "expires", "thread-topic", "thread-index"),
)

_NAME_OCTETS = 76  # of a name that is signed: what a line of `h=` holds; registered ones have 40 at most
_WSP = re.compile(rb"[ \t]+")


@dataclass(frozen=True)
class Coverage:
    """What a signature covers.

    Attributes:
        names: for `h=`.
        fields: those that are signed, in the order of the names; the instances of a name from the bottom to the top of
            the header, as verifiers take them (RFC 6376 section 5.4.2).
    """

    names: Sequence[str]
    fields: Sequence[HeaderField]

    @cached_property
    def canonicalization(self) -> Canonicalization:
        """How the header is canonicalized: `relaxed`, which survives being folded anew.

        Where a value begins or ends with other white space than SP and HTAB, verifiers differ in how much of it they
        strip. `simple` strips nothing, and so all of them see the same.
        """
        return "relaxed" if all(value == value.strip() for value in self._relaxed) else "simple"

    @property
    def header(self) -> bytes:
        """The canonical octets (RFC 6376 section 3.4)."""
        if self.canonicalization == "simple":
            return b"".join(field.raw.removesuffix(b"\r\n") + b"\r\n" for field in self.fields)
        named = zip(self.fields, self._relaxed, strict=True)
        return b"".join(b"%s:%s\r\n" % (field.signed_name.encode("ascii"), value) for field, value in named)

    @cached_property
    def _relaxed(self) -> Sequence[bytes]:
        values = (field.raw.partition(b":")[2].replace(b"\r\n", b"") for field in self.fields)
        return [_WSP.sub(b" ", value).strip(b" ") for value in values]


def coverage(fields: Sequence[HeaderField], *, ours: bool = False, also: Collection[str] = ()) -> Coverage | None:
    """What is to be signed of a header; None for one that is not to be signed.

    That is a header without exactly one From: RFC 6376 section 5.4 wants From signed, section 8.15 warns of a second.

    Args:
        fields: of the message as it leaves, top to bottom.
        ours: we wrote the message.
        also: further names to sign as often as they occur, lower case.
    """
    closed = CLOSED_IN_OURS if ours else CLOSED
    found: dict[str, list[HeaderField]] = {name: [] for name in closed}
    for field in reversed(fields):
        name = field.name or field.signed_name
        if name in found:
            found[name].append(field)
        elif name in also or _is_signed(name):
            found[name] = [field]
    if len(found["from"]) != 1:
        return None
    names = []
    for name, instances in found.items():
        names += [name] * len(instances)
        if name in closed or not (name in also or name.startswith(OPEN)):
            names.append(name)
    return Coverage(names, [field for instances in found.values() for field in instances])


def names_octets(fields: Sequence[HeaderField], *, ours: bool = False) -> int:
    """How long the names in `h=` may get at most, folded: all of the header's, and each of them once more.

    It takes a fraction of what `coverage` does, and is asked before it is known whether there is anything to sign.
    """
    names = [name for field in fields if len(name := field.name or field.signed_name) <= _NAME_OCTETS]
    once_more = {*(CLOSED_IN_OURS if ours else CLOSED), *names}
    return sum(map(len, names)) + sum(map(len, once_more)) + len(":\r\n ") * (len(names) + len(once_more))


def _is_signed(name: str) -> bool:
    """Whether a field that there is gets signed, besides those of names that are always closed."""
    return name in CLOSED_IF_PRESENT or (name.startswith((CONTENT, *OPEN)) and len(name) <= _NAME_OCTETS)
