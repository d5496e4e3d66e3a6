"""DKIM (RFC 6376) verification, with the algorithms of RFC 8301 and RFC 8463: a verdict on each signature.

`pass` is a statement about what a reader sees. So a signature that leaves a part of the body unsigned does not pass,
nor does any signature of a message with several From fields, even if its arithmetic is right.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import NamedTuple

from relay.authenticate import public_key
from relay.authenticate.signature import (
    Header,
    SignedContent,
    check_body,
    require_algorithm,
    require_one_author,
    require_usable,
    signed_content,
)
from relay.dns import Resolver
from relay.mail.message import HeaderField, Message
from relay.mail.reply import printable
from relay.mail.tag_list import Result as Result
from relay.mail.tag_list import Unverified, domain, field_tags, octets, require

SIGNATURES = 10  # of one message that are verified, from the top; honest mail has up to four


class DkimVerdict(NamedTuple):
    """The verdict on one signature. All text is printable ASCII.

    Attributes:
        result: RFC 8601 section 2.7.1. `fail`: changed on the way, or never signed by this domain; `permerror`: a
            mistake of the signer or the domain; `policy`: perhaps valid, but not accepted here.
        domain: `d=` in A-labels; empty where unreadable.
        selector: `s=`, likewise.
        algorithm: `a=`.
        identity: `i=`, or `@` and the domain where there is none.
        signature: the beginning of `b=`, which tells signatures apart (RFC 6008).
        problem: why the signature does not pass.
        testing: on pass, the domain says that it only tests DKIM (`t=y` in the key record).
    """

    result: Result
    domain: str = ""
    selector: str = ""
    algorithm: str = ""
    identity: str = ""
    signature: str = ""
    problem: str = ""
    testing: bool = False


class _Signature(NamedTuple):
    """A field that is well-formed and not expired; its key and the header are not checked yet."""

    field: HeaderField
    domain: str
    identity_domain: str
    record_name: str
    algorithm: str
    octets: bytes
    content: SignedContent


async def verify(message: Message, resolver: Resolver, now: float) -> tuple[DkimVerdict, ...]:
    """Verifies every DKIM-Signature; a verdict for each, top to bottom. Never raises.

    All keys are looked up at the same time, and only those of signatures that may still pass. The fields beyond
    `SIGNATURES` share one verdict, `policy`.

    Args:
        now: seconds since 1970.
    """
    fields = message.all("dkim-signature")
    verdicts: list[DkimVerdict] = []
    unverified_signatures: dict[int, _Signature] = {}
    for position, field in enumerate(fields[:SIGNATURES]):
        verdict = DkimVerdict("neutral")
        try:
            tags = field_tags(field)
            verdict = _described(tags)
            signature = _read_signature(field, tags, verdict, now)
            require_one_author(message)
            await check_body(message, signature.content)
            unverified_signatures[position] = signature
        except Unverified as unverified:
            verdict = verdict._replace(result=unverified.result, problem=str(unverified))
        verdicts.append(verdict)
    if unverified_signatures:
        names = [signature.record_name for signature in unverified_signatures.values()]
        keys = await public_key.look_up(resolver, names)
        header = Header(message)
        for number, (position, signature) in enumerate(unverified_signatures.items()):
            if number:
                await asyncio.sleep(0)  # with the longest header each signature may take two milliseconds
            verdicts[position] = _verified(verdicts[position], signature, keys[signature.record_name], header)
    if len(fields) > SIGNATURES:
        problem = f"{len(fields) - SIGNATURES} more signatures than the {SIGNATURES} that are looked at"
        verdicts.append(DkimVerdict("policy", problem=problem))
    return tuple(verdicts)


def _described(tags: Mapping[str, str]) -> DkimVerdict:
    """What the tags say of the signature, as far as they can be read."""
    signer = _readable_domain(tags.get("d", ""))
    local, at, host = tags.get("i", "").rpartition("@")
    host = _readable_domain(host) if at else signer
    return DkimVerdict(
        "neutral",
        signer,
        _readable_domain(tags.get("s", "")),
        printable(tags.get("a", ""), 40),
        f"{printable(local)}@{host}" if host else "",
        printable("".join(tags.get("b", "")[:40].split()), 8),
    )


def _readable_domain(name: str) -> str:
    try:
        return domain(name)
    except Unverified:
        return ""


def _read_signature(field: HeaderField, tags: Mapping[str, str], described: DkimVerdict, now: float) -> _Signature:
    """Checks the field itself (RFC 6376 section 6.1.1).

    Args:
        described: the names in its tags, as far as they can be read; `domain` says what is wrong with the others.

    Raises:
        Unverified: the field is malformed, expired, or signs what does not count.
    """
    require(tags, "v", "a", "b", "bh", "d", "h", "s")
    if tags["v"] != "1":
        raise Unverified("permerror", f"unknown version: {tags['v'][:40]!r}")
    require_algorithm(tags["a"])
    signer = described.domain or domain(tags["d"])
    if "." not in signer:
        raise Unverified("permerror", f"d={signer} is a single label")
    identity = signer
    if "i" in tags:
        _, at, host = tags["i"].rpartition("@")
        identity = domain(host)
        if not at or not f".{identity}".endswith(f".{signer}"):
            raise Unverified("permerror", f"the identity (i=) is not within {signer}")
    require_usable(tags, now)
    content = signed_content(tags)
    if "from" not in content.names:
        raise Unverified("permerror", "From is not signed")
    record_name = public_key.record_name(described.selector or domain(tags["s"]), signer)
    return _Signature(field, signer, identity, record_name, tags["a"], octets(tags, "b"), content)


def _verified(verdict: DkimVerdict, signature: _Signature, records: public_key.Records, header: Header) -> DkimVerdict:
    """The verdict after the check of key and header (RFC 6376 sections 6.1.2 and 6.1.3)."""
    try:
        data = header.signed(signature.content, signature.field)
        key = public_key.verify(records, signature.algorithm, signature.octets, data)
        if "s" in key.flags and signature.identity_domain != signature.domain:
            raise Unverified("permerror", f"the key is for {signature.domain} itself only (t=s)")
    except Unverified as unverified:
        return verdict._replace(result=unverified.result, problem=str(unverified))
    return verdict._replace(result="pass", testing="y" in key.flags)
