"""What the door makes of a sender: SPF and its policies, and mail to our SRS addresses."""

from __future__ import annotations

import itertools
import re
import time
from collections.abc import Iterator
from typing import Any

import pytest

from relay.srs import address as srs
from tests.journeys.clients import Answer, Dialogue
from tests.journeys.maildir import parse
from tests.journeys.relay_process import RelayProcess
from tests.journeys.sinks import Received, RecordingSink
from tests.journeys.world import MAILBOX, SECRET, SENDER, World
from tests.peers import wait_until

pytestmark = pytest.mark.slow

KNOWN, STRANGER, TRUSTED, OLD_HOST = "127.0.0.50", "127.0.0.66", "127.0.0.99", "127.0.0.77"
ANN = "ann@sender.example"
DAY = 86400
RECORDS = {
    "refusing.example": "v=spf1 -all exp=why.refusing.example",
    "why.refusing.example": "%{i} is none of ours",
    "doubtful.example": "v=spf1 ~all",
    "undecided.example": "v=spf1 ?all",
    "broken.example": "v=spf1 nonsense:mx",
}
SENDERS = {
    "pass": "x@sender.example",
    "fail": "x@refusing.example",
    "softfail": "x@doubtful.example",
    "neutral": "x@undecided.example",
    "none": "x@silent.example",
    "permerror": "x@broken.example",
    "temperror": "x@failing.example",
}
TAGGED, REJECTED, BROKEN, DEFERRED = (250, "2.0.0"), (550, "5.7.23"), (550, "5.7.24"), (451, "4.7.24")
DENIED, NO_SUCH_USER = (550, "5.7.1"), (550, "5.1.1")


class House:
    """A small internet with relays of several policies. Their mail goes to a sink, or to one that knows no SMTPUTF8."""

    def __init__(self, world: World) -> None:
        for name, record in RECORDS.items():
            world.zone[name, "TXT"] = [f'"{record}"']
        world.failures["failing.example"] = "servfail"
        self._world = world
        self._count = itertools.count(1)
        self.sink = world.start(RecordingSink(MAILBOX, world.port))
        self.old_sink = world.start(RecordingSink(OLD_HOST, world.port, smtputf8=False))
        self.relays: dict[str, RelayProcess] = {}

    def open(self, name: str, domain: str, **tables: Any) -> None:
        """Start a relay at one of the forwarding domains, under a name for the tests."""
        self.relays[name] = self._world.relay(
            domain,
            aliases=f"alice@{domain} carol@mailbox.example\n@mapped.example @{domain}\n",
            clients={"trusted": [f"{TRUSTED}/32"]},
            delivery={"smarthost": {"url": f"smtp://{MAILBOX}:{self._world.port}"}},
            **tables,
        )

    def send(
        self,
        sender: str,
        recipient: str = "",
        author: str = ANN,
        *,
        relay: str = "default",
        source: str = SENDER,
        helo: str = "mx.sender.example",
    ) -> tuple[Answer, str]:
        """One message to a relay (to its alias, unless told otherwise): the last reply, and the subject it had."""
        process = self.relays[relay]
        recipient = recipient or f"alice@{process.folder.name}"
        subject = f"message {next(self._count)}"
        with Dialogue((process.address, process.port), source=source) as session:
            if (answer := session.offer(sender, recipient, helo)).code == 250:
                assert session("DATA").code == 354
                session.send(f"From: {author}\r\nSubject: {subject}\r\n\r\ntext\r\n.\r\n".encode())
                answer = session.reply()
        return answer, subject

    def arrived(self, subject: str) -> Received:
        """The transaction that brought the message with this subject to a sink."""
        line = f"\r\nSubject: {subject}\r\n".encode()

        def found() -> list[Received]:
            return [one for sink in (self.sink, self.old_sink) for one in sink.received if line in one.content]

        return wait_until(found, repr(subject))[0]


@pytest.fixture(scope="module")
def house() -> Iterator[House]:
    world = World()
    try:
        house = House(world)
        old_route = {"next_hop": f"smtp://{OLD_HOST}:{world.port}", "recipients": "any"}
        house.open(
            "default",
            "fwd.example",
            routes={"domains": {"old.example": old_route}},
        )
        house.open(
            "strict",
            "next.example",
            spf={"fail": "reject", "softfail": "defer", "permerror": "reject", "temperror": "reject"},
            srs={"accept": "null"},
        )
        yield house
        assert not world.complaints(), "\n".join(world.complaints())
    finally:
        world.close()


