"""Other people's software reads what leaves: Mail::DKIM its signatures and its ARC chain, rspamd all of it at once."""

from __future__ import annotations

from collections.abc import Iterator
from email.utils import parseaddr

import dkim
import pytest

from tests.journeys import authors
from tests.journeys.clients import Dialogue
from tests.journeys.maildir import parse
from tests.journeys.next_hop import Sight, sight
from tests.journeys.relay_process import RelayProcess
from tests.journeys.rspamd import Opinion, Rspamd
from tests.journeys.sinks import Received, RecordingSink
from tests.journeys.world import MAILBOX, NEXT, SENDER, World, key_pair, opened
from tests.judges import MailDkim
from tests.peers import needs, wait_until

pytestmark = [pytest.mark.slow, needs("rspamd", "perl:Mail::DKIM")]

AUTHOR, LIST = "author.example", "list.example"
ANN, BOUNCES = f"ann@{AUTHOR}", f"bounces@{LIST}"
HOST, THROUGH_BOTH = "alice@fwd.example", "bob@fwd.example"


class House:
    """Two relays in a row, each before the same sink: `alice` leaves from the first, `bob` from the second."""

    def __init__(self, world: World) -> None:
        authors.publish(world.zone, AUTHOR, SENDER, "p=reject")
        authors.publish(world.zone, LIST, SENDER)
        for domain in ("fwd.example", "next.example"):
            world.zone[f"_dmarc.{domain}", "TXT"] = ['"v=DMARC1; p=reject"']
        self.world = world
        self.nameserver = world.nameserver()
        self.sink = world.start(RecordingSink(MAILBOX, world.port))
        self.relay: RelayProcess = world.relay(
            aliases=f"{HOST} carol@mailbox.example\n{THROUGH_BOTH} bob@next.example\n",
            arc={"trusted_sealers": [LIST]},
        )
        world.relay(
            "next.example",
            aliases="bob@next.example dave@mailbox.example\n",
            arc={"trusted_sealers": ["fwd.example", LIST]},
        )
        self.rspamd = world.start(Rspamd(world.base / "rspamd", self.nameserver))

    def pass_on(self, sender: str, content: bytes, recipient: str = HOST, helo: str = f"mx.{AUTHOR}") -> Received:
        """Send a message that must be taken; what the sink got of it."""
        before = len(self.sink.received)
        with Dialogue((self.relay.address, self.relay.port), source=SENDER) as session:
            answer = session.deliver(sender, recipient, content, helo)
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


PLAIN = (
    f"From: Ann Author <{ANN}>\r\nTo: {HOST}\r\nSubject: for judges\r\nDate: Mon, 16 Jun 2025 10:00:00 +0200\r\n"
    f"Message-ID: <1@{AUTHOR}>\r\n\r\nHello.\r\n"
).encode()
SIGNED = authors.signed(PLAIN, AUTHOR)


def from_the_list() -> bytes:
    """What a mailing list makes of it: a footer that breaks the signature, and a seal that says it was good before."""
    results = f"Authentication-Results: {LIST}; dkim=pass header.d={AUTHOR}; dmarc=pass header.from={AUTHOR}\r\n"
    content = results.encode() + authors.broken(SIGNED)
    key = key_pair(LIST)[0].encode()
    names = [b"from", b"to", b"subject", b"date", b"message-id"]
    fields = dkim.arc_sign(content, authors.SELECTOR.encode(), LIST.encode(), key, LIST.encode(), include_headers=names)
    assert len(fields) == 3
    return b"".join(fields) + content


# name: (envelope sender, message, what the next hop finds)
CASES = {
    "signed by the author": (ANN, SIGNED, Opinion("pass", (AUTHOR, "fwd.example"), "pass", "pass")),
    "signed, null sender": ("", SIGNED, Opinion("pass", (AUTHOR, "fwd.example"), "pass", "pass")),
    "passed by SPF alone": (ANN, PLAIN, Opinion("pass", ("fwd.example",), "pass", "pass")),
    "passed by SPF alone, null sender": ("", PLAIN, Opinion("pass", ("fwd.example",), "pass", "pass")),
    "signed by another": (ANN, authors.signed(PLAIN, LIST), Opinion("pass", ("fwd.example",), "pass", "pass")),
    "sealed by a list": (BOUNCES, from_the_list(), Opinion("pass", ("fwd.example",), "fail", "pass")),
}


