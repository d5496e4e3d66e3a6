"""ARC (RFC 8617): validates the chain in which each host that handled a message says what it saw.

A valid chain proves who sealed, not that what the sealers say is true. Delivery here never depends on it: it can only
override a DMARC failure, and only for sealers that the administrator trusts.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

from relay.authenticate import public_key
from relay.authenticate.arc_chain import SEAL, ArcField, ArcSetFields, arc_sets, sealed_octets
from relay.authenticate.public_key import Records
from relay.authenticate.signature import (
    Header,
    SignedContent,
    check_body,
    relaxed_field,
    require_algorithm,
    require_one_author,
    require_usable,
    signed_content,
    without_signature,
)
from relay.dns import Resolver
from relay.mail.message import Message
from relay.mail.reply import printable
from relay.mail.tag_list import Unverified, domain, number, octets, require, words

OLDER_SIGNATURES = 10  # before the newest that are checked for `oldest_pass`, which only informs: no decision needs it

Result = Literal["none", "pass", "fail"]


@dataclass(frozen=True, slots=True)
class ArcSet:
    """One ARC set: what one host added. All text is printable ASCII.

    Attributes:
        instance: the number of the set, from 1 (the oldest) on.
        domain, selector: of the seal.
        cv: the sealer's result for the chain before this set, in lower case.
        results: the ARC-Authentication-Results, unfolded, without `i=`.
        signs_author: the ARC-Message-Signature signs From.
    """

    instance: int
    domain: str
    selector: str
    cv: str
    results: str
    signs_author: bool = True


@dataclass(frozen=True, slots=True)
class ArcVerdict:
    """The result for a chain.

    Attributes:
        result: RFC 8617 section 5.2; `none` where there is no chain.
        sets: newest first; empty for a malformed chain.
        oldest_pass: the oldest instance from which on every message signature that was checked is valid; 0 if all are,
            and where the chain did not pass.
        problem: why the chain did not pass.
        temporary: the chain did not pass because DNS did not answer, so the failure should not count against it.
    """

    result: Result
    sets: tuple[ArcSet, ...] = ()
    oldest_pass: int = 0
    problem: str = ""
    temporary: bool = False


async def verify(message: Message, resolver: Resolver, now: float) -> ArcVerdict:
    """Validate the chain that a message carries (RFC 8617 section 5.2). Never raises.

    Args:
        now: seconds since 1970.
    """
    sets: tuple[ArcSet, ...] = ()
    try:
        chain = arc_sets(message)
        if not chain:
            return ArcVerdict("none")
        seals = [_read_seal(fields.seal) for fields in chain]
        sets = tuple(_arc_set(fields) for fields in chain)
        _require_continuity(sets)
        return ArcVerdict("pass", sets, await _oldest_pass(message, chain, seals, resolver, now))
    except Unverified as unverified:
        return ArcVerdict("fail", sets, problem=str(unverified), temporary=unverified.result == "temperror")


def _read_seal(seal: ArcField) -> _SignatureTags:
    """Reads the signature of a seal (section 4.1.3).

    Raises:
        Unverified: the seal is malformed.
    """
    with _problems_name(seal):
        require(seal.tags, "cv")
        if "h" in seal.tags:
            raise Unverified("fail", "it chooses what it seals (h=)")
        number(seal.tags, "t")
        return _read_signature(seal.tags)


def _arc_set(fields: ArcSetFields) -> ArcSet:
    """Describes a set whose seal is well-formed; `cv=` may be written in any case (section 3.9)."""
    tags, results = fields.seal.tags, fields.results.value.replace(b"\t", b" ").decode("utf-8", "replace")
    return ArcSet(
        fields.seal.instance,
        domain(tags["d"]),
        domain(tags["s"]),
        printable(tags["cv"].lower(), 20),
        printable(results, len(results)),
        "from" in words(fields.signature.tags.get("h", "").lower()),
    )


def _require_continuity(sets: Sequence[ArcSet]) -> None:
    """Raises Unverified if a `cv=` is not the one that section 5.2 wants: `none` in the first set, `pass` in others."""
    for arc_set in sets:
        expected = "none" if arc_set.instance == 1 else "pass"
        if arc_set.cv != expected:
            raise Unverified("fail", f"ARC-Seal with i={arc_set.instance} says cv={arc_set.cv}, not {expected}")


@contextmanager
def _problems_name(field: ArcField) -> Iterator[None]:
    """Adds the name of the field to every `Unverified` that is raised inside."""
    try:
        yield
    except Unverified as unverified:
        raise Unverified(unverified.result, f"{field}: {unverified}") from None


@dataclass(frozen=True, slots=True)
class _SignatureTags:
    """The signature in the tags of a field, and where its key is."""

    algorithm: str
    record_name: str
    octets: bytes

    def check(self, keys: Mapping[str, Records], data: bytes) -> None:
        """Raises Unverified if no key made the signature of these canonical octets."""
        public_key.verify(keys[self.record_name], self.algorithm, self.octets, data)


def _read_signature(tags: Mapping[str, str]) -> _SignatureTags:
    """Raises Unverified if the signature is malformed or its algorithm is not accepted."""
    require(tags, "a", "b", "d", "s")
    require_algorithm(tags["a"])
    return _SignatureTags(tags["a"], public_key.record_name(domain(tags["s"]), domain(tags["d"])), octets(tags, "b"))


@dataclass(frozen=True, slots=True)
class _MessageSignature:
    """An ARC-Message-Signature that fits the body; its key and the header are not checked yet."""

    field: ArcField
    tags: _SignatureTags
    content: SignedContent

    def check(self, keys: Mapping[str, Records], header: Header) -> None:
        """Raises Unverified if it is not a signature of this header."""
        with _problems_name(self.field):
            self.tags.check(keys, header.signed(self.content, self.field.field))


async def _message_signature(message: Message, field: ArcField, now: float) -> _MessageSignature:
    """Checks the field itself (section 4.1.2) and the body.

    Of the ARC fields that it must not sign only ARC-Seal is refused: signers of the first drafts signed the others. As
    in the published validation suite, a missing `c=` means relaxed, and `h=` may be empty.

    Raises:
        Unverified: the field is malformed, expired, of another body, or signs what it must not.
    """
    with _problems_name(field):
        tags = _read_signature(field.tags)
        require_usable(field.tags, now)
        content = signed_content(field.tags, default="relaxed/relaxed")
        if SEAL in content.names:
            raise Unverified("fail", "it signs ARC-Seal")
        await check_body(message, content)
    return _MessageSignature(field, tags, content)


async def _oldest_pass(
    message: Message, chain: Sequence[ArcSetFields], seals: Sequence[_SignatureTags], resolver: Resolver, now: float
) -> int:
    """Validates the signatures, newest first (section 5.2 steps 4 to 7); returns the oldest-pass value (step 5).

    Keys are looked up twice at most, each name once: those of the newest set, and the rest if that set is valid.

    Raises:
        Unverified: the newest message signature or some seal is not valid.
    """
    require_one_author(message)
    newest = await _message_signature(message, chain[0].signature, now)
    sealed = _sealed_by_each(chain)
    header = Header(message)
    keys = await public_key.look_up(resolver, [newest.tags.record_name, seals[0].record_name])
    newest.check(keys, header)
    _check_seal(chain[0].seal, seals[0], keys, next(sealed))
    older = await _older_signatures(message, chain[1:], now)
    names = [seal.record_name for seal in seals[1:]] + [signature.tags.record_name for signature in older]
    keys |= await public_key.look_up(resolver, [name for name in names if name not in keys])
    for fields, seal in zip(chain[1:], seals[1:], strict=True):
        await asyncio.sleep(0)  # with the longest header each seal may take two milliseconds
        _check_seal(fields.seal, seal, keys, next(sealed))
    oldest = chain[await _count_valid(older, keys, header)].seal.instance
    return 0 if oldest == 1 else oldest


def _sealed_by_each(chain: Sequence[ArcSetFields]) -> Iterator[bytes]:
    """The octets that each seal signs, newest first. Every field is canonicalized once."""
    pieces: list[bytes] = []
    ends: list[int] = []
    for fields in reversed(chain):
        pieces.append(sealed_octets([(fields.results.field, fields.signature.field)]))
        ends.append(len(pieces))
        pieces.append(sealed_octets([(fields.seal.field,)]))
    for fields, end in zip(chain, reversed(ends), strict=True):
        yield b"".join([*pieces[:end], relaxed_field(without_signature(fields.seal.field))])


def _check_seal(field: ArcField, seal: _SignatureTags, keys: Mapping[str, Records], data: bytes) -> None:
    with _problems_name(field):
        seal.check(keys, data)


async def _older_signatures(message: Message, older: Sequence[ArcSetFields], now: float) -> list[_MessageSignature]:
    """The message signatures before the newest, up to the first that cannot be valid."""
    signatures = []
    for fields in older[:OLDER_SIGNATURES]:
        try:
            signatures.append(await _message_signature(message, fields.signature, now))
        except Unverified:
            break
    return signatures


async def _count_valid(signatures: Sequence[_MessageSignature], keys: Mapping[str, Records], header: Header) -> int:
    """How many of the signatures are valid, up to the first that is not."""
    for count, signature in enumerate(signatures):
        await asyncio.sleep(0)
        try:
            signature.check(keys, header)
        except Unverified:
            return count
    return len(signatures)
