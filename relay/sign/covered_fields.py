"""The header fields that a signature of ours covers, and how often `h=` names each; for DKIM and ARC.

A name is closed if `h=` has it once more than it occurs: a field of that name that is added later breaks the signature
(RFC 6376 section 8.15). Readers show the topmost Subject, and Content-Type decides which parts of a body they show. The
names of fields that mailing lists and mail programs add to honest mail stay open.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

from relay.mail.body_hash import Canonicalization
from relay.mail.message import HeaderField

# Closed in all mail, whether there is one or not: what people see of a message, and how its body is read.
CLOSED = ("from", "reply-to", "subject", "to", "cc", "mime-version", "content-type", "content-transfer-encoding")
# Closed where there is one, as all other content-* are: without one, hosts and lists on the way may add it.
CLOSED_IF_PRESENT = ("date", "message-id", "sender", "in-reply-to", "references")
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

_IF_PRESENT = ("content-", *OPEN)
_NAME_OCTETS = 76  # of a name that is signed: as long as a line of `h=`; registered names have 40 at most


class CoveredFields:
    """The header fields that a signature covers. What all signatures of a message share is computed once.

    Attributes:
        names: for `h=`.
        fields: the signed fields in the order of the names, each with its name; those of one name from the bottom to
            the top of the header, as verifiers take them (RFC 6376 section 5.4.2).
    """

    def __init__(
        self,
        names: Sequence[str],
        fields: Sequence[tuple[str, bytes]],
        relaxed: Sequence[tuple[bytes, bytes]] | None = None,
    ) -> None:
        """`relaxed`: the name and the value of each field in relaxed canonicalization, where they are known already."""
        self.names = tuple(names)
        self.fields = fields
        self._relaxed = [*map(_relaxed, fields)] if relaxed is None else relaxed

    def with_more(self, name: str, fields: Sequence[HeaderField]) -> CoveredFields:
        """These fields and, at the end, further ones of a name that is not among them; the first ones are not
        canonicalized again.

        Args:
            fields: from the bottom to the top of the header.
        """
        added = [(name, field.raw) for field in fields]
        names, relaxed = (*self.names, *[name] * len(added)), [*self._relaxed, *map(_relaxed, added)]
        return CoveredFields(names, [*self.fields, *added], relaxed)

    @cached_property
    def canonicalization(self) -> Canonicalization:
        """The canonicalization of the header: `relaxed`, so that folding it anew does not break the signature.

        If a value begins or ends with other white space than SP and HTAB, verifiers differ in how much of it they
        strip. Then it is `simple`, which strips nothing.
        """
        return "relaxed" if all(value == value.strip() for _, value in self._relaxed) else "simple"

    @cached_property
    def header(self) -> bytes:
        """The canonical octets of the fields (RFC 6376 section 3.4)."""
        if self.canonicalization == "simple":
            return b"".join([raw.removesuffix(b"\r\n") + b"\r\n" for _, raw in self.fields])
        return b"".join([b"%s:%s\r\n" % named for named in self._relaxed])

    @property
    def names_octets(self) -> int:
        """The greatest length of the names in `h=`, folded."""
        return sum(map(len, self.names)) + len(":\r\n ") * len(self.names)


def _relaxed(field: tuple[str, bytes]) -> tuple[bytes, bytes]:
    name, raw = field
    value = raw.partition(b":")[2].replace(b"\r\n", b"").replace(b"\t", b" ")
    while b"  " in value:
        value = value.replace(b"  ", b" ")
    return name.encode("ascii"), value.strip(b" ")


def covered_fields(fields: Sequence[HeaderField], *, ours: bool = False) -> CoveredFields | None:
    """The fields of a header to sign; None if the header has not exactly one From.

    RFC 6376 section 5.4 wants From signed, section 8.15 warns of a second one.

    Args:
        fields: of the message as it leaves, top to bottom.
        ours: we wrote the message.
    """
    closed = CLOSED_IN_OURS if ours else CLOSED
    fields_by_name: dict[str, list[tuple[str, bytes]]] = {name: [] for name in closed}
    for field in reversed(fields):
        name = field.name or field.signed_name
        if name in fields_by_name:
            fields_by_name[name].append((name, field.raw))
        elif _is_signed_if_present(name):
            fields_by_name[name] = [(name, field.raw)]
    if len(fields_by_name["from"]) != 1:
        return None
    names: list[str] = []
    covered: list[tuple[str, bytes]] = []
    for name, named_fields in fields_by_name.items():
        covered += named_fields
        is_open = name not in closed and name.startswith(OPEN)
        names += [name] * (len(named_fields) + (not is_open))
    return CoveredFields(names, covered)


def _is_signed_if_present(name: str) -> bool:
    """Whether fields of a name are signed that is not closed in all mail."""
    return name in CLOSED_IF_PRESENT or (name.startswith(_IF_PRESENT) and len(name) <= _NAME_OCTETS)
