"""ARC (RFC 8617): the chain in which each host that handled a message says what it saw, and whether it is whole.

A whole chain proves who sealed, not that what they say is true. Delivery here never depends on it: it can only override
a DMARC failure, and only for sealers that the administrator trusts.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

from relay.authenticate import public_key
from relay.authenticate.public_key import Records
from relay.authenticate.signature import Coverage, Header, check_body, coverage, relaxed_field, unsigned
from relay.authenticate.tags import Unverified, domain, field_tags, number, octets, require
from relay.dns import Resolver
from relay.message import HeaderField, Message
from relay.reply import printable

INSTANCES = 50  # RFC 8617 section 4.2.1
OLDER_SIGNATURES = 4  # before the newest that `oldest_pass` looks at: it is for the curious, and nothing hangs on it
ALGORITHM = "rsa-sha256"  # RFC 8617 section 4.1: that of DKIM, and no other was ever seen in a chain

_TESTIMONY, _SIGNATURE, _SEAL = "arc-authentication-results", "arc-message-signature", "arc-seal"
SET = (_TESTIMONY, _SIGNATURE, _SEAL)
_NAMES = {_TESTIMONY: "ARC-Authentication-Results", _SIGNATURE: "ARC-Message-Signature", _SEAL: "ARC-Seal"}
_INSTANCE = re.compile(rb"\s*i\s*=\s*([0-9]{1,3})\s*;(.*)\Z", re.DOTALL)

Result = Literal["none", "pass", "fail"]


@dataclass(frozen=True, slots=True)
class ArcSet:
    """What one host added, all text in printable ASCII.

    Attributes:
        instance: its number, from 1 (the oldest) on.
        domain, selector: of its seal.
        cv: what it found of the chain before it.
        results: its ARC-Authentication-Results, unfolded, without `i=`.
    """

    instance: int
    domain: str
    selector: str
    cv: str
    results: str


@dataclass(frozen=True, slots=True)
class ArcVerdict:
    """What a chain is worth.

    Attributes:
        result: RFC 8617 section 5.2; `none` where there is no chain.
        sets: newest first; those of a malformed chain are left out.
        oldest_pass: the oldest instance from which on every message signature is valid (0 is all of them), as far as
            was looked; 0 also where the chain did not pass.
        problem: why it did not.
        temporary: it did not because DNS did not answer: nobody should hold that against it.
    """

    result: Result
    sets: tuple[ArcSet, ...] = ()
    oldest_pass: int = 0
    problem: str = ""
    temporary: bool = False


@dataclass(frozen=True, slots=True)
class _Link:
    """One set as it stands in the header, its tags read."""

    instance: int
    testimony: HeaderField
    signature: HeaderField
    seal: HeaderField
    signature_tags: Mapping[str, str]
    seal_tags: Mapping[str, str]

    def shown(self) -> ArcSet:
        tags = self.seal_tags
        found = _INSTANCE.match(self.testimony.value)
        results = found[2].decode("utf-8", "replace") if found else ""
        return ArcSet(
            self.instance, domain(tags["d"]), domain(tags["s"]), tags["cv"], printable(results.strip(), len(results))
        )

    def key_name(self, tags: Mapping[str, str]) -> str:
        return public_key.record_name(domain(tags["s"]), domain(tags["d"]))


async def verify(message: Message, resolver: Resolver, now: float) -> ArcVerdict:
    """Validate the chain that a message carries (RFC 8617 section 5.2). Never raises.

    Args:
        now: seconds since 1970.
    """
    sets: tuple[ArcSet, ...] = ()
    try:
        chain = _chain(message)
        if not chain:
            return ArcVerdict("none")
        sets = tuple(link.shown() for link in chain)
        _require_continuity(chain)
        header = Header(message)
        newest = chain[0]
        covered = _coverage(newest)
        await check_body(message, covered)
        names = [newest.key_name(newest.signature_tags), *(link.key_name(link.seal_tags) for link in chain)]
        keys = await public_key.look_up(resolver, names)
        _check_signature(newest, covered, header, keys[names[0]])
        for position, link in enumerate(chain):
            _check_seal(chain[position:], keys[link.key_name(link.seal_tags)])
            await asyncio.sleep(0)
    except Unverified as unverified:
        return ArcVerdict("fail", sets, problem=str(unverified), temporary=unverified.result == "temperror")
    return ArcVerdict("pass", sets, await _oldest_pass(message, chain, header, resolver))


# --- the form of a chain ----------------------------------------------------------------------------------------------


def _chain(message: Message) -> list[_Link]:
    """The sets, newest first; nothing where there is no ARC field.

    Raises:
        Unverified: they are not one field of each kind for every instance from 1 on, or their tags are malformed.
    """
    found: dict[str, dict[int, HeaderField]] = {name: {} for name in _NAMES}
    count = 0
    for field in message.fields:
        if field.name in found:
            count += 1
            if count > INSTANCES * len(_NAMES):
                raise Unverified("fail", f"more than {INSTANCES} sets")
            instance = instance_of(field)
            if instance in found[field.name]:
                raise Unverified("fail", f"{_NAMES[field.name]} with i={instance} is there twice")
            found[field.name][instance] = field
    instances = range(max((n for fields in found.values() for n in fields), default=0), 0, -1)
    for name, fields in found.items():
        if missing := [n for n in instances if n not in fields]:
            raise Unverified("fail", f"{_NAMES[name]} with i={missing[-1]} is missing")
    return [_link(found, instance) for instance in instances]


def instance_of(field: HeaderField) -> int:
    """The number of the set that an ARC field belongs to.

    Raises:
        Unverified: it has none.
    """
    if field.name == _TESTIMONY:
        match = _INSTANCE.match(field.value)
        instance = int(match[1]) if match else None
    else:
        instance = number(field_tags(field), "i")
    if instance is None or not 1 <= instance <= INSTANCES:
        raise Unverified("fail", f"{_NAMES[field.name]} without a number from 1 to {INSTANCES} (i=)")
    return instance


def _link(found: Mapping[str, Mapping[int, HeaderField]], instance: int) -> _Link:
    signature, seal = found[_SIGNATURE][instance], found[_SEAL][instance]
    signature_tags, seal_tags = field_tags(signature), field_tags(seal)
    require(signature_tags, "a", "b", "bh", "d", "h", "s")
    require(seal_tags, "a", "b", "cv", "d", "s")
    if "h" in seal_tags:
        raise Unverified("fail", f"ARC-Seal with i={instance} chooses what it seals (h=)")
    for tags in (signature_tags, seal_tags):
        domain(tags["d"])
        domain(tags["s"])
    return _Link(instance, found[_TESTIMONY][instance], signature, seal, signature_tags, seal_tags)


def _require_continuity(chain: Sequence[_Link]) -> None:
    """Raises: Unverified, where a sealer found the chain before it broken, or the first found one (section 5.2)."""
    for link in chain:
        expected = "none" if link.instance == 1 else "pass"
        if link.seal_tags["cv"] != expected:
            found = link.seal_tags["cv"][:20]
            raise Unverified("fail", f"ARC-Seal with i={link.instance} says cv={found}, not {expected}")


# --- its signatures ---------------------------------------------------------------------------------------------------


def _coverage(link: _Link) -> Coverage:
    """What the message signature covers (section 4.1.2).

    Raises:
        Unverified: it does not cover From, or covers seals, or is malformed.
    """
    _require_algorithm(link.signature_tags)
    covered = coverage(link.signature_tags)
    if _SEAL in covered.names:
        raise Unverified("fail", f"ARC-Message-Signature with i={link.instance} signs ARC-Seal")
    if "from" not in covered.names:
        raise Unverified("fail", f"ARC-Message-Signature with i={link.instance} does not sign From")
    return covered


def _check_signature(link: _Link, covered: Coverage, header: Header, records: Records) -> None:
    with _naming(_SIGNATURE, link.instance):
        data = header.signed(covered, link.signature)
        public_key.verify(records, ALGORITHM, octets(link.signature_tags, "b"), data)


def _check_seal(chain: Sequence[_Link], records: Records) -> None:
    """Whether the newest seal of a chain is one of all that is below it (section 5.1.1)."""
    newest = chain[0]
    _require_algorithm(newest.seal_tags)
    with _naming(_SEAL, newest.instance):
        below = [(link.testimony, link.signature, link.seal) for link in reversed(chain[1:])]
        data = relaxed_sets([*below, (newest.testimony, newest.signature)]) + relaxed_field(unsigned(newest.seal))
        public_key.verify(records, ALGORITHM, octets(newest.seal_tags, "b"), data)


def relaxed_sets(sets: Iterable[Sequence[HeaderField]]) -> bytes:
    """What an ARC-Seal is a signature of, before the seal itself: the fields below it, oldest set first, relaxed.

    Args:
        sets: ARC-Authentication-Results, ARC-Message-Signature and ARC-Seal of each instance; the newest without its
            seal.
    """
    return b"".join([relaxed_field(field.raw) + b"\r\n" for fields in sets for field in fields])


def _require_algorithm(tags: Mapping[str, str]) -> None:
    if tags["a"] != ALGORITHM:
        raise Unverified("fail", f"algorithm {tags['a'][:40]}, not {ALGORITHM}")


@contextmanager
def _naming(name: str, instance: int) -> Iterator[None]:
    """Says which field a problem is one of."""
    try:
        yield
    except Unverified as unverified:
        raise Unverified(unverified.result, f"{_NAMES[name]} with i={instance}: {unverified}") from None


async def _oldest_pass(message: Message, chain: Sequence[_Link], header: Header, resolver: Resolver) -> int:
    """RFC 8617 section 5.2 step 5: one above the newest set whose signature is not valid; 0 where all are."""
    older = chain[1:]
    for looked_at, link in enumerate(older):
        if looked_at == OLDER_SIGNATURES:
            return link.instance + 1
        try:
            covered = _coverage(link)
            await check_body(message, covered)
            name = link.key_name(link.signature_tags)
            keys = await public_key.look_up(resolver, [name])
            _check_signature(link, covered, header, keys[name])
        except Unverified:
            return link.instance + 1
    return 0
