"""ARC (RFC 8617): the chain in which each host that handled a message says what it saw, and whether it is whole.

A whole chain proves who sealed, not that what they say is true. Delivery here never depends on it: it can only override
a DMARC failure, and only for sealers that the administrator trusts.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

from relay.authenticate import public_key
from relay.authenticate.arc_chain import SEAL, Link, Member, links, scope
from relay.authenticate.public_key import Records
from relay.authenticate.signature import (
    Coverage,
    Header,
    check_body,
    coverage,
    relaxed_field,
    require_algorithm,
    require_one_author,
    require_usable,
    unsigned,
)
from relay.dns import Resolver
from relay.mail.message import Message
from relay.mail.reply import printable
from relay.mail.tag_list import Unverified, domain, number, octets, require, words

OLDER_SIGNATURES = 10  # before the newest that `oldest_pass` looks at: it is for the curious, and nothing hangs on it

Result = Literal["none", "pass", "fail"]


@dataclass(frozen=True, slots=True)
class ArcSet:
    """What one host added, all text in printable ASCII.

    Attributes:
        instance: its number, from 1 (the oldest) on.
        domain, selector: of its seal.
        cv: what it found of the chain before it, lower case.
        results: its ARC-Authentication-Results, unfolded, without `i=`.
        signs_author: From is among the fields that its ARC-Message-Signature signs.
    """

    instance: int
    domain: str
    selector: str
    cv: str
    results: str
    signs_author: bool = True


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


async def verify(message: Message, resolver: Resolver, now: float) -> ArcVerdict:
    """Validate the chain that a message carries (RFC 8617 section 5.2). Never raises.

    Args:
        now: seconds since 1970.
    """
    sets: tuple[ArcSet, ...] = ()
    try:
        chain = links(message)
        if not chain:
            return ArcVerdict("none")
        seals = [_seal(link.seal) for link in chain]
        sets = tuple(_shown(link) for link in chain)
        _require_continuity(sets)
        return ArcVerdict("pass", sets, await _oldest_pass(message, chain, seals, resolver, now))
    except Unverified as unverified:
        return ArcVerdict("fail", sets, problem=str(unverified), temporary=unverified.result == "temperror")


def _seal(member: Member) -> _Proof:
    """The signature of a seal (section 4.1.3).

    Raises:
        Unverified: it is malformed.
    """
    with _naming(member):
        require(member.tags, "cv")
        if "h" in member.tags:
            raise Unverified("fail", "it chooses what it seals (h=)")
        number(member.tags, "t")
        return _proof(member.tags)


def _shown(link: Link) -> ArcSet:
    """What there is to tell of a set whose seal is well-formed; `cv=` may be written in any case (section 3.9)."""
    tags, results = link.seal.tags, link.testimony.value.replace(b"\t", b" ").decode("utf-8", "replace")
    return ArcSet(
        link.seal.instance,
        domain(tags["d"]),
        domain(tags["s"]),
        printable(tags["cv"].lower(), 20),
        printable(results, len(results)),
        "from" in words(link.signature.tags.get("h", "").lower()),
    )


def _require_continuity(sets: Sequence[ArcSet]) -> None:
    """Raises: Unverified, where a sealer found the chain before it broken, or the first found one (section 5.2)."""
    for one in sets:
        expected = "none" if one.instance == 1 else "pass"
        if one.cv != expected:
            raise Unverified("fail", f"ARC-Seal with i={one.instance} says cv={one.cv}, not {expected}")


@contextmanager
def _naming(member: Member) -> Iterator[None]:
    """Says which field a problem is one of."""
    try:
        yield
    except Unverified as unverified:
        raise Unverified(unverified.result, f"{member}: {unverified}") from None


@dataclass(frozen=True, slots=True)
class _Proof:
    """The signature itself that the tags of a field hold."""

    algorithm: str
    record_name: str
    octets: bytes

    def check(self, keys: Mapping[str, Records], data: bytes) -> None:
        """Raises: Unverified, if its key did not make it of these canonical octets."""
        public_key.verify(keys[self.record_name], self.algorithm, self.octets, data)


def _proof(tags: Mapping[str, str]) -> _Proof:
    """Raises: Unverified, if it is malformed, or of an algorithm that proves nothing."""
    require(tags, "a", "b", "d", "s")
    require_algorithm(tags["a"])
    return _Proof(tags["a"], public_key.record_name(domain(tags["s"]), domain(tags["d"])), octets(tags, "b"))


@dataclass(frozen=True, slots=True)
class _MessageSignature:
    """An ARC-Message-Signature of the body that is there: what remains to be looked at are the key and the header."""

    member: Member
    proof: _Proof
    covered: Coverage

    def check(self, keys: Mapping[str, Records], header: Header) -> None:
        """Raises: Unverified, if it is not one of this header."""
        with _naming(self.member):
            self.proof.check(keys, header.signed(self.covered, self.member.field))


async def _message_signature(message: Message, member: Member, now: float) -> _MessageSignature:
    """What section 4.1.2 asks of the field itself, and the body.

    Of the ARC fields that it must not sign only ARC-Seal breaks it: signers of the first drafts signed the others. The
    published validation suite has it relaxed where `c=` is missing, and takes one that signs no field at all.

    Raises:
        Unverified: it is malformed, out of time, of another body, or signs what does not count.
    """
    with _naming(member):
        proof = _proof(member.tags)
        require_usable(member.tags, now)
        covered = coverage(member.tags, default="relaxed/relaxed")
        if SEAL in covered.names:
            raise Unverified("fail", "it signs ARC-Seal")
        await check_body(message, covered)
    return _MessageSignature(member, proof, covered)


async def _oldest_pass(
    message: Message, chain: Sequence[Link], seals: Sequence[_Proof], resolver: Resolver, now: float
) -> int:
    """Validate the signatures (section 5.2 steps 4 to 7), newest first; returns the oldest-pass value (step 5).

    DNS is asked twice at most, for each name once: for the newest set, and for the rest once that is good.

    Raises:
        Unverified: the newest message signature is not valid, or some seal.
    """
    require_one_author(message)
    newest = await _message_signature(message, chain[0].signature, now)
    below = _scopes(chain)
    header = Header(message)
    keys = await public_key.look_up(resolver, [newest.proof.record_name, seals[0].record_name])
    newest.check(keys, header)
    _check_seal(chain[0].seal, seals[0], keys, next(below))
    older = await _older_signatures(message, chain[1:], now)
    names = [seal.record_name for seal in seals[1:]] + [signature.proof.record_name for signature in older]
    keys |= await public_key.look_up(resolver, [name for name in names if name not in keys])
    for link, seal in zip(chain[1:], seals[1:], strict=True):
        await asyncio.sleep(0)  # each may take two milliseconds, where the header is as long as it may be
        _check_seal(link.seal, seal, keys, next(below))
    oldest = chain[await _valid(older, keys, header)].seal.instance
    return 0 if oldest == 1 else oldest


def _scopes(chain: Sequence[Link]) -> Iterator[bytes]:
    """What each seal is a signature of, newest first. Every field is canonicalized once."""
    pieces: list[bytes] = []
    ends: list[int] = []
    for link in reversed(chain):
        pieces.append(scope([(link.testimony.field, link.signature.field)]))
        ends.append(len(pieces))
        pieces.append(scope([(link.seal.field,)]))
    for link, end in zip(chain, reversed(ends), strict=True):
        yield b"".join([*pieces[:end], relaxed_field(unsigned(link.seal.field))])


def _check_seal(member: Member, seal: _Proof, keys: Mapping[str, Records], data: bytes) -> None:
    with _naming(member):
        seal.check(keys, data)


async def _older_signatures(message: Message, older: Sequence[Link], now: float) -> list[_MessageSignature]:
    """The message signatures before the newest that may yet be valid, down to the first that is not."""
    found = []
    for link in older[:OLDER_SIGNATURES]:
        try:
            found.append(await _message_signature(message, link.signature, now))
        except Unverified:
            break
    return found


async def _valid(signatures: Sequence[_MessageSignature], keys: Mapping[str, Records], header: Header) -> int:
    """How many of them are valid before the first that is not."""
    for count, signature in enumerate(signatures):
        await asyncio.sleep(0)
        try:
            signature.check(keys, header)
        except Unverified:
            return count
    return len(signatures)
