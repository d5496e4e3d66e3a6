"""Our ARC set (RFC 8617): what we saw of a message, a signature of it as it leaves us, and a seal over the whole chain.

ARC is on its way to Historic at the IETF, but large receivers still read it, and it is all that can tell them of SPF at
the first hop. Nothing of ours depends on anybody believing it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal

from relay.authenticate.arc import INSTANCES, SET, instance_of, relaxed_sets
from relay.message import HeaderField, Message, digest_text
from relay.sign.dkim import FIELD_OCTETS, canonical_fields, covered
from relay.sign.field import names_tag, signed_field
from relay.sign.keys import SigningKey


def seal(
    message: Message,
    on_top: bytes,
    results: bytes,
    found: Literal["none", "pass"],
    instance: int,
    key: SigningKey,
    now: int,
) -> bytes:
    """The three fields of our set, each with its CRLF, to stand above everything else.

    Args:
        message: as it leaves.
        on_top: DKIM-Signature fields of ours that stand above it; like all others they are signed.
        results: the value of our Authentication-Results.
        found: what the chain was worth when it came (`cv=`); a failed one is not to be extended (section 5.1.2).
        instance: the number of our set.
        key: RSA.
        now: seconds since 1970, for `t=`.

    Returns:
        Nothing (`b""`) for a message without exactly one From, and for a chain that is as long as it may be.
    """
    fields = canonical_fields((*Message(on_top).fields, *message.fields), also=("dkim-signature",))
    if len(fields.get("from", ())) != 1 or instance > INSTANCES:
        return b""
    testimony = b"ARC-Authentication-Results: i=%d; %s\r\n" % (instance, _folded(results))
    header, names = covered(fields)
    body_hash = digest_text(message.relaxed_body_hash)
    signature = signed_field(
        "ARC-Message-Signature", _signature_tags(instance, body_hash, names, key, now), header, key
    )
    ours = (HeaderField(SET[0], testimony), HeaderField(SET[1], signature))
    below = relaxed_sets([*_chain(message, instance), ours])
    return signed_field("ARC-Seal", _seal_tags(instance, found, key, now), below, key) + signature + testimony


def octets(key: SigningKey) -> int:
    """How long a set may get besides the results that it repeats, to announce a message's size (RFC 1870)."""
    return 2 * (FIELD_OCTETS + key.signature_octets * 3 // 2)


def _chain(message: Message, instance: int) -> Iterator[Sequence[HeaderField]]:
    """The sets below ours, oldest first; the chain is known to be whole."""
    found: dict[tuple[str, int], HeaderField] = {}
    for field in message.fields:
        if field.name in SET:
            found[field.name, instance_of(field)] = field
    for number in range(1, instance):
        yield [found[name, number] for name in SET]


def _folded(value: bytes) -> bytes:
    """A value that was unfolded at its tabs, folded there again."""
    return value.replace(b"\t", b"\r\n\t")


def _signature_tags(instance: int, body_hash: str, names: Sequence[str], key: SigningKey, now: int) -> Iterator[str]:
    yield f" i={instance};"
    yield f" a={key.algorithm};"
    yield " c=relaxed/relaxed;"
    yield f" d={key.domain};"
    yield f" s={key.selector};"
    yield f" t={now};"
    yield from names_tag(names)
    yield f" bh={body_hash};"


def _seal_tags(instance: int, found: str, key: SigningKey, now: int) -> Iterator[str]:
    yield f" i={instance};"
    yield f" a={key.algorithm};"
    yield f" t={now};"
    yield f" cv={found};"
    yield f" d={key.domain};"
    yield f" s={key.selector};"
