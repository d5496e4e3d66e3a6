"""Messy mail: what a forwarder meets and has to pass on octet for octet, so that what was signed stays signed.

`made` and `signed` are the same octets in every run; `shipped` reads what Debian and PyPI packages bring, when a test
asks. All of it is as SMTP carries it: CRLF line ends, the last one included, before dot-stuffing.
"""

from __future__ import annotations

import base64
import re
import sysconfig
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

import dkim

from relay.mail.message import Message
from relay.sign import keys
from relay.sign.dkim_signature import sign
from tests.peers import require
from tests.sdists import unpacked

Mail = tuple[str, bytes]

SIGNED_AT = 1_750_000_000  # seconds since 1970
DOMAIN = "author.example"
# A key for these tests alone; 1024 bits, as many a sender still has it.
RSA_PEM = b"""\
-----BEGIN RSA PRIVATE KEY-----
MIICXAIBAAKBgQC43hIUS3iZRBl/cP6bnRJ2vExrROZnxq1e8Ym6bRPHwkr/83JW
hUTJ/EfQg3lpGyPRIYhSOsQ4/OFXDUPApaLBVx1NHXxFH4/QeRrnEIf8thxdAak/
XyNZosiO9m8b6T4cbe9Wd3YvXromAigDitUXxbnkixDEmouGy+7tFKFQwQIDAQAB
AoGAb/x2Tzz4rT+Hgp/cXD/mM28Vi9WNDUhZNa5zlC8HUHbuH+ZFWQwaA5GDn1hF
b9o09Dav8cAPpcXqa2VpqYWs9RGx7WlFiI5Vk+uRHGa2b4BNpjk3k/GT7uEntJPg
vtGLxnq/wVXV53g9X+cI7l/XJ6zZ5Pvgc73bK0dhNBMdrlECQQDpH65yu0jEAT8q
WB+VnWsPFcuYA8sdK4ZbZaNwzJ85Q6reMz0zIylef2zGjekjEr729a453twm3HIH
6GYlIORvAkEAywIjsGI1dxcuVK/Lok91aq/2jl1UAifmvvK7rYdVwBUdJiXTVKFz
8c4vDf5noDypnleO7ppmVbgMx3PySSyVzwJBAIVNs3Axvbsux1LMT0s7V7Opj+De
EnAcqlhq9xmSOF4DXppujElIiuhZTvb+wNhoaMBI3haDZDnohmAVOQt0EosCQEkg
5CpNtmTH/PCUww4dAXcFHBP8mp6MMRrn5aOE9ObUtENhrNb3sgSQ+XJZCos2TwOz
FtHs3KBURIY0xjqFzRECQBPyO/2DHeD3QiaTfMG8JbOHksO75F4CFt4+psVy4Y02
W/x9HKfaT4Az0SK+29bQ3IylLdczsVAYlB+9O+CsLYg=
-----END RSA PRIVATE KEY-----
"""
ED25519_SEED = bytes(range(32))
PKCS8_ED25519 = bytes.fromhex("302e020100300506032b657004220420")  # RFC 8410 section 7, up to the seed
ED25519_PEM = (
    b"-----BEGIN PRIVATE KEY-----\n" + base64.b64encode(PKCS8_ED25519 + ED25519_SEED) + b"\n-----END PRIVATE KEY-----\n"
)

RSA = keys.SigningKey(DOMAIN, "rsa", keys.parse(RSA_PEM))
ED25519 = keys.SigningKey(DOMAIN, "ed25519", keys.parse(ED25519_PEM))
# What DNS has to answer: the two keys above, and those of RFC 8463 appendix A.2, for what dkimpy ships.
RECORDS = {
    RSA.record_name: RSA.public_record(),
    ED25519.record_name: ED25519.public_record(),
    "brisbane._domainkey.football.example.com": ("v=DKIM1; k=ed25519; p=11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo="),
    "test._domainkey.football.example.com": (
        "v=DKIM1; k=rsa; p=MIGfMA0GCSqGSIb3DQEBAQUAA4GNADCBiQKBgQDkHlOQoBTzWRiGs5V6NpP3idY6Wk08a5qhdR6wy5bdOKb2jLQi"
        "Y/J16JYi0Qvx/byYzCNb3W91y3FutACDfzwQ/BC/e/8uBsCR+yz1Lxj+PL6lHvqMKrM3rG4hstT5QjvHO9PzoxZyVYLzBfO2EeC3Ip3G+2"
        "kryOTIKT+l/K4w3QIDAQAB"
    ),
}


