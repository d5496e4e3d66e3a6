"""Our verifier beside others: what they sign passes here, and what they say of all the messy mail is what we say.

Where we are stricter on purpose the tests name it: a message without exactly one From passes nowhere here.
"""

from __future__ import annotations

from collections.abc import Iterator

import dkim
import pytest
from hypothesis import HealthCheck, given, reject, settings
from hypothesis import strategies as st

from relay.authenticate.dkim import verify
from relay.mail.message import Message
from relay.sign.dkim_signature import signature_fields
from relay.sign.keys import SigningKey
from tests import corpus
from tests.authenticate.signing import resolver
from tests.judges import MailDkim, dkimpy, mail_dkim_signature
from tests.peers import needs

# RFC 6376 appendix A.2, with the key of its appendix C.
RFC_6376 = b"""\
DKIM-Signature: v=1; a=rsa-sha256; s=brisbane; d=example.com;
      c=simple/simple; q=dns/txt; i=joe@football.example.com;
      h=Received : From : To : Subject : Date : Message-ID;
      bh=2jUSOH9NhtVGCQWNr9BrIAPreKQjO6Sn7XIkfJVOzv8=;
      b=AuUoFEfDxTDkHlLXSZEpZj79LICEps6eda7W3deTVFOk4yAUoqOB
      4nujc7YopdG5dWLSdNg6xNAZpOPr+kHxt1IrE+NahM6L/LbvaHut
      KVdkLLkpVaVVQPzeRDI009SO2Il5Lu7rDNH6mZckBdrIx0orEtZV
      4bmp/YzhwvcubU4=;
Received: from client1.football.example.com  [192.0.2.1]
      by submitserver.example.com with SUBMISSION;
      Fri, 11 Jul 2003 21:01:54 -0700 (PDT)
From: Joe SixPack <joe@football.example.com>
To: Suzie Q <suzie@shopping.example.net>
Subject: Is dinner ready?
Date: Fri, 11 Jul 2003 21:00:37 -0700 (PDT)
Message-ID: <20030712040037.46341.5F8J@football.example.com>

Hi.

We lost the game. Are you hungry yet?

Joe.
""".replace(b"\n", b"\r\n")
RECORDS = {
    **corpus.RECORDS,
    "brisbane._domainkey.example.com": (
        "v=DKIM1; p=MIGfMA0GCSqGSIb3DQEBAQUAA4GNADCBiQKBgQDwIRP/UC3SBsEmGqZ9ZJW3/DkMoGeLnQg1fWn7/zYtIxN2SnFCjxOCKG9v3b"
        "4jYfcTNh5ijSsq631uBItLa7od+v/RtdC2UzJ1lWT947qR+Rcac2gbto/NMqJ0fzfVjH4OuKhitdY9tf6mcwGjaNBcWToIMmPSPDdQPNUYckcQ"
        "2QIDAQAB"
    ),
}
RESOLVER = resolver(RECORDS)
SIGNED = dict(corpus.signed())
MADE = dict(corpus.made())


async def results(content: bytes) -> list[str]:
    return [one.result for one in await verify(Message(content), RESOLVER, corpus.SIGNED_AT)]


def damaged(content: bytes) -> Iterator[bytes]:
    """The message as it is, and as it may become on its way."""
    yield content
    yield content + b"\r\n\r\n"
    yield content + b"A footer.\r\n"
    yield b"Received: from a by b\r\n" + content
    yield b"Subject: another one\r\n" + content
    yield content.replace(b"Subject: ", b"Subject:  ", 1)
    yield content.replace(b"Subject: ", b"SUBJECT: ", 1)
    yield content.replace(b" \r\n", b"\r\n")
    yield content.replace(b"ann@author.example", b"eve@author.example", 1)


def has_one_from(content: bytes) -> bool:
    return len(Message(content).all("from")) == 1


async def test_the_example_of_rfc_6376() -> None:
    assert await results(RFC_6376) == ["pass"]
    assert await results(RFC_6376.replace(b"hungry", b"angry")) == ["fail"]
    assert await results(RFC_6376.replace(b"[192.0.2.1]", b"[192.0.2.2]")) == ["fail"]


async def test_the_examples_of_rfc_8463_as_dkimpy_ships_them() -> None:
    shipped = dict(corpus.shipped("dkimpy"))
    assert await results(shipped["rfc6376.signed.msg"]) == ["pass", "pass"]
    assert await results(shipped["rfc6376.signed.rsa.msg"]) == ["pass"]


