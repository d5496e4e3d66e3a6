"""The form of an ARC chain (RFC 8617): which fields of a header are its sets, and what each seal is a seal of.

Whoever validates a chain and whoever extends it has to read the same one.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from relay.authenticate.signature import relaxed_field
from relay.mail.message import HeaderField, Message
from relay.mail.tag_list import Unverified, field_tags

INSTANCES = 50  # RFC 8617 section 4.2.1

TESTIMONY, SIGNATURE, SEAL = "arc-authentication-results", "arc-message-signature", "arc-seal"
_NAMES = {TESTIMONY: "ARC-Authentication-Results", SIGNATURE: "ARC-Message-Signature", SEAL: "ARC-Seal"}
# Section 3.9: the number has one or two digits, and comments may stand around everything (RFC 5322 section 3.2.2).
_CFWS = rb"(?:[ \t]|\((?:[^()\\]|\\.)*+\))*+"
_INSTANCE = re.compile(rb"%s i %s = %s ([0-9]{1,2}) %s ;" % ((_CFWS,) * 4), re.VERBOSE | re.DOTALL)
_POSITION = re.compile(r"[0-9]{1,2}\Z")


class Member(NamedTuple):
    """One field of a chain.

    Attributes:
        instance: the number of its set.
        tags: of a signature or seal; nothing but their form was looked at yet.
        value: of ARC-Authentication-Results, unfolded, without `i=`.
    """

    field: HeaderField
    instance: int
    tags: Mapping[str, str]
    value: bytes

    def __str__(self) -> str:
        return f"{_NAMES[self.field.name]} with i={self.instance}"


class Link(NamedTuple):
    """One set, in the order in which a seal covers it."""

    testimony: Member
    signature: Member
    seal: Member


def links(message: Message) -> list[Link]:
    """The sets of a message, newest first; nothing where there is no ARC field (section 5.2 steps 1, 3.A and 3.B).

    Raises:
        Unverified: they are not one field of each kind for every instance from 1 on, at most `INSTANCES`.
    """
    found: dict[str, dict[int, Member]] = {name: {} for name in _NAMES}
    for field in message.fields:
        if field.name in found:
            member = _member(field)
            if member.instance in found[field.name]:
                raise Unverified("fail", f"{member} is there twice")
            found[field.name][member.instance] = member
    newest = max((instance for members in found.values() for instance in members), default=0)
    for name, members in found.items():
        if missing := [instance for instance in range(1, newest + 1) if instance not in members]:
            raise Unverified("fail", f"{_NAMES[name]} with i={missing[0]} is missing")
    return [Link(*(members[instance] for members in found.values())) for instance in range(newest, 0, -1)]


def _member(field: HeaderField) -> Member:
    """Raises: Unverified, if the field does not say which set it belongs to."""
    tags: Mapping[str, str] = {}
    value = b""
    if field.name == TESTIMONY:
        match = _INSTANCE.match(field.value)
        position = match[1].decode() if match else ""
        value = field.value[match.end() :].strip() if match else b""
    else:
        try:
            tags = field_tags(field)
        except Unverified as malformed:
            raise Unverified("fail", f"{_NAMES[field.name]} is malformed: {malformed}") from None
        position = tags.get("i", "")
    instance = int(position) if _POSITION.match(position) else 0
    if not 1 <= instance <= INSTANCES:
        raise Unverified("fail", f"{_NAMES[field.name]} without a number from 1 to {INSTANCES} (i=)")
    return Member(field, instance, tags, value)


def scope(sets: Iterable[Sequence[HeaderField]]) -> bytes:
    """What an ARC-Seal is a signature of, before the seal itself (section 5.1.1): the fields, relaxed.

    Args:
        sets: oldest first, each as ARC-Authentication-Results, ARC-Message-Signature and ARC-Seal; the newest without
            its seal.
    """
    return b"".join([relaxed_field(field.raw) + b"\r\n" for fields in sets for field in fields])
