"""DKIM (RFC 6376) verification, with the algorithms of RFC 8301 and RFC 8463: each signature and what it is worth.

`pass` is for what a reader sees: a signature that leaves a part of the body open gets none, nor does any signature of a
message that shows more than one author, whatever the arithmetic says.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, replace

from relay.authenticate import public_key
from relay.authenticate.signature import (
    Coverage,
    Header,
    check_body,
    coverage,
    require_algorithm,
    require_one_author,
    require_usable,
)
from relay.dns import Resolver
from relay.mail.message import HeaderField, Message
from relay.mail.reply import printable
from relay.mail.tag_list import Result as Result
from relay.mail.tag_list import Unverified, domain, field_tags, octets, require

SIGNATURES = 10  # of one message that are verified, from the top; honest mail has up to four


@dataclass(frozen=True, slots=True)
class DkimVerdict:
    """What one signature is worth, all text in printable ASCII.

    Attributes:
        result: RFC 8601 section 2.7.1. `fail`: changed on the way, or never signed by this domain; `permerror`: the
            signer's or the domain's mistake; `policy`: perhaps valid, and not to be counted all the same.
        domain: `d=` in A-labels; empty where unreadable.
        selector: `s=`, likewise.
        algorithm: `a=`.
        identity: `i=`, or `@` and the domain where it is not there.
        signature: the beginning of `b=`, which tells signatures apart (RFC 6008).
        problem: why it is no pass.
        testing: on pass, whether the domain says that it is only testing DKIM (`t=y` in the key record).
    """

    result: Result
    domain: str = ""
    selector: str = ""
    algorithm: str = ""
    identity: str = ""
    signature: str = ""
    problem: str = ""
    testing: bool = False


@dataclass(frozen=True, slots=True)
class _Signature:
    """A field that is well-formed and in time; what remains to be looked at are the key and the header."""

    field: HeaderField
    domain: str
    identity_domain: str
    record_name: str
    algorithm: str
    octets: bytes
    covered: Coverage


async def verify(message: Message, resolver: Resolver, now: float) -> tuple[DkimVerdict, ...]:
    """A verdict for each DKIM-Signature, top to bottom; nothing where there is none. Never raises.

    DNS is asked for the keys of those that may yet pass, all at the same time. The fields beyond `SIGNATURES` have one
    verdict together, `policy`.

    Args:
        now: seconds since 1970.
    """
    fields = message.all("dkim-signature")
    verdicts: list[DkimVerdict] = []
    hopeful: dict[int, _Signature] = {}
    for position, field in enumerate(fields[:SIGNATURES]):
        verdict = DkimVerdict("neutral")
        try:
            tags = field_tags(field)
            verdict = _named(tags)
            signature = _read(field, tags, now)
            require_one_author(message)
            await check_body(message, signature.covered)
            hopeful[position] = signature
        except Unverified as unverified:
            verdict = replace(verdict, result=unverified.result, problem=str(unverified))
        verdicts.append(verdict)
    if hopeful:
        keys = await public_key.look_up(resolver, [signature.record_name for signature in hopeful.values()])
        header = Header(message)
        for position, signature in hopeful.items():
            verdicts[position] = _verified(verdicts[position], signature, keys[signature.record_name], header)
            await asyncio.sleep(0)  # each may take two milliseconds, where the header is as long as it may be
    if len(fields) > SIGNATURES:
        rest = f"{len(fields) - SIGNATURES} more signatures than the {SIGNATURES} that are looked at"
        verdicts.append(DkimVerdict("policy", problem=rest))
    return tuple(verdicts)


def _named(tags: Mapping[str, str]) -> DkimVerdict:
    """What the tags say of the signature, as far as they can be read."""
    signer = _legible(tags.get("d", ""))
    local, at, host = tags.get("i", "").rpartition("@")
    host = _legible(host) if at else signer
    return DkimVerdict(
        "neutral",
        signer,
        _legible(tags.get("s", "")),
        printable(tags.get("a", ""), 40),
        f"{printable(local)}@{host}" if host else "",
        printable("".join(tags.get("b", "")[:40].split()), 8),
    )


def _legible(name: str) -> str:
    try:
        return domain(name)
    except Unverified:
        return ""


def _read(field: HeaderField, tags: Mapping[str, str], now: float) -> _Signature:
    """What RFC 6376 section 6.1.1 asks of the field itself.

    Raises:
        Unverified: it is malformed, out of date, or signs what does not count.
    """
    require(tags, "v", "a", "b", "bh", "d", "h", "s")
    if tags["v"] != "1":
        raise Unverified("permerror", f"unknown version: {tags['v'][:40]!r}")
    require_algorithm(tags["a"])
    signer = domain(tags["d"])
    if "." not in signer:
        raise Unverified("permerror", f"d={signer} is a single label")
    _, at, host = tags.get("i", f"@{signer}").rpartition("@")
    identity = domain(host)
    if not at or not f".{identity}".endswith(f".{signer}"):
        raise Unverified("permerror", f"the identity (i=) is not within {signer}")
    require_usable(tags, now)
    covered = coverage(tags)
    if "from" not in covered.names:
        raise Unverified("permerror", "From is not signed")
    record_name = public_key.record_name(domain(tags["s"]), signer)
    return _Signature(field, signer, identity, record_name, tags["a"], octets(tags, "b"), covered)


def _verified(verdict: DkimVerdict, signature: _Signature, records: public_key.Records, header: Header) -> DkimVerdict:
    """The verdict on the key and the header (RFC 6376 sections 6.1.2 and 6.1.3)."""
    try:
        data = header.signed(signature.covered, signature.field)
        key = public_key.verify(records, signature.algorithm, signature.octets, data)
        if "s" in key.flags and signature.identity_domain != signature.domain:
            raise Unverified("permerror", f"the key is for {signature.domain} itself only (t=s)")
    except Unverified as unverified:
        return replace(verdict, result=unverified.result, problem=str(unverified))
    return replace(verdict, result="pass", testing="y" in key.flags)