@pytest.fixture(scope="module")
def other_house() -> Iterator[House]:
    world = World()
    try:
        house = House(world)
        house.open(
            "default",
            "fwd.example",
            workers=3,
            spf={"fail": "defer", "softfail": "reject", "permerror": "defer", "temperror": "tag", "skip": [KNOWN]},
            srs={"reverse_rate": 2, "bounce_rate": 3},
        )
        yield house
        assert not world.complaints(), "\n".join(world.complaints())
    finally:
        world.close()


# SPF


def spf_field(content: bytes) -> str:
    """The one Authentication-Results of a message; empty where it has none."""
    fields = parse(content).get_all("Authentication-Results", [])
    assert len(fields) <= 1
    return " ".join("".join(fields).split())


@pytest.mark.parametrize(
    ("policy", "result", "expected"),
    [
        *(("default", result, TAGGED) for result in SENDERS if result not in ("fail", "temperror")),
        ("default", "fail", REJECTED),
        ("default", "temperror", DEFERRED),
        ("strict", "pass", TAGGED),
        ("strict", "neutral", TAGGED),
        ("strict", "none", TAGGED),
        ("strict", "fail", REJECTED),
        ("strict", "softfail", DEFERRED),
        ("strict", "permerror", BROKEN),
        ("strict", "temperror", DEFERRED),
        ("other", "pass", TAGGED),
        ("other", "fail", DEFERRED),
        ("other", "softfail", REJECTED),
        ("other", "permerror", DEFERRED),
        ("other", "temperror", TAGGED),
    ],
)
def test_each_spf_result_has_its_policy(
    house: House, other_house: House, policy: str, result: str, expected: tuple[int, str]
) -> None:
    """A `temperror` is of the moment: it is never rejected for good (RFC 7208 section 8.6)."""
    there, relay = (other_house, "default") if policy == "other" else (house, policy)
    answer, subject = there.send(SENDERS[result], relay=relay)
    assert answer[:2] == expected
    if expected == TAGGED:
        field = spf_field(there.arrived(subject).content)
        assert f"; spf={result} " in field and f"smtp.mailfrom={SENDERS[result]};" in field
    else:
        assert f"SPF {result} for {SENDERS[result].partition('@')[2]}" in answer.text


def test_a_rejection_carries_the_explanation_of_the_domain(house: House) -> None:
    answer, _ = house.send("x@refusing.example", relay="strict")
    assert answer.text.endswith(f"{SENDER} is none of ours")


def test_of_a_null_sender_the_name_in_ehlo_is_checked(house: House) -> None:
    answer, _ = house.send("", relay="strict", helo="refusing.example")
    assert answer[:2] == REJECTED and "refusing.example" in answer.text
    answer, subject = house.send("", relay="strict")
    assert answer[:2] == TAGGED
    field = spf_field(house.arrived(subject).content)
    assert "; spf=pass " in field and " smtp.helo=mx.sender.example;" in field


def test_a_verdict_is_of_its_own_transaction(house: House) -> None:
    relay = house.relays["strict"]
    with Dialogue((relay.address, relay.port), source=SENDER) as session:
        assert session.offer("x@refusing.example", "alice@next.example")[:2] == REJECTED
        assert session("RCPT TO:<alice@next.example>")[:2] == REJECTED
        assert session("RSET").code == 250
        assert session.offer("x@sender.example", "alice@next.example").code == 250


def test_of_a_trusted_client_nothing_is_checked_and_nothing_is_said(house: House) -> None:
    answer, subject = house.send("x@refusing.example", relay="strict", source=TRUSTED)
    assert answer[:2] == TAGGED
    assert spf_field(house.arrived(subject).content) == ""


def test_a_known_forwarder_is_not_checked_and_the_record_does_not_claim_otherwise(other_house: House) -> None:
    answer, subject = other_house.send("x@refusing.example", source=KNOWN)
    assert answer[:2] == TAGGED
    field = spf_field(other_house.arrived(subject).content)
    assert "; spf=none " in field and "no SPF record" not in field


# SRS addresses as recipients


