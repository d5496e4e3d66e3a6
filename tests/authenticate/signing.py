"""Signs a message with any tags, also with those that no signer should write, and asks our verifier what it is worth.

Its canonicalization is written as RFC 6376 section 3.4 reads, with regular expressions, and shares nothing with ours.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Mapping, Sequence
from typing import Any

from relay.authenticate.dkim import DkimVerdict, verify
from relay.dns import StaticResolver
from relay.mail.message import Message
from relay.sign.keys import SigningKey
from tests import corpus

NOW = corpus.SIGNED_AT
RSA, ED25519 = corpus.RSA, corpus.ED25519
RECORDS: dict[str, str | Exception | Sequence[str]] = dict(corpus.RECORDS)
FROM = b"From: Ann Author <ann@author.example>\r\n"
MESSAGE = (
    FROM + b"To: alice@fwd.example\r\nSubject:  A  message \r\n\twith two lines\r\n\r\nOne  line, \r\nand another.\r\n"
)


def signed(message: bytes = MESSAGE, key: SigningKey = RSA, drop: str = "", **tags: str) -> bytes:
    """The message with a signature on top.

    Args:
        tags: replace or add; one without a value in `drop` is left out. `b_` is what stands in place of the signature.
    """
    return signature_field(message, key, drop, **tags) + message


def signature_field(message: bytes, key: SigningKey = RSA, drop: str = "", **tags: str) -> bytes:
    found = {"v": "1", "a": key.algorithm, "c": "relaxed/relaxed", "d": key.domain, "s": key.selector}
    found |= {"h": "from:to:subject", **tags}
    header_way, _, body_way = found["c"].partition("/")
    length = int(found["l"]) if found.get("l", "").isdigit() else None
    body = canonical_body(message.partition(b"\r\n\r\n")[2], body_way or "simple")
    found.setdefault("bh", base64.b64encode(hashlib.sha256(body[:length]).digest()).decode())
    found.pop(drop, None)
    field = ("DKIM-Signature: " + "; ".join(f"{tag}={text}" for tag, text in found.items()) + "; b=").encode()
    data = canonical_header(message, found.get("h", ""), header_way)
    data += relaxed_field(field) if header_way == "relaxed" else field
    return field + base64.b64encode(key.sign(data)) + b"\r\n"


def canonical_body(body: bytes, way: str) -> bytes:
    if way == "relaxed":
        body = re.sub(rb"[ \t]+", b" ", body)
        body = re.sub(rb" \r\n", b"\r\n", body)
    body = re.sub(rb"(\r\n)*\Z", b"", body) + b"\r\n"
    return b"" if way == "relaxed" and body == b"\r\n" else body


def canonical_header(message: bytes, names: str, way: str) -> bytes:
    fields = re.findall(rb"[^\r\n]+\r\n(?:[ \t][^\r\n]*\r\n)*", message.partition(b"\r\n\r\n")[0] + b"\r\n")
    chosen = b""
    for name in names.split(":"):
        for field in reversed(fields):
            if field.partition(b":")[0].strip().lower() == name.strip().lower().encode():
                fields.remove(field)
                chosen += relaxed_field(field) + b"\r\n" if way == "relaxed" else field
                break
    return chosen


def relaxed_field(field: bytes) -> bytes:
    name, _, value = re.sub(rb"\r\n", b"", field).partition(b":")
    return name.strip().lower() + b":" + re.sub(rb"[ \t]+", b" ", value).strip()


def resolver(records: Mapping[str, Any] = RECORDS) -> StaticResolver:
    """Answers with these TXT records: a text, an exception to raise, or several texts."""
    zone: dict[tuple[str, str], Any] = {}
    for name, found in records.items():
        texts = [found] if isinstance(found, str) else found
        zone[name, "TXT"] = texts if isinstance(texts, Exception) else [strings(text) for text in texts]
    return StaticResolver(zone)


def strings(text: str) -> tuple[bytes, ...]:
    """A TXT record as DNS has it, in strings of at most 255 octets."""
    octets = text.encode()
    return tuple(octets[start : start + 255] for start in range(0, len(octets), 255)) or (b"",)


async def verdicts(content: bytes, records: Mapping[str, Any] = RECORDS, now: float = NOW) -> tuple[DkimVerdict, ...]:
    return await verify(Message(content), resolver(records), now)


async def verdict(content: bytes, records: Mapping[str, Any] = RECORDS, now: float = NOW) -> DkimVerdict:
    (only,) = await verdicts(content, records, now)
    return only