# --- What is made -----------------------------------------------------------------------------------------------------

_HEADER = (
    b"From: Ann Author <ann@author.example>\r\n"
    b"To: alice@fwd.example\r\n"
    b"Date: Mon, 16 Jun 2025 10:00:00 +0200\r\n"
    b"Message-ID: <1@author.example>\r\n"
)
_SUBJECT = b"Subject: A message\r\n"
_BODY = b"One line,\r\nand another.\r\n"
_MIME = b"MIME-Version: 1.0\r\nContent-Type: %s\r\nContent-Transfer-Encoding: %s\r\n"


def _with_body(body: bytes) -> bytes:
    return _HEADER + _SUBJECT + b"\r\n" + body


def _with_fields(fields: bytes) -> bytes:
    return _HEADER + fields + b"\r\n" + _BODY


def _mime(kind: bytes, encoding: bytes, body: bytes) -> bytes:
    return _HEADER + _SUBJECT + _MIME % (kind, encoding) + b"\r\n" + body


_NESTED = b"""\
This is no part.\r
--outer\r
Content-Type: multipart/alternative; boundary="=_in ner?"\r
\r
--=_in ner?\r
\r
-- \r
a signature line with a space\r
--=_in ner?  \r
Content-Type: text/html\r
Content-Transfer-Encoding: quoted-printable\r
\r
<p>=C3=A4=\r
=20</p>\r
--=_in ner?--\r
--outer\r
Content-Type: message/rfc822\r
\r
From: other@other.example\r
Subject: forwarded\r
DKIM-Signature: v=1; not for you\r
\r
.\r
..\r
inside\r
--outer\r
Content-Type: application/octet-stream; name="a.bin"\r
Content-Transfer-Encoding: base64\r
\r
AAECAwQFBgcICQ==\r
no closing boundary\r
"""

_EVERY_OCTET = bytes(octet for octet in range(1, 256) if octet not in b"\r\n")


def made() -> Iterator[Mail]:
    """Messages by name, none of them signed by their author."""
    yield "plain", _with_body(_BODY)
    yield from _bodies()
    yield from _headers()
    yield from _structures()


def _bodies() -> Iterator[Mail]:
    yield "body-empty", _with_body(b"")
    yield "body-blank-lines", _with_body(b"\r\n\r\n\r\n")
    yield "body-of-white-space", _with_body(b" \t\r\n\t\r\n  \r\n")
    yield "body-blank-lines-around", _with_body(b"\r\n\r\n" + _BODY + b"\r\n\r\n\r\n")
    yield "body-trailing-white-space", _with_body(b"space \r\ntab\t\r\nboth \t \r\n \r\n\t\r\n")
    yield "body-inner-white-space", _with_body(b"a  b\tc \t d\r\n\t\tindented\r\n    again\r\n")
    yield "body-dots", _with_body(b".\r\n..\r\n...\r\n.x\r\n. \r\nx.\r\n\r\n.\r\n")
    yield (
        "body-smuggling",
        _with_body(b"x\r\n.\r\nMAIL FROM:<eve@evil.example>\r\nRCPT TO:<bob@fwd.example>\r\nDATA\r\n"),
    )
    yield "body-last-line-is-a-dot", _with_body(b"end\r\n.\r\n")
    yield "body-from-lines", _with_body(b"From here on\r\n>From quoted\r\nFrom: not a field\r\n")
    yield "body-long-line", _with_body(b"0123456789" * 10_000 + b"\r\n" + _BODY)
    yield "body-long-dotted-lines", _with_body((b"." * 998 + b"\r\n") * 3 + (b"." * 4097 + b"\r\n") * 3)
    yield "body-large", _mime(b"application/octet-stream", b"base64", (b"QUJD" * 19 + b"\r\n") * 4_000)
    yield "body-utf8", _mime(b"text/plain; charset=utf-8", b"8bit", "Grüße, 日本語, \N{PILE OF POO}\r\n".encode() * 3)
    yield "body-latin1", _mime(b"text/plain; charset=iso-8859-1", b"8bit", b"Gr\xfc\xdfe \xa0\x85\r\n")
    yield (
        "body-every-octet",
        _mime(b"application/octet-stream", b"binary", _EVERY_OCTET + b"\r\n" + _EVERY_OCTET + b"\r\n"),
    )
    yield "body-nul", _mime(b"application/octet-stream", b"binary", b"a\0b\0\0\r\n\0\r\n")
    yield "body-control-characters", _with_body(b"\x0b\x0c\x1a\x1b[31m\x7f\x08 \x0b\r\n\x0c\r\n")