def at_home(sender: str, domain: str = "fwd.example", age_days: int = 0) -> str:
    """Our SRS address for a sender, as it was written so many days ago."""
    return srs.forward(sender, scheme(domain), time.time() - age_days * DAY)


def behind(address: str) -> str | srs.Token:
    """What an SRS address stands for; the null sender for itself."""
    return address and srs.reverse(address, scheme("fwd.example"), time.time())


def scheme(domain: str) -> srs.Scheme:
    return srs.Scheme(domain, (SECRET.encode(),))


def altered(address: str, old: str, new: str) -> str:
    assert old in address
    return address.replace(old, new, 1)


FOREIGN = "SRS0=HHHH=TT=sender.example=ann@elsewhere.example"
SRS0, SRS1 = at_home(ANN), at_home(FOREIGN)


@pytest.mark.parametrize("sender", ["", "dave@mailbox.example"], ids=["null sender", "a sender"])
class TestAtTheSrsDoor:
    @pytest.mark.parametrize(
        ("recipient", "true_sender"),
        [
            (SRS0, ANN),
            (SRS0.upper(), ANN.upper()),
            (altered(SRS0, "SRS0=", "SRS0+"), ANN),
            (at_home(ANN, age_days=20), ANN),
            (at_home('"ann smith"@sender.example'), '"ann smith"@sender.example'),
            (SRS1, FOREIGN),
            (altered(SRS1, "SRS1=", "SRS1-"), FOREIGN),
            (at_home(SRS0, "next.example").replace("@next.", "@fwd."), ANN),
        ],
        ids=["SRS0", "upper case", "SRS0+", "old", "quoted", "SRS1", "SRS1-", "SRS1 over an SRS0 of ours"],
    )
    def test_what_we_wrote_leads_home(self, house: House, sender: str, recipient: str, true_sender: str) -> None:
        answer, subject = house.send(sender, recipient, source=MAILBOX, helo="mx.mailbox.example")
        assert answer[:2] == TAGGED
        arrived = house.arrived(subject)
        assert [one.lower() for one in arrived.recipients] == [true_sender.lower()]
        assert behind(arrived.sender) == sender

    @pytest.mark.parametrize(
        ("recipient", "reason"),
        [
            (altered(SRS0, "=ann@", "=eve@"), "forged"),
            (altered(SRS0, "sender.example", "victim.example"), "forged"),
            (re.sub("=....=", "=AAAA=", SRS0), "forged"),
            (re.sub("=....=", "==", SRS0, count=1), "forged"),
            (altered(SRS1, "elsewhere.example", "victim.example"), "forged"),
            (altered(SRS1, "=ann@", "=eve@"), "forged"),
            (at_home(ANN, age_days=23), "expired"),
            (at_home(ANN, age_days=-2), "expired"),
            ("SRS0=@fwd.example", "malformed"),
            ("SRS0=abcd=TT=sender.example@fwd.example", "malformed"),
            ("SRS1=abcd=elsewhere.example@fwd.example", "malformed"),
        ],
    )
    def test_anything_else_is_refused_and_the_reply_says_why(
        self, house: House, sender: str, recipient: str, reason: str
    ) -> None:
        for source in (STRANGER, TRUSTED):
            answer, _ = house.send(sender, recipient, source=source)
            assert answer[:2] == NO_SUCH_USER and reason in answer.text.lower()


def test_an_address_for_bounces_only_takes_bounces_only(house: House) -> None:
    recipient = at_home(ANN, "next.example")
    for address in (recipient, altered(recipient, "@next.", "@mapped.")):
        assert house.send("x@sender.example", address, relay="strict")[0][:2] == DENIED
    answer, subject = house.send("", recipient, relay="strict")
    assert answer[:2] == TAGGED and house.arrived(subject).recipients == (ANN,)


def test_mail_and_bounces_to_one_sender_behind_srs_addresses_have_a_rate_each(other_house: House) -> None:
    """Over all workers, and who may not write in the sender's name uses none of it up."""
    limited = (450, "4.7.1")
    assert {other_house.send(SENDERS["softfail"], at_home(ANN))[0][:2] for _ in range(3)} == {REJECTED}
    codes = [other_house.send(SENDERS["none"], at_home(ANN))[0][:2] for _ in range(3)]
    assert codes == [TAGGED, TAGGED, limited]
    assert other_house.send(SENDERS["none"], at_home("bob@sender.example"))[0][:2] == TAGGED
    assert [other_house.send("", SRS0)[0][:2] for _ in range(4)] == [TAGGED, TAGGED, TAGGED, limited]


