"""The header fields that a signature of ours covers, and how often `h=` names each; for DKIM and ARC.

A name is closed if `h=` has it once more than it occurs: a field of that name that is added later breaks the signature
(RFC 6376 section 8.15). Readers show the topmost Subject, and Content-Type decides which parts of a body they show. The
names of fields that mailing lists and mail programs add to honest mail stay open.
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

_NAME_OCTETS = 76  # of a name that is signed: as long as a line of `h=`; registered names have 40 at most
_WSP = re.compile(rb"[ \t]+")


@dataclass(frozen=True)
class CoveredFields:
    """The header fields that a signature covers.

    Attributes:
        names: for `h=`.
        fields: the signed fields in the order of the names; those of one name from the bottom to the top of the header,
            as verifiers take them (RFC 6376 section 5.4.2).
    """

    names: Sequence[str]
    fields: Sequence[HeaderField]

    @cached_property
    def canonicalization(self) -> Canonicalization:
        """The canonicalization of the header: `relaxed`, so that folding it anew does not break the signature.

        If a value begins or ends with other white space than SP and HTAB, verifiers differ in how much of it they
        strip. Then it is `simple`, which strips nothing.
        """
        return "relaxed" if all(value == value.strip() for value in self._relaxed) else "simple"

    @property
    def header(self) -> bytes:
        """The canonical octets of the fields (RFC 6376 section 3.4)."""
        if self.canonicalization == "simple":
            return b"".join(field.raw.removesuffix(b"\r\n") + b"\r\n" for field in self.fields)
        named = zip(self.fields, self._relaxed, strict=True)
        return b"".join(b"%s:%s\r\n" % (field.signed_name.encode("ascii"), value) for field, value in named)

    @cached_property
    def _relaxed(self) -> Sequence[bytes]:
        values = (field.raw.partition(b":")[2].replace(b"\r\n", b"") for field in self.fields)
        return [_WSP.sub(b" ", value).strip(b" ") for value in values]


def covered_fields(
    fields: Sequence[HeaderField], *, ours: bool = False, also: Collection[str] = ()
) -> CoveredFields | None:
    """The fields of a header to sign; None if the header has not exactly one From.

    RFC 6376 section 5.4 wants From signed, section 8.15 warns of a second one.

    Args:
        fields: of the message as it leaves, top to bottom.
        ours: we wrote the message.
        also: further names to sign as often as they occur, in lower case.
    """
    closed = CLOSED_IN_OURS if ours else CLOSED
    fields_by_name: dict[str, list[HeaderField]] = {name: [] for name in closed}
    for field in reversed(fields):
        name = field.name or field.signed_name
        if name in fields_by_name:
            fields_by_name[name].append(field)
        elif name in also or _is_signed_if_present(name):
            fields_by_name[name] = [field]
    if len(fields_by_name["from"]) != 1:
        return None
    names = []
    for name, named_fields in fields_by_name.items():
        names += [name] * len(named_fields)
        if name in closed or not (name in also or name.startswith(OPEN)):
            names.append(name)
    return CoveredFields(names, [field for named_fields in fields_by_name.values() for field in named_fields])


def names_octets(fields: Sequence[HeaderField], *, ours: bool = False) -> int:
    """The greatest length of the names in `h=`, folded: those of all fields, and each name once more.

    It takes a fraction of the time of `covered_fields`, and is needed before it is known whether there is anything to
    sign.
    """
    names = [name for field in fields if len(name := field.name or field.signed_name) <= _NAME_OCTETS]
    once_more = {*(CLOSED_IN_OURS if ours else CLOSED), *names}
    return sum(map(len, names)) + sum(map(len, once_more)) + len(":\r\n ") * (len(names) + len(once_more))


def _is_signed_if_present(name: str) -> bool:
    """Whether fields of a name are signed that is not closed in all mail."""
    return name in CLOSED_IF_PRESENT or (name.startswith((CONTENT, *OPEN)) and len(name) <= _NAME_OCTETS)
