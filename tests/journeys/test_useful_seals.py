"""`arc.seal = "useful"`: what is sealed and what is not, by what comes out at the next hop, and by two judges."""

from __future__ import annotations

from collections.abc import Iterator

import dkim
import pytest

from tests.journeys import authors
from tests.journeys.clients import Dialogue
from tests.journeys.maildir import parse
from tests.journeys.rspamd import Rspamd
from tests.journeys.sinks import Received, RecordingSink
from tests.journeys.world import MAILBOX, SENDER, World, key_pair, opened
from tests.judges import MailDkim
from tests.peers import needs, wait_until

pytestmark = [pytest.mark.slow, needs("rspamd", "perl:Mail::DKIM")]

# Domains with DMARC, without it, with nothing at all, and of a mailing list.
AUTHOR, PLAIN, BARE, LIST = "author.example", "plain.example", "bare.example", "list.example"
STRANGER, KNOWN = "127.0.0.77", "127.0.0.78"  # hosts that nobody's SPF names; `dmarc.skip` has the second
ALIAS = "alice@fwd.example"


def letter(domain: str, *, on_top: str = "") -> bytes:
    return (
        f"{on_top}From: Ann <ann@{domain}>\r\nTo: {ALIAS}\r\nSubject: a seal\r\n"
        f"Date: Mon, 16 Jun 2025 10:00:00 +0200\r\nMessage-ID: <1@{domain}>\r\n\r\nHello.\r\n"
    ).encode()


def sealed_by_a_list(domain: str) -> bytes:
    content = f"Authentication-Results: {LIST}; dkim=pass header.d={domain}\r\n".encode() + signed(domain)
    key = key_pair(LIST)[0].encode()
    names = [b"from", b"to", b"subject", b"date", b"message-id"]
    fields = dkim.arc_sign(content, authors.SELECTOR.encode(), LIST.encode(), key, LIST.encode(), include_headers=names)
    return b"".join(fields) + content


def signed(domain: str, by: str = "") -> bytes:
    return authors.signed(letter(domain), by or domain)


def signed_with_results(domain: str) -> bytes:
    """Signed together with results that claim to be ours, and so are removed."""
    content = letter(domain, on_top="Authentication-Results: mx.fwd.example; spf=pass\r\n")
    names = [*authors.SIGNED, b"authentication-results"]
    key = key_pair(domain)[0].encode()
    field: bytes = dkim.sign(content, authors.SELECTOR.encode(), domain.encode(), key, include_headers=names)
    return field + content


# name: (client, domain of the envelope sender, empty for the null sender, message)
SEALED = {
    "SPF alone, DMARC none": (SENDER, PLAIN, letter(PLAIN)),
    "SPF alone, so that From is rewritten": (SENDER, AUTHOR, letter(AUTHOR)),
    "SPF of the EHLO name, null sender": (SENDER, "", letter(PLAIN)),
    "SPF, signed by another": (SENDER, PLAIN, signed(PLAIN, LIST)),
    "SPF of another, not signed": (SENDER, LIST, letter(BARE)),
    "a chain that came along": (SENDER, AUTHOR, sealed_by_a_list(AUTHOR)),
    "DMARC fails, and a known host brings it": (KNOWN, BARE, letter(AUTHOR)),
    "DMARC fails, and asks for nothing": (SENDER, AUTHOR, letter("open.example")),
    "a signed field was removed": (STRANGER, PLAIN, signed_with_results(PLAIN)),
}
NOT_SEALED = {
    "signed by the author": (SENDER, AUTHOR, signed(AUTHOR)),
    "signed by the author, null sender": (SENDER, "", signed(AUTHOR)),
    "signed by the author, SPF of another": (SENDER, LIST, signed(AUTHOR)),
    "signed by the author, DMARC none": (SENDER, PLAIN, signed(PLAIN)),
    "signed by the author, SPF fails": (STRANGER, AUTHOR, signed(AUTHOR)),
    "nothing passes, and nothing fails": (SENDER, BARE, letter(BARE)),
    "signed by another, no SPF": (SENDER, BARE, signed(BARE, LIST)),
}


class House:
    """A relay that seals what is useful, before a sink."""

    def __init__(self, world: World) -> None:
        authors.publish(world.zone, AUTHOR, SENDER, "p=reject")
        authors.publish(world.zone, PLAIN, SENDER)
        authors.publish(world.zone, LIST, SENDER)
        world.zone["_dmarc.open.example", "TXT"] = ['"v=DMARC1; p=none"']
        self.world = world
        self.sink = world.start(RecordingSink(MAILBOX, world.port))
        self.relay = world.relay(
            aliases=f"{ALIAS} carol@mailbox.example\n", arc={"seal": "useful"}, dmarc={"skip": [KNOWN]}
        )
        self.rspamd = world.start(Rspamd(world.base / "rspamd", world.nameserver()))

    def pass_on(self, client: str, domain: str, content: bytes) -> Received:
        before = len(self.sink.received)
        with Dialogue((self.relay.address, self.relay.port), source=client) as session:
            sender = f"ann@{domain}" if domain else ""
            answer = session.deliver(sender, ALIAS, content, f"mx.{domain or AUTHOR}")
        assert answer.code == 250, answer
        wait_until(lambda: len(self.sink.received) > before, "the message")
        return self.sink.received[-1]


@pytest.fixture(scope="module")
def house() -> Iterator[House]:
    with opened() as world:
        yield House(world)


@pytest.fixture(scope="module")
def perl(house: House) -> Iterator[MailDkim]:
    with MailDkim(house.world.keys) as perl:
        yield perl


@pytest.mark.parametrize("case", SEALED)
def test_what_the_next_hop_cannot_see_is_sealed(house: House, perl: MailDkim, case: str) -> None:
    arrived = house.pass_on(*SEALED[case])
    seals = parse(arrived.content).get_all("ARC-Seal", [])
    assert "d=fwd.example" in str(seals[0]) and len(seals) == (2 if "chain" in case else 1)
    assert perl.arc(arrived.content) == "pass"
    assert house.rspamd.read(arrived).arc == "pass"


@pytest.mark.parametrize("case", NOT_SEALED)
def test_what_the_next_hop_sees_itself_is_signed_only(house: House, perl: MailDkim, case: str) -> None:
    arrived = house.pass_on(*NOT_SEALED[case])
    assert not parse(arrived.content).get_all("ARC-Seal")
    assert b"Authentication-Results: mx.fwd.example" in arrived.content
    passing = {verdict.domain for verdict in perl.verify(arrived.content) if verdict.result == "pass"}
    assert "fwd.example" in passing
    opinion = house.rspamd.read(arrived)
    assert (perl.arc(arrived.content), opinion.arc) == ("none", "none")
    if b"@author.example" in arrived.content:
        assert opinion.dmarc == "pass"