def _headers() -> Iterator[Mail]:
    yield "header-utf8", _with_fields("Subject: Grüße von Jürgen\r\nX-Ort: 東京\r\n".encode())
    yield "header-latin1", _with_fields(b"Subject: Gr\xfc\xdfe\r\nX-8bit: \x80\xff\r\n")
    yield (
        "header-encoded-words",
        _with_fields(b"Subject: =?utf-8?B?R3LDvMOfZQ==?= =?iso-8859-1?Q?_J=FCrgen?=\r\n =?utf-8?q?=F0=9F=92=A9?=\r\n"),
    )
    yield "header-empty-subject", _with_fields(b"Subject:\r\n")
    yield "header-blank-subject", _with_fields(b"Subject: \t \r\n")
    yield "header-no-space-after-colon", _with_fields(b"Subject:close\r\nX-A:\tb\r\n")
    yield (
        "header-space-before-colon",
        _with_fields(b"Subject : apart\r\nX-Other\t :\tx\r\nReply-To \t: a@author.example\r\n"),
    )
    yield "header-odd-case", _with_fields(b"sUBJECT: odd\r\nMIME-VERSION: 1.0\r\ncontent-TYPE: text/plain\r\n")
    yield "header-odd-names", _with_fields(b"X-!#$%&'*+/=?^_`{|}~: x\r\n1: digit\r\n-: hyphen\r\nSubject: s\r\n")
    yield (
        "header-folded",
        _with_fields(
            b"Subject: folded\r\n with space\r\n\twith tab\r\n \t with  both \t\r\n  and trailing  \r\n"
            b"References:\r\n <a@author.example>\r\n\t <b@author.example>\r\n"
        ),
    )
    yield "header-folded-to-nothing", _with_fields(b"Subject:\r\n \r\nReferences: a\r\n \t\r\n b\r\nX-Last: x\r\n \r\n")
    yield "header-folded-before-colon", _with_fields(b"Subject: s\r\nX-Name\r\n : value\r\nSubject\r\n : second\r\n")
    yield "header-trailing-white-space", _with_fields(b"Subject: s \t \r\nX-A: b\t\r\nCc: c@fwd.example \r\n")
    yield "header-long-line", _with_fields(b"Subject: " + b"long " * 4_000 + b"\r\n")
    yield (
        "header-many-folds",
        _with_fields(b"References:" + b"".join(b"\r\n <%d@a.example>" % n for n in range(500)) + b"\r\n"),
    )
    yield "header-many-fields", _with_fields(b"".join(b"X-Field-%d: %d\r\n" % (n, n) for n in range(1_000)))
    yield (
        "header-duplicates",
        _with_fields(
            b"Subject: first\r\nTo: bob@fwd.example\r\nSubject: second\r\nCc: c@fwd.example\r\n"
            b"Subject: second\r\nCc: d@fwd.example\r\n"
        ),
    )
    yield "header-two-from", _with_fields(b"From: Eve <eve@evil.example>\r\nSubject: whose?\r\n")
    yield "header-no-from", b"To: alice@fwd.example\r\nSubject: from nobody\r\n\r\n" + _BODY
    yield "header-control-characters", _with_fields(b"Subject: \x0bbell\x07\x0c\r\nX-Nul: a\0b\r\nX-Del: \x7f\r\n")
    yield "header-line-without-colon", _with_fields(b"Subject: s\r\nthis is no field\r\nCc: c@fwd.example\r\n")
    yield "header-line-without-colon-folded", _with_fields(b"nor is this\r\n with more of it: x\r\nSubject: s\r\n")
    yield "header-line-without-name", _with_fields(b": empty\r\nSubject: s\r\n :x\r\n")
    yield "header-name-with-space", _with_fields(b"Sub ject: s\r\nSubject: s\r\n")
    yield (
        "header-not-for-us",
        _with_fields(
            b"Return-Path: <old@author.example>\r\nBcc: hidden@fwd.example\r\n"
            b"Authentication-Results: other.example; spf=pass\r\n"
            b"ARC-Seal: i=1; a=rsa-sha256; cv=none; d=other.example; s=x; b=AAAA\r\n"
        ),
    )
    yield (
        "header-broken-signature",
        (
            b"DKIM-Signature: v=1; a=rsa-sha256; c=simple; d=other.example; s=gone;\r\n\th=from:to; bh=AAAA; b=AAAA\r\n"
            + _with_body(_BODY)
        ),
    )
    yield (
        "header-mailing-list",
        _with_fields(
            b"Subject: [list] s\r\nSender: list-bounces@lists.example\r\nList-Id: A list <list.lists.example>\r\n"
            b"List-Unsubscribe: <mailto:u@lists.example>,\r\n <https://lists.example/u>\r\n"
            b'List-Unsubscribe-Post: List-Unsubscribe=One-Click\r\nList-Post: NO ("closed")\r\nPrecedence: list\r\n'
        ),
    )
    yield (
        "header-resent",
        (
            b"Resent-From: r@author.example\r\nResent-To: alice@fwd.example\r\n"
            b"Resent-Date: Mon, 16 Jun 2025 11:00:00 +0200\r\nResent-From: earlier@author.example\r\n"
            + _with_body(_BODY)
        ),
    )
    yield (
        "header-many-received",
        (
            b"".join(b"Received: from h%d by h%d; Mon, 16 Jun 2025 10:00:00 +0200\r\n" % (n, n + 1) for n in range(20))
            + _with_body(_BODY)
        ),
    )


