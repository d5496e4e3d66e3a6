"""Every signature of ours is verified by programs that share no code with it, over all the messy mail there is.

Mail::DKIM (Perl) knows RSA only, in Debian 12; the Ed25519 signatures go to libopendkim and dkimpy.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import dkim
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from relay.mail.message import Message
from relay.sign.dkim_signature import signature_fields
from tests import corpus
from tests.judges import MailDkim, Verdict, dkimpy, opendkim
from tests.peers import needs

OURS = "fwd.example"
RSA = replace(corpus.RSA, domain=OURS, selector="rsa")
ED25519 = replace(corpus.ED25519, domain=OURS, selector="ed25519")
RECORDS = {**corpus.RECORDS, **{key.record_name: key.public_record() for key in (RSA, ED25519)}}
ALL = {**dict(corpus.made()), **dict(corpus.signed())}
PASSED = [Verdict("rsa", OURS, "pass"), Verdict("ed25519", OURS, "pass")]


def leaving(content: bytes) -> bytes:
    """The message as it would leave, signed twice; without our signature where it has no single From."""
    message = Message(content)
    trace = b"Received: from sender.example by mx.fwd.example; Mon, 16 Jun 2025 10:00:00 +0200\r\n"
    return b"".join(message.wire(signature_fields(message, [RSA, ED25519], int(time.time())) + trace))


def is_signed(content: bytes) -> bool:
    return b"d=fwd.example" in content


def well_formed(content: bytes) -> bool:
    """Whether every line of the header is a field of today's syntax, the colon right after the name."""
    fields = Message(content).fields
    return all(field.name and field.raw.lower().startswith(f"{field.name}:".encode()) for field in fields)


def of(domain: str, verdicts: list[Verdict]) -> list[Verdict]:
    return [verdict for verdict in verdicts if verdict.domain == domain]


@pytest.fixture(scope="module")
def perl() -> Iterator[MailDkim]:
    with MailDkim(RECORDS) as judge:
        yield judge


@needs("perl:Mail::DKIM")
@pytest.mark.parametrize("name", ALL)
def test_mail_dkim_verifies_rsa(name: str, perl: MailDkim) -> None:
    content = leaving(ALL[name])
    found = perl.verify(content)
    if is_signed(content):
        assert of(OURS, found)[0] == PASSED[0]
    if "+rsa" in name:
        assert [verdict.result for verdict in of(corpus.DOMAIN, found)] == ["pass"]


@pytest.mark.parametrize("name", ALL)
def test_dkimpy_verifies_rsa_and_ed25519(name: str) -> None:
    content = leaving(ALL[name])
    try:
        found = dkimpy(content, RECORDS)
    except (dkim.MessageFormatError, IndexError):
        assert not well_formed(ALL[name])  # dkimpy reads nothing of such a message, whoever signed it
        return
    assert of(OURS, found) == (PASSED if is_signed(content) else [])
    if "+" in name:
        assert [verdict.result for verdict in of(corpus.DOMAIN, found)] == ["pass"]


# libopendkim refuses malformed headers whole, and its test mode reads lines as C strings.
FIT_FOR_OPENDKIM = [
    name
    for name, content in corpus.made()
    if is_signed(leaving(content)) and well_formed(content) and b"\0" not in content
]


@needs("opendkim")
@pytest.mark.parametrize("name", FIT_FOR_OPENDKIM)
def test_opendkim_verifies_rsa_and_ed25519(name: str, tmp_path: Path) -> None:
    assert of(OURS, opendkim(leaving(ALL[name]), RECORDS, tmp_path)) == PASSED


@needs("opendkim")
@pytest.mark.parametrize(
    ("added", "survivors"),
    [
        (b"Received: x\r\nX-Spam: no\r\n", ["others", "ours"]),
        (b"Sender: list@list.example\r\nList-Id: <list.example>\r\n", ["others"]),
        (b"Reply-To: eve@evil.example\r\n", []),
        (b'Content-Type: multipart/mixed; boundary="x"\r\n', []),
    ],
)
def test_opendkim_knows_what_is_closed(added: bytes, survivors: list[str], tmp_path: Path) -> None:
    content, now = ALL["plain"], int(time.time())
    for name in ("others", "ours"):
        signatures = signature_fields(Message(content), [RSA, ED25519], now, ours=name == "ours")
        found = of(OURS, opendkim(added + signatures + content, RECORDS, tmp_path))
        assert [one.result for one in found] == ["pass" if name in survivors else "fail"] * 2


@needs("perl:Mail::DKIM")
@pytest.mark.parametrize("source", corpus.SOURCES)
def test_mail_that_packages_ship(source: str, perl: MailDkim) -> None:
    signed = 0
    for name, content in corpus.shipped(source):
        left = leaving(content)
        if is_signed(left):
            assert of(OURS, perl.verify(left))[0] == PASSED[0], name
            signed += 1
    assert signed >= 5


def test_signatures_that_dkimpy_ships_survive() -> None:
    shipped = dict(corpus.shipped("dkimpy"))
    for name, selectors in (("rfc6376.signed.msg", ["brisbane", "test"]), ("rfc6376.signed.rsa.msg", ["test"])):
        found = of("football.example.com", dkimpy(leaving(shipped[name]), RECORDS))
        assert found == [Verdict(selector, "football.example.com", "pass") for selector in selectors]


# Headers that no honest program writes. Where Mail::DKIM finds our field at all, it must find it good.
names = st.sampled_from(
    [b"From", b"from", b"Subject", b"sUBJECT", b"To", b"Received", b"X-A", b"no field", b"", b">From x"]
)
colons = st.sampled_from([b":", b":", b":", b" :", b"\t:", b"", b"\r\n :", b"\x0b:"])
values = st.lists(
    st.sampled_from([b"a", b" ", b"\t", b"\r\n ", b"\r\n\t", b"\x0b", b"\x0c", b"\0", b"\xff", b":", b"; b=", b"\x1c"]),
    max_size=5,
).map(b"".join)
fields = st.tuples(names, colons, values, st.just(b"\r\n")).map(b"".join)
bodies = st.lists(st.sampled_from([b"a", b" ", b"\t", b"\r\n", b".", b"\0", b"\xff"]), max_size=12).map(b"".join)


@needs("perl:Mail::DKIM")
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    st.lists(fields, max_size=5), st.sampled_from([b"From: a@b\r\n", b"FROM:a\r\n\t@b\r\n", b""]), st.booleans(), bodies
)
def test_mail_dkim_verifies_whatever_the_header_looks_like(
    perl: MailDkim, header: list[bytes], author: bytes, blank: bool, body: bytes
) -> None:
    content = leaving(b"".join([*header[:2], author, *header[2:]]) + (b"\r\n" if blank else b"") + body + b"\r\n")
    if is_signed(content):
        assert of(OURS, perl.verify(content))[0] == PASSED[0]
