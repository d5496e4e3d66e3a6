"""Adds ARC sets with any tags, also with those that no sealer should write, and asks our verifier about the chain.

What a seal covers is gathered here from the text of the fields, and canonicalized by the tests' own reading of RFC
6376: none of it is shared with ours.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Mapping
from typing import Any

from relay.authenticate.arc import ArcVerdict, verify
from relay.mail.message import Message
from relay.sign.keys import SigningKey
from tests.authenticate.signing import (
    MESSAGE,
    NOW,
    RECORDS,
    RSA,
    canonical_body,
    canonical_header,
    relaxed_field,
    resolver,
)

Tags = Mapping[str, str | None]  # replace or add tags; None leaves one out

_FIELD = re.compile(rb"[^\r\n]+\r\n(?:[ \t][^\r\n]*\r\n)*")
_COMMENT = re.compile(rb"\((?:[^()\\]|\\.)*\)")
_INSTANCE = re.compile(rb"\bi\s*=\s*(\d+)")
_ORDER = (b"arc-authentication-results", b"arc-message-signature", b"arc-seal")


def chain(count: int, message: bytes = MESSAGE, key: SigningKey = RSA) -> bytes:
    """The message with that many sets."""
    for instance in range(1, count + 1):
        message = sealed(message, instance, key=key)
    return message


def sealed(
    message: bytes = MESSAGE,
    instance: int = 1,
    *,
    key: SigningKey = RSA,
    signature: Tags | None = None,
    seal: Tags | None = None,
    testimony: str = "i={}; mx.fwd.example; spf=pass smtp.mailfrom=author.example",
) -> bytes:
    """The message with another set on top, its fields in the order of RFC 8617."""
    shown = b"ARC-Authentication-Results: " + testimony.format(instance).encode() + b"\r\n"
    signed = message_signature(shown + message, instance, key, signature)
    return arc_seal(shown + signed + message, instance, key, seal) + signed + shown + message


def message_signature(message: bytes, instance: int, key: SigningKey = RSA, tags: Tags | None = None) -> bytes:
    found: dict[str, str | None] = {"i": str(instance), "a": key.algorithm, "c": "relaxed/relaxed"}
    found |= {"d": key.domain, "s": key.selector, "t": str(NOW), "h": "from:to:subject", **(tags or {})}
    header_way, _, body_way = (found["c"] or "simple").partition("/")
    body = canonical_body(message.partition(b"\r\n\r\n")[2], body_way or "simple")
    found.setdefault("bh", base64.b64encode(hashlib.sha256(body).digest()).decode())
    data = canonical_header(message, found["h"] or "", header_way)
    return _signed("ARC-Message-Signature", found, data, key, relaxed=header_way == "relaxed")


def arc_seal(message: bytes, instance: int, key: SigningKey = RSA, tags: Tags | None = None) -> bytes:
    found: dict[str, str | None] = {"i": str(instance), "a": key.algorithm, "t": str(NOW)}
    found |= {"cv": "none" if instance == 1 else "pass", "d": key.domain, "s": key.selector, **(tags or {})}
    return _signed("ARC-Seal", found, scope(message), key)


def scope(message: bytes) -> bytes:
    """All ARC fields of a message, by their sets."""
    fields = [
        (int(number[1]), _ORDER.index(name), field)
        for field in _FIELD.findall(message.partition(b"\r\n\r\n")[0] + b"\r\n")
        if (name := field.partition(b":")[0].lower()) in _ORDER
        and (number := _INSTANCE.search(_COMMENT.sub(b"", field)))
    ]
    return b"".join(relaxed_field(field) + b"\r\n" for _, _, field in sorted(fields))


def _signed(name: str, tags: Tags, data: bytes, key: SigningKey, *, relaxed: bool = True) -> bytes:
    written = {tag: text for tag, text in tags.items() if text is not None}
    signature = written.pop("b", "") if "b" in tags else None
    field = (f"{name}: " + "; ".join(f"{tag}={text}" for tag, text in written.items())).encode()
    if "b" in tags and tags["b"] is None:
        return field + b"\r\n"
    field += b"; b="
    made = base64.b64encode(key.sign(data + (relaxed_field(field) if relaxed else field)))
    return field + (made if signature is None else signature.encode()) + b"\r\n"


async def verdict(content: bytes, records: Mapping[str, Any] = RECORDS, now: float = NOW) -> ArcVerdict:
    return await verify(Message(content), resolver(records), now)


async def result(content: bytes) -> str:
    return (await verdict(content)).result