def _structures() -> Iterator[Mail]:
    yield "nothing", b""
    yield "blank-line", b"\r\n"
    yield "blank-lines", b"\r\n\r\n\r\n"
    yield "blank-line-then-text", b"\r\n" + _BODY
    yield "blank-line-then-fields", b"\r\nFrom: ann@author.example\r\n\r\n" + _BODY
    yield "no-header", b"Only text,\r\nwithout a header.\r\n"
    yield "no-header-blank-line", b"Only text.\r\n\r\nSubject: this is text\r\n"
    yield "no-blank-line", _HEADER + _SUBJECT
    yield "no-blank-line-text", _HEADER + _SUBJECT + b"The body begins without a blank line.\r\n\r\n" + _BODY
    yield "blank-line-of-white-space", _HEADER + _SUBJECT + b" \r\n" + _BODY
    yield "mbox-from-line", b"From ann@author.example Mon Jun 16 10:00:00 2025\r\n" + _with_body(_BODY)
    yield "mbox-quoted-from-line", b">From ann@author.example Mon Jun 16 10:00:00 2025\r\n" + _with_body(_BODY)
    yield "begins-with-a-fold", b" leading\r\n" + _with_body(_BODY)
    yield "begins-with-a-dot", b".Subject: dotted\r\n" + _with_body(_BODY)
    yield "nested-multipart", _mime(b'multipart/mixed;\r\n\tboundary="outer"', b"7bit", _NESTED)