@pytest.mark.parametrize("case", CASES)
def test_rspamd_agrees_behind_one_relay(house: House, case: str) -> None:
    sender, content, expected = CASES[case]
    arrived = house.pass_on(sender, content)
    assert house.rspamd.read(arrived) == expected
    assert agrees(expected, sight(house.world, arrived))


@pytest.mark.parametrize("case", CASES)
def test_rspamd_agrees_behind_two(house: House, case: str) -> None:
    """The first relay rewrites what has to be, and the second finds nothing more to do."""
    sender, content, expected = CASES[case]
    arrived = house.pass_on(sender, content, THROUGH_BOTH)
    signers = tuple(sorted((*expected.signers, "next.example")))
    opinion = house.rspamd.read(arrived, address=NEXT, helo="mx.next.example")
    assert opinion == expected._replace(signers=signers)
    assert agrees(opinion, sight(house.world, arrived, address=NEXT, helo="mx.next.example"))


@pytest.mark.parametrize("case", CASES)
def test_mail_dkim_verifies_what_we_wrote(house: House, perl: MailDkim, case: str) -> None:
    sender, content, expected = CASES[case]
    for recipient in (HOST, THROUGH_BOTH):
        arrived = house.pass_on(sender, content, recipient).content
        ours = {"fwd.example"} if recipient == HOST else {"fwd.example", "next.example"}
        passing = {verdict.domain for verdict in perl.verify(arrived) if verdict.result == "pass"}
        assert passing == {*expected.signers, *ours}
        assert perl.arc(arrived) == "pass"


def test_the_chain_tells_of_every_hop(house: House, perl: MailDkim) -> None:
    arrived = house.pass_on(BOUNCES, from_the_list(), THROUGH_BOTH).content
    mail = parse(arrived)
    for name in ("ARC-Seal", "ARC-Message-Signature", "ARC-Authentication-Results"):
        assert [str(value).split(";")[0] for value in mail.get_all(name, [])] == ["i=3", "i=2", "i=1"]
    seals = mail.get_all("ARC-Seal", [])
    assert [tag(seal, "cv") for seal in seals] == ["pass", "pass", "none"]
    assert [tag(seal, "d") for seal in seals] == ["next.example", "fwd.example", LIST]
    changed = arrived.replace(b"Hello.", b"Hello!")
    assert perl.arc(arrived) == "pass" and perl.arc(changed) != "pass", "the judge can tell"


def test_a_trusted_seal_is_why_it_was_taken(house: House) -> None:
    """DMARC failed here, and the reason why that does not count stands beside it."""
    arrived = house.pass_on(BOUNCES, from_the_list())
    field = " ".join(str(parse(arrived.content).get_all("Authentication-Results", [])[0]).split())
    assert "dmarc=fail" in field and LIST in field.partition("dmarc=fail")[2].partition(";")[0]
    assert parseaddr(parse(arrived.content)["From"])[1] == ANN


@pytest.mark.parametrize(("what", "changed"), [("body", b"Hello."), ("seal", b"cv=none")])
def test_a_chain_that_is_broken_is_believed_by_nobody_and_not_extended(
    house: House, perl: MailDkim, what: str, changed: bytes
) -> None:
    content = from_the_list().replace(changed, changed.replace(b"o", b"0", 1))
    with Dialogue((house.relay.address, house.relay.port), source=SENDER) as session:
        assert session.deliver(BOUNCES, HOST, content)[:2] == (550, "5.7.26")
    harmless = content.replace(f"From: Ann Author <{ANN}>".encode(), f"From: Ann <ann@{LIST}>".encode())
    arrived = house.pass_on(BOUNCES, harmless)
    assert len(parse(arrived.content).get_all("ARC-Seal", [])) == 1
    assert perl.arc(arrived.content) != "pass"
    assert house.rspamd.read(arrived).arc == "fail"


def tag(field: object, name: str) -> str:
    tags = dict(part.strip().partition("=")[::2] for part in str(field).split(";"))
    return tags[name]


def agrees(opinion: Opinion, seen: Sight) -> bool:
    """Whether rspamd and our own evaluation of the next hop come to the same: then the matrix can be believed, too."""
    return (opinion.spf, opinion.signers, opinion.dmarc) == (seen.spf, tuple(sorted(seen.signers)), seen.dmarc)
