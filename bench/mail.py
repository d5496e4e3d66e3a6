"""The mail of a sender who signs, so that every check of the relay has work to do."""

from __future__ import annotations

import time
from functools import cache

from relay.mail.message import Message
from relay.sign.dkim_signature import sign
from relay.sign.keys import SigningKey, generate, parse

DOMAIN, SELECTOR = "sender.test", "s1"
_LINE = b"The quick brown fox jumps over the lazy dog, and nobody knows why.\r\n"


@cache
def key() -> SigningKey:
    """The sender's RSA-2048 key."""
    return SigningKey(DOMAIN, SELECTOR, parse(generate("rsa2048")))


def records() -> dict[tuple[str, str], list[str]]:
    """The DNS records of the sender: SPF for loopback, its DKIM key, and DMARC with p=reject."""
    text = key().public_record()
    strings = " ".join(f'"{text[start : start + 255]}"' for start in range(0, len(text), 255))
    return {
        (DOMAIN, "TXT"): ['"v=spf1 ip4:127.0.0.1 -all"'],
        (f"_dmarc.{DOMAIN}", "TXT"): ['"v=DMARC1; p=reject"'],
        (key().record_name, "TXT"): [strings],
    }


def signed(octets: int) -> bytes:
    """A signed message of about this many octets, with CRLF line ends."""
    header = (
        f"From: Bob <bob@{DOMAIN}>\r\nTo: alice@fwd.test\r\nSubject: load\r\n"
        f"Date: Wed, 25 Nov 2026 12:00:00 +0000\r\nMessage-ID: <load@{DOMAIN}>\r\n"
        "MIME-Version: 1.0\r\nContent-Type: text/plain; charset=us-ascii\r\n\r\n"
    ).encode()
    content = header + _LINE * max(1, (octets - len(header)) // len(_LINE))
    return sign(Message(content), key(), int(time.time())) + content