def test_who_guesses_srs_addresses_is_soon_told_nothing(other_house: House) -> None:
    relay = other_house.relays["default"]
    good = at_home("carl@sender.example")

    def heard(sender: str, *recipients: str) -> list[tuple[int, str]]:
        with Dialogue((relay.address, relay.port), source="127.0.0.67") as session:
            session("EHLO guesser.example")
            session(f"MAIL FROM:<{sender}>")
            return [session(f"RCPT TO:<{recipient}>")[:2] for recipient in recipients]

    guesses = [altered(good, "=carl@", f"=c{n}@") for n in range(20)]
    assert heard("", *guesses[:19]) + heard("", guesses[19]) == [NO_SUCH_USER] * 20
    bad = altered(good, "=carl@", "=d@")
    assert heard("", bad) == heard("", good) == [(250, "2.1.5")], "a good one sounds the same"
    assert heard(SENDERS["none"], bad, good) == [(450, "4.7.1")] * 2
    assert heard("", "alice@fwd.example") == [(250, "2.1.5")]
    assert other_house.send("", good)[0][:2] == TAGGED


def test_a_sender_too_long_for_srs_is_stored_and_its_bounce_comes_back(house: House) -> None:
    long = "x" * 60 + "@a-long-name-for-a-host." + "y" * 60 + ".sender.example"
    answer, subject = house.send(long)
    assert answer[:2] == TAGGED
    token = house.arrived(subject).sender
    assert re.fullmatch(r"SRS0=....=..==[a-z0-9]+@fwd\.example", token) and len(token.partition("@")[0]) <= 64
    again = house.arrived(house.send(long)[1]).sender
    assert again == token, "one a day"

    for address in (token, token.lower()):
        answer, subject = house.send("", address, source=MAILBOX, helo="mx.mailbox.example")
        assert answer[:2] == TAGGED and house.arrived(subject).recipients == (long,)
    changed = re.sub(r"==.", lambda found: "==" + ("b" if found[0][-1] == "a" else "a"), token)
    answer, _ = house.send("", changed, source=STRANGER)
    assert answer[:2] == NO_SUCH_USER and "forged" in answer.text


def test_an_internationalized_sender_is_stored_where_the_next_hop_could_not_write_it(house: House) -> None:
    def leaving_sender(recipient: str, subject: str) -> str:
        relay = house.relays["default"]
        with Dialogue((relay.address, relay.port), source=SENDER) as session:
            session("EHLO mx.sender.example")
            assert session("MAIL FROM:<jörg@sender.example> SMTPUTF8").code == 250
            assert session(f"RCPT TO:<{recipient}>").code == 250
            assert session("DATA").code == 354
            session.send(f"From: {ANN}\r\nSubject: {subject}\r\n\r\ntext\r\n.\r\n".encode())
            assert session.reply()[:2] == TAGGED
        return house.arrived(subject).sender

    assert behind(leaving_sender("alice@fwd.example", "to a new host")) == "jörg@sender.example"
    token = leaving_sender("alice@old.example", "to an old host")
    assert isinstance(behind(token), srs.Token)
    answer, subject = house.send("", token, source=MAILBOX, helo="mx.mailbox.example")
    assert answer[:2] == TAGGED and house.arrived(subject).recipients == ("jörg@sender.example",)


@pytest.mark.parametrize("octets", [65, 450])
def test_a_sender_with_a_long_local_part_leaves_with_a_short_one_that_leads_home(house: House, octets: int) -> None:
    """RFC 5321 section 4.5.3.1 asks for no limit where that is possible; newsletters write such senders (VERP)."""
    sender = f"bounce-{'x' * (octets - 7)}@sender.example"
    answer, subject = house.send(sender)
    assert answer[:2] == TAGGED
    arrived = house.arrived(subject)
    assert len(arrived.sender.partition("@")[0]) <= 64
    assert "; spf=pass " in spf_field(arrived.content)
    answer, subject = house.send("", arrived.sender, source=MAILBOX, helo="mx.mailbox.example")
    assert answer[:2] == TAGGED
    arrived = house.arrived(subject)
    assert arrived.recipients == (sender,)
    assert max(map(len, arrived.content.split(b"\r\n"))) <= 998