# --- What is made and signed ------------------------------------------------------------------------------------------

_CANONICALIZATIONS = [(header, body) for header in (b"simple", b"relaxed") for body in (b"simple", b"relaxed")]


def signed() -> Iterator[Mail]:
    """The made messages again, signed by their author, each under a name that says how.

    All four canonicalizations by both algorithms; what breaks soonest, simple/simple, for every message. What dkimpy
    cannot read is signed by the relay's own signer. Messages without one From have no signature and are left out.
    """
    for name, message in made():
        ways = (
            _CANONICALIZATIONS
            if name in ("plain", "body-trailing-white-space", "header-folded")
            else [(b"simple",) * 2]
        )
        if not _signable(message):
            continue
        for way in ways:
            for key in (RSA, ED25519):
                label, field = _author_signature(message, key, way)
                if field:
                    yield f"{name}+{label}", field + message


def _signable(message: bytes) -> bool:
    # A first line that begins with white space would fold itself into the signature.
    return len(Message(message).all("from")) == 1 and not message.startswith((b" ", b"\t"))


def _author_signature(message: bytes, key: keys.SigningKey, way: tuple[bytes, bytes]) -> tuple[str, bytes]:
    try:
        field = sign_as_author(message, key, way)
        return f"{key.selector}-{way[0].decode()}-{way[1].decode()}", field
    except dkim.MessageFormatError:
        return f"{key.selector}-ours", sign(Message(message), key, SIGNED_AT)


def sign_as_author(message: bytes, key: keys.SigningKey, way: tuple[bytes, bytes]) -> bytes:
    """A DKIM-Signature of `author.example` made by dkimpy, with header and body canonicalization as in `way`.

    Raises:
        dkim.MessageFormatError: a header line that dkimpy cannot read.
    """
    secret = RSA_PEM if key is RSA else base64.b64encode(ED25519_SEED)
    with mock.patch("dkim.time", SimpleNamespace(time=lambda: SIGNED_AT)):
        field: bytes = dkim.sign(
            message,
            key.selector.encode(),
            DOMAIN.encode(),
            secret,
            canonicalize=way,
            signature_algorithm=key.algorithm.encode(),
            include_headers=[b"from", b"to", b"cc", b"subject", b"date", b"references", b"reply-to", b"content-type"],
        )
    return field


# --- What packages ship -----------------------------------------------------------------------------------------------


def shipped(source: str) -> Iterator[Mail]:
    """Messages that a package ships for its own tests, named by their files, CRLF throughout.

    Args:
        source: one of `SOURCES`. Where it is not to be had the test is skipped (in CI: fails), with what brings it.
    """
    for path in SOURCES[source]():
        yield path.name, _as_on_the_wire(path.read_bytes())


def _as_on_the_wire(content: bytes) -> bytes:
    content = re.sub(rb"\r\n|\r|\n", b"\r\n", content)
    return content if content.endswith(b"\r\n") or not content else content + b"\r\n"


@cache
def _cpython() -> list[Path]:
    """CPython's own messages for its email package; Debian has them in a package of their own."""
    own = Path(sysconfig.get_path("stdlib"), "test", "test_email", "data")
    if not own.is_dir():
        require("python3:test.test_email", package="libpython3.11-testsuite")
        own = next(Path("/usr/lib").glob("python3.*/test/test_email/data"))
    return sorted(own.glob("msg_*.txt"))


@cache
def _dkimpy() -> list[Path]:
    data = unpacked("dkimpy") / "dkim" / "tests" / "data"
    return sorted(path for path in data.iterdir() if path.suffix in (".msg", ".message", ".mbox"))


@cache
def _flufl_bounce() -> list[Path]:
    return sorted((unpacked("flufl.bounce") / "tests" / "data").glob("*.txt"))


SOURCES: dict[str, Callable[[], list[Path]]] = {
    "cpython": _cpython,
    "dkimpy": _dkimpy,
    "flufl.bounce": _flufl_bounce,
}
