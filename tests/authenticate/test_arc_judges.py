"""Our ARC verifier beside others: chains that they seal pass here, and of damaged ones we say what they say."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from unittest import mock

import dkim
import pytest

from relay.authenticate.arc import verify
from relay.mail.message import Message
from tests import corpus
from tests.authenticate.signing import resolver
from tests.judges import MailDkim, dkimpy_arc, mail_dkim_seal
from tests.peers import needs

MADE = dict(corpus.made())
# Perl and Python take VT and FF around a value for white space to be left out, which RFC 5234 (WSP) does not;
# Mail::DKIM takes a line end before the colon for a part of the name; and one message has a stray ARC-Seal.
DOUBTFUL = {"header-control-characters", "header-folded-before-colon", "header-not-for-us"}
SEALABLE = [name for name, content in MADE.items() if len(Message(content).all("from")) == 1 and name not in DOUBTFUL]
RESOLVER = resolver(corpus.RECORDS)


async def verdict(content: bytes) -> str:
    found = await verify(Message(content), RESOLVER, corpus.SIGNED_AT)
    return found.result if found.result != "fail" else f"fail: {found.problem}"


_EARLIER = re.compile(rb"^Authentication-Results: mx[^\r]*\r\n(?:[ \t][^\r]*\r\n)*", re.MULTILINE)


def unsealed(content: bytes, instance: int) -> tuple[str, bytes]:
    """What the next sealer finds of the chain, and the message with that on top, as sealers here want it."""
    found = "none" if instance == 1 else "pass"
    field = f"Authentication-Results: mx.fwd.example; arc={found}; spf=pass smtp.mailfrom=author.example\r\n"
    return found, field.encode() + _EARLIER.sub(b"", content)


def sealed_by_dkimpy(content: bytes, count: int) -> bytes:
    """Raises: dkim.MessageFormatError, for a header line that dkimpy cannot read."""
    for instance in range(1, count + 1):
        _, content = unsealed(content, instance)
        with mock.patch("dkim.time", SimpleNamespace(time=lambda: corpus.SIGNED_AT)):
            made = dkim.arc_sign(content, b"rsa", corpus.DOMAIN.encode(), corpus.RSA_PEM, b"mx.fwd.example")
        content = b"".join(made) + content
    return content


def sealed_by_mail_dkim(content: bytes, count: int) -> bytes:
    for instance in range(1, count + 1):
        found, content = unsealed(content, instance)
        content = mail_dkim_seal(content, found, corpus.DOMAIN, "rsa", "mx.fwd.example", corpus.RSA_PEM) + content
    return content


def damaged(content: bytes) -> Iterator[bytes]:
    """The message as it is, and as it may become on its way."""
    yield content
    yield content + b"A footer.\r\n"
    yield b"Received: from a by b\r\n" + content
    yield content.replace(b"Subject: ", b"Subject:  ", 1)
    yield content.replace(b"ann@author.example", b"eve@author.example", 1)
    yield content.replace(b"cv=none", b"cv=pass")
    yield content.replace(b"spf=pass", b"spf=fail", 1)
    for line in re.findall(rb"^ARC-[^\r]*\r\n(?:[ \t][^\r]*\r\n)*", content, re.MULTILINE):
        yield content.replace(line, b"")
        yield line + content


@pytest.mark.parametrize("count", [1, 2, 3])
@pytest.mark.parametrize("name", SEALABLE)
async def test_what_dkimpy_seals_passes(name: str, count: int) -> None:
    try:
        content = sealed_by_dkimpy(MADE[name], count)
    except dkim.MessageFormatError:
        return  # a header line that dkimpy cannot read
    assert await verdict(content) == "pass"


@pytest.fixture(scope="module")
def perl() -> Iterator[MailDkim]:
    with MailDkim(corpus.RECORDS) as judge:
        yield judge


@needs("perl:Mail::DKIM")
@pytest.mark.parametrize("name", SEALABLE)
async def test_what_mail_dkim_seals_passes(name: str, perl: MailDkim) -> None:
    content = sealed_by_mail_dkim(MADE[name], 1)
    assert perl.arc(content) == "pass"
    assert await verdict(content) == "pass"


@needs("perl:Mail::DKIM")
@pytest.mark.parametrize("seal", [sealed_by_mail_dkim, sealed_by_dkimpy])
async def test_all_say_the_same_of_what_became_of_a_chain(seal: Callable[[bytes, int], bytes], perl: MailDkim) -> None:
    for content in damaged(seal(MADE["plain"], 3)):
        ours = await verdict(content)
        assert (ours == "pass") == (dkimpy_arc(content, corpus.RECORDS) == "pass"), ours
        assert (ours == "pass") == (perl.arc(content) == "pass"), ours
