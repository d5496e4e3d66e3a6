"""The fields of an ARC chain (RFC 8617): which fields of a header make which set, and which octets a seal signs.

`relay.authenticate.arc`, which validates a chain, and `relay.sign.arc_seal`, which extends it, read the same chain.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from relay.authenticate.signature import relaxed_field
from relay.mail.message import HeaderField, Message
from relay.mail.tag_list import Unverified, field_tags

INSTANCES = 50  # RFC 8617 section 4.2.1

RESULTS, SIGNATURE, SEAL = "arc-authentication-results", "arc-message-signature", "arc-seal"
_WRITTEN_NAMES = {RESULTS: "ARC-Authentication-Results", SIGNATURE: "ARC-Message-Signature", SEAL: "ARC-Seal"}
# Section 3.9: the number has one or two digits, and comments may stand around everything (RFC 5322 section 3.2.2).
_CFWS = rb"(?:[ \t]|\((?:[^()\\]|\\.)*+\))*+"
_INSTANCE_TAG = re.compile(rb"%s i %s = %s ([0-9]{1,2}) %s ;" % ((_CFWS,) * 4), re.VERBOSE | re.DOTALL)
_INSTANCE = re.compile(r"[0-9]{1,2}\Z")


class ArcField(NamedTuple):
    """One field of a chain.

    Attributes:
        instance: the number of its set.
        tags: of a signature or seal; only their form is checked yet.
        value: of ARC-Authentication-Results, unfolded, without `i=`.
    """

    field: HeaderField
    instance: int
    tags: Mapping[str, str]
    value: bytes

    def __str__(self) -> str:
        return f"{_WRITTEN_NAMES[self.field.name]} with i={self.instance}"


class ArcSetFields(NamedTuple):
    """The fields of one ARC set, in the order in which a seal signs them."""

    results: ArcField
    signature: ArcField
    seal: ArcField


def has_arc_fields(message: Message) -> bool:
    """Whether the message has a field of a chain, in whatever state the chain is."""
    return bool(message.all(RESULTS) or message.all(SIGNATURE) or message.all(SEAL))


def arc_sets(message: Message) -> list[ArcSetFields]:
    """The ARC sets of a message, newest first; empty without ARC fields (section 5.2 steps 1, 3.A and 3.B).

    Raises:
        Unverified: there is not one field of each kind for every instance from 1 on, at most `INSTANCES`.
    """
    if not has_arc_fields(message):
        return []
    fields_by_name: dict[str, dict[int, ArcField]] = {name: {} for name in _WRITTEN_NAMES}
    for field in message.fields:
        if field.name in fields_by_name:
            arc_field = _read_field(field)
            if arc_field.instance in fields_by_name[field.name]:
                raise Unverified("fail", f"{arc_field} is there twice")
            fields_by_name[field.name][arc_field.instance] = arc_field
    newest = max((instance for fields in fields_by_name.values() for instance in fields), default=0)
    for name, fields in fields_by_name.items():
        if missing := [instance for instance in range(1, newest + 1) if instance not in fields]:
            raise Unverified("fail", f"{_WRITTEN_NAMES[name]} with i={missing[0]} is missing")
    return [
        ArcSetFields(*(fields[instance] for fields in fields_by_name.values())) for instance in range(newest, 0, -1)
    ]


def _read_field(field: HeaderField) -> ArcField:
    """Raises Unverified if the field does not say to which set it belongs."""
    tags: Mapping[str, str] = {}
    value = b""
    if field.name == RESULTS:
        match = _INSTANCE_TAG.match(field.value)
        number = match[1].decode() if match else ""
        value = field.value[match.end() :].strip() if match else b""
    else:
        try:
            tags = field_tags(field)
        except Unverified as malformed:
            raise Unverified("fail", f"{_WRITTEN_NAMES[field.name]} is malformed: {malformed}") from None
        number = tags.get("i", "")
    instance = int(number) if _INSTANCE.match(number) else 0
    if not 1 <= instance <= INSTANCES:
        raise Unverified("fail", f"{_WRITTEN_NAMES[field.name]} without a number from 1 to {INSTANCES} (i=)")
    return ArcField(field, instance, tags, value)


def sealed_octets(sets: Iterable[Sequence[HeaderField]]) -> bytes:
    """The octets that an ARC-Seal signs before the seal itself (section 5.1.1): the fields, in relaxed form.

    Args:
        sets: oldest first, each as ARC-Authentication-Results, ARC-Message-Signature and ARC-Seal; the newest without
            its seal.
    """
    return b"".join([relaxed_field(field.raw) + b"\r\n" for fields in sets for field in fields])