@pytest.mark.parametrize("name", SIGNED)
async def test_messy_mail_that_its_author_signed(name: str) -> None:
    assert (await results(SIGNED[name]))[0] == "pass"


@pytest.mark.parametrize("name", MADE)
async def test_messy_mail_that_we_signed(name: str) -> None:
    assert await passes_signed_by_us(MADE[name]) is has_one_from(MADE[name])


@pytest.mark.parametrize("source", corpus.SOURCES)
async def test_mail_that_packages_ship_signed_by_us(source: str) -> None:
    signed = 0
    for name, content in corpus.shipped(source):
        if has_one_from(content):
            assert await passes_signed_by_us(content), name
            signed += 1
    assert signed >= 5


async def passes_signed_by_us(content: bytes) -> bool:
    message = Message(content)
    ours = signature_fields(message, [corpus.RSA, corpus.ED25519], corpus.SIGNED_AT)
    found = await results(b"".join(message.wire(ours + b"Received: x\r\n")))
    return bool(ours) and found[:2] == ["pass", "pass"]


@pytest.mark.parametrize("name", SIGNED)
async def test_dkimpy_says_the_same(name: str) -> None:
    for content in damaged(SIGNED[name]):
        try:
            theirs = [verdict.result == "pass" for verdict in dkimpy(content, RECORDS)]
        except (dkim.MessageFormatError, IndexError):
            continue  # a header line that dkimpy cannot read
        assert [result == "pass" for result in await results(content)] == theirs


@pytest.fixture(scope="module")
def perl() -> Iterator[MailDkim]:
    with MailDkim(RECORDS) as judge:
        yield judge


@needs("perl:Mail::DKIM")
@pytest.mark.parametrize("name", [name for name in SIGNED if "+rsa" in name])
async def test_mail_dkim_says_the_same(name: str, perl: MailDkim) -> None:
    for content in damaged(SIGNED[name]):
        theirs = [verdict.result == "pass" for verdict in perl.verify(content)]
        assert [result == "pass" for result in await results(content)] == theirs


@needs("perl:Mail::DKIM")
@pytest.mark.parametrize("method", ["simple/simple", "simple/relaxed", "relaxed/simple", "relaxed/relaxed"])
async def test_what_mail_dkim_signs_passes(method: str) -> None:
    for name in (
        "plain",
        "body-empty",
        "body-trailing-white-space",
        "header-folded",
        "header-utf8",
        "body-every-octet",
    ):
        field = mail_dkim_signature(MADE[name], method, corpus.DOMAIN, "rsa", corpus.RSA_PEM)
        assert await results(field + MADE[name]) == ["pass"], name


# Headers that no honest program writes, signed by dkimpy where it can read them. It takes VT and FF around a value for
# white space to be left out, which RFC 5234 (WSP) does not: they are not among these.
names = st.sampled_from([b"From", b"Subject", b"sUBJECT", b"To", b"Received", b"X-A", b"no field", b""])
colons = st.sampled_from([b":", b":", b":", b" :", b"\t:", b"", b"\r\n :", b"\x0b:"])
values = st.lists(
    st.sampled_from([b"a", b" ", b"\t", b"\r\n ", b"\r\n\t", b"\0", b"\xff", b":", b"; b=", b"\x1c"]),
    max_size=5,
).map(b"".join)
fields = st.tuples(names, colons, values, st.just(b"\r\n")).map(b"".join)
# A line of mbox is none of the header to dkimpy, which adds what is folded behind it to the field before.
fields = fields.filter(lambda field: not field.startswith(b"From "))
bodies = st.lists(st.sampled_from([b"a", b" ", b"\t", b"\r\n", b".", b"\0", b"\xff"]), max_size=12).map(b"".join)
ways = st.tuples(*[st.sampled_from([b"simple", b"relaxed"])] * 2)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.lists(fields, max_size=5), ways, st.sampled_from([corpus.RSA, corpus.ED25519]), bodies)
async def test_what_dkimpy_signs_passes_whatever_it_looks_like(
    header: list[bytes], way: tuple[bytes, bytes], key: SigningKey, body: bytes
) -> None:
    content = b"".join([b"From: ann@author.example\r\n", *header]) + b"\r\n" + body + b"\r\n"
    try:
        signed = corpus.sign_as_author(content, key, way) + content
        (theirs,) = dkimpy(signed, RECORDS)
    except (dkim.MessageFormatError, IndexError):
        reject()  # a header line that dkimpy cannot read
    assert await results(signed) == ["pass" if theirs.result == "pass" and has_one_from(content) else "policy"]
