"""DNS that does not answer, and mail that costs too many questions: nobody gets past a policy by either.

What a missing answer may turn is asked again later (`451 4.7.26`), where it could come to a refusal; what it cannot
turn is decided at once; and honest mail of a domain whose own check passes is not held up by the rest.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from email.utils import parseaddr
from typing import Any

import dkim
import pytest

from relay.authenticate.dns_budget import QUESTIONS
from relay.cli.zone import Behaviour
from tests.journeys import authors
from tests.journeys.clients import Answer, Dialogue
from tests.journeys.maildir import parse
from tests.journeys.sinks import Received, RecordingSink
from tests.journeys.world import MAILBOX, SENDER, World, key_pair, opened
from tests.peers import wait_until

pytestmark = pytest.mark.slow

STRANGER, ALICE, EVIL = "127.0.0.66", "alice@fwd.example", "x@evil.example"
TAKEN, REJECTED, DEFERRED = (250, "2.0.0"), (550, "5.7.26"), (451, "4.7.26")
UNPROVEN, SPF_LATER, CROWD = (550, "5.7.23"), (451, "4.7.24"), (550, "5.7.1")
KEY = f"{authors.SELECTOR}._domainkey"
FAULTS: tuple[Behaviour, ...] = ("servfail", "refused", "truncated", "timeout")


class House:
    """A relay before a sink, in a world where some names get no answer.

    bank.example        p=reject; the key of old.bank.example gets none, in each of the ways that there are
    strict.example      p=reject; adkim=s; likewise
    FAULT.example       its policy gets none
    np.example          p=none; np=reject; whether below.np.example exists gets none
    quiet.example       p=reject; SPF of mail.quiet.example gets none
    loose.example       p=none, half.example p=quarantine, trying.example p=reject; t=y: keys below them get none
    evil.example        may send from SENDER, and for whom it pleases; the key of keyless.evil.example gets none
    """

    def __init__(self, world: World, **tables: Any) -> None:
        zone, failures = world.zone, world.failures
        policies = {
            "bank": "p=reject",
            "strict": "p=reject; adkim=s",
            "loose": "p=none",
            "half": "p=quarantine",
            "trying": "p=reject; t=y",
            "np": "p=none; np=reject",
            "quiet": "p=reject",
            "evil": "p=none",
        }
        for name, record in policies.items():
            authors.publish(zone, f"{name}.example", SENDER, record)
            failures[f"{KEY}.old.{name}.example"] = "servfail"
        for fault in FAULTS:
            authors.publish(zone, f"{fault}.example", SENDER)
            failures[f"_dmarc.{fault}.example"] = fault
            failures[f"{KEY}.{fault}.bank.example"] = fault
        failures["below.np.example"] = failures["mail.quiet.example"] = failures["walk.bank.example"] = "servfail"
        failures[f"{KEY}.keyless.evil.example"] = failures["_dmarc.walk.bank.example"] = "servfail"
        zone[f"{KEY}.walk.bank.example", "TXT"] = [key_pair("walk.bank.example")[1]]
        self._count = itertools.count(1)
        self.world = world
        self.sink = world.start(RecordingSink(MAILBOX, world.port))
        self.relay = world.relay(aliases=f"{ALICE} carol@mailbox.example\n", **tables)

    def send(
        self, author: str, sender: str = EVIL, *, signer: str = "", source: str = SENDER, content: bytes = b""
    ) -> tuple[Answer, str]:
        """One message, signed with the key of `signer` where there is one: the last reply, and its subject."""
        subject = f"message {next(self._count)}"
        fields = author if author.startswith(("From:", "X-")) else f"From: {author}"
        plain = content or f"{fields}\r\nTo: {ALICE}\r\nSubject: {subject}\r\n\r\ntext\r\n".encode()
        if signer:
            plain = authors.signed(plain, signer)
        with Dialogue((self.relay.address, self.relay.port), source=source) as session:
            return session.deliver(sender, ALICE, plain), subject

    def arrived(self, subject: str) -> Received:
        line = f"\r\nSubject: {subject}\r\n".encode()
        return wait_until(lambda: [one for one in self.sink.received if line in one.content], repr(subject))[0]

    def results(self, subject: str) -> str:
        (field,) = parse(self.arrived(subject).content).get_all("Authentication-Results", [])
        return " ".join(str(field).split())


@pytest.fixture(scope="module")
def house() -> Iterator[House]:
    with opened() as world:
        yield House(world)


# what an answer may turn


@pytest.mark.parametrize("fault", FAULTS)
def test_a_signature_of_the_authors_organization_without_a_key_is_waited_for(house: House, fault: str) -> None:
    assert house.send("ceo@bank.example")[0][:2] == REJECTED
    answer, _ = house.send("ceo@bank.example", signer=f"{fault}.bank.example")
    assert answer[:2] == DEFERRED
    assert f"{KEY}.{fault}.bank.example" in answer.text and "bank.example, whose policy is reject" in answer.text
    logged = [one for one in house.relay.log if (one["event"], one.get("author")) == ("authenticated", "bank.example")]
    assert f"{KEY}.{fault}.bank.example" in logged[-1]["problem"], "its postmaster, and ours, can see which name it is"
    resolver = house.world.nameserver().rpartition(":")[0]
    assert not re.search(rf"{re.escape(resolver)}\b", answer.text), "which resolver it was is for our log alone"
    failed = [one for one in house.relay.events("dns_failed") if one["name"] == f"{KEY}.{fault}.bank.example"]
    assert failed and failed[0]["type"] == "TXT" and failed[0]["servers"][0].startswith(f"{resolver}: ")


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("below", ["", "sub.", "deep.down."])
def test_a_policy_that_cannot_be_asked_for_is_waited_for(house: House, fault: str, below: str) -> None:
    answer, _ = house.send(f"ceo@{below}{fault}.example")
    assert answer[:2] == DEFERRED
    assert f"_dmarc.{fault}.example" in answer.text and "not known" in answer.text


@pytest.mark.parametrize(
    ("author", "sender", "signer", "name"),
    [
        ("ceo@below.np.example", EVIL, "", "below.np.example"),
        ("ceo@bank.example", EVIL, "walk.bank.example", "_dmarc.walk.bank.example"),
        ("ceo@sub.bank.example", EVIL, "old.bank.example", f"{KEY}.old.bank.example"),
        (f"{EVIL}, ceo@bank.example", EVIL, "old.bank.example", f"{KEY}.old.bank.example"),
        (f"{EVIL}, ceo@servfail.example", EVIL, "", "_dmarc.servfail.example"),
        (f"From: {EVIL}\r\nFrom: ceo@servfail.example", EVIL, "", "_dmarc.servfail.example"),
    ],
    ids=["np", "the walk of a signer", "below, and a relative's key", "of two authors", "policy of two", "two fields"],
)
def test_whatever_else_may_turn_the_verdict_is_waited_for(
    house: House, author: str, sender: str, signer: str, name: str
) -> None:
    answer, _ = house.send(author, sender, signer=signer)
    assert answer[:2] == DEFERRED and name in answer.text


def test_spf_that_is_let_in_without_an_answer_is_waited_for_at_the_end(world: World) -> None:
    house = House(world, spf={"temperror": "tag"})
    answer, _ = house.send("ceo@quiet.example", "x@mail.quiet.example")
    assert answer[:2] == DEFERRED and "mail.quiet.example" in answer.text
    assert house.send("ceo@quiet.example", "x@mail.quiet.example", signer="quiet.example")[0][:2] == TAKEN
    assert house.send("ceo@bank.example", "x@mail.quiet.example")[0][:2] == REJECTED, "another's"


# what it cannot turn


@pytest.mark.parametrize(
    ("author", "signer"),
    [
        ("ceo@bank.example", "keyless.evil.example"),
        ("ceo@bank.example", "evil.example"),
        ("ceo@strict.example", "old.strict.example"),
        ("ceo@nowhere.bank.example", "keyless.evil.example"),
        (f"{EVIL}, ceo@bank.example", "keyless.evil.example"),
    ],
)
def test_what_could_never_be_aligned_changes_nothing(house: House, author: str, signer: str) -> None:
    assert house.send(author, signer=signer)[0][:2] == REJECTED


def test_a_name_that_does_not_exist_is_an_answer(house: House) -> None:
    assert house.send("ceo@bank.example", signer="nokey.bank.example")[0][:2] == REJECTED
    assert house.send("ceo@norecord.example")[0][:2] == TAKEN


def test_a_broken_signature_needs_no_key(house: House) -> None:
    plain = b"From: ceo@bank.example\r\nTo: alice@fwd.example\r\nSubject: x\r\n\r\ntext\r\n"
    content = authors.broken(authors.signed(plain, "old.bank.example"))
    assert house.send("", content=content)[0][:2] == REJECTED


@pytest.mark.parametrize("author", ["loose", "half", "trying"])
def test_a_policy_that_refuses_nothing_is_not_waited_for(house: House, author: str) -> None:
    answer, subject = house.send(f"ceo@{author}.example", signer=f"old.{author}.example")
    assert answer[:2] == TAKEN
    assert "dmarc=temperror" in house.results(subject)


@pytest.mark.parametrize("fault", FAULTS)
def test_what_passes_for_the_very_domain_is_not_held_up(house: House, fault: str) -> None:
    """By SPF alone it goes on with its From: nobody knows that the policy asks for more."""
    author = f"ann@{fault}.example"
    answer, subject = house.send(author, author)
    assert answer[:2] == TAKEN
    assert parseaddr(parse(house.arrived(subject).content)["From"])[1] == author
    assert re.search(rf"dmarc=temperror [^;]*_dmarc\.{fault}\.example", house.results(subject))
    assert house.send(author, signer=f"{fault}.example")[0][:2] == TAKEN, "forwarded, signed"
    assert house.send(author, author, signer=f"{fault}.bank.example")[0][:2] == TAKEN, "beside a signature of others"


def test_what_fails_spf_is_not_waited_for_because_of_a_signature_of_others(house: House) -> None:
    assert house.send("ann@loose.example", "x@bank.example", source=STRANGER)[0][:2] == UNPROVEN
    answer, _ = house.send("ann@loose.example", "x@bank.example", source=STRANGER, signer="keyless.evil.example")
    assert answer[:2] == UNPROVEN
    answer, _ = house.send("ann@loose.example", "x@bank.example", source=STRANGER, signer="old.bank.example")
    assert answer[:2] == SPF_LATER and f"{KEY}.old.bank.example" in answer.text


# as configured


@pytest.mark.parametrize(
    ("tables", "expected"),
    [
        ({"temperror": "tag"}, {"bank": TAKEN, "half": TAKEN, "trying": TAKEN}),
        ({"reject": "tag"}, {"bank": TAKEN, "half": TAKEN, "trying": TAKEN}),
        ({"reject": "defer"}, {"bank": DEFERRED, "half": TAKEN, "trying": TAKEN}),
        ({"quarantine": "reject"}, {"bank": DEFERRED, "half": DEFERRED, "trying": DEFERRED}),
        ({"quarantine": "defer"}, {"bank": DEFERRED, "half": DEFERRED, "trying": DEFERRED}),
        ({"skip": ["127.0.0.11"]}, {"bank": TAKEN, "half": TAKEN, "trying": TAKEN}),
    ],
)
def test_a_missing_answer_is_treated_as_configured(
    world: World, tables: dict[str, Any], expected: dict[str, tuple[int, str]]
) -> None:
    house = House(world, dmarc=tables)
    found = {name: house.send(f"a@{name}.example", signer=f"old.{name}.example")[0][:2] for name in expected}
    assert found == expected
    if "skip" in tables:
        answer, subject = house.send("a@servfail.example")
        assert answer[:2] == TAKEN and "known host" in house.results(subject)


@pytest.mark.parametrize("failing", ["11.0.0.127.in-addr.arpa", "mx.lists.example"])
def test_a_host_that_may_be_known_is_waited_for(world: World, failing: str) -> None:
    world.zone["11.0.0.127.in-addr.arpa", "PTR"] = ["mx.lists.example."]
    world.zone["66.0.0.127.in-addr.arpa", "PTR"] = ["mx.elsewhere.example."]
    world.failures["mx.elsewhere.example"] = "servfail"
    if failing.endswith("arpa"):
        del world.zone["11.0.0.127.in-addr.arpa", "PTR"]
    world.failures[failing] = "servfail"
    house = House(world, dmarc={"skip": [".lists.example"]})
    answer, _ = house.send("ceo@bank.example")
    assert answer[:2] == DEFERRED and failing in answer.text
    assert house.send("ceo@bank.example", "x@norecord.example", source=STRANGER)[0][:2] == REJECTED, "by its name none"
    assert house.send("ann@loose.example")[0][:2] == TAKEN


def test_a_trusted_sealer_whose_key_cannot_be_had_is_waited_for(world: World) -> None:
    for name in ("trusted.example", "stranger.example"):
        authors.publish(world.zone, name, SENDER)
        world.failures[f"seal._domainkey.{name}"] = "servfail"
    house = House(world, arc={"trusted_sealers": ["trusted.example"]})
    answer, _ = house.send("", content=sealed("trusted.example"))
    assert answer[:2] == DEFERRED and "seal._domainkey.trusted.example" in answer.text
    assert house.send("", content=sealed("stranger.example"))[0][:2] == REJECTED
    assert house.send("", content=sealed("trusted.example", saw="fail"))[0][:2] == REJECTED


def sealed(sealer: str, saw: str = "pass") -> bytes:
    results = f"Authentication-Results: {sealer}; dmarc={saw} header.from=bank.example\r\n".encode()
    plain = b"From: ceo@bank.example\r\nTo: alice@fwd.example\r\nSubject: list\r\n\r\ntext\r\n"
    key = key_pair(sealer)[0].encode()
    names = [b"from", b"to", b"subject"]
    fields = dkim.arc_sign(results + plain, b"seal", sealer.encode(), key, sealer.encode(), include_headers=names)
    return b"".join(fields) + results + plain


# several authors: what the refusal says


@pytest.mark.parametrize(
    ("header", "signer", "words"),
    [
        (f"From: {EVIL}\r\nFrom: ceo@bank.example", "bank.example", "2 From fields"),
        ("From: ceo@bank.example\r\nFrom: ceo@bank.example\r\nfrom: x@evil.example", "bank.example", "3 From fields"),
        (f"From: {EVIL}, ceo@bank.example", "evil.example", "one of 2 author domains"),
        (f"From: ceo@bank.example <{EVIL}>", "evil.example", "one of 2 author domains"),
    ],
)
def test_a_refusal_for_several_authors_says_so(house: House, header: str, signer: str, words: str) -> None:
    answer, _ = house.send(header, signer=signer)
    assert answer[:2] == REJECTED and "bank.example" in answer.text and words in answer.text
    assert "DKIM" not in answer.text or "From fields" not in words


def test_what_is_wrong_with_from_stands_in_the_results(house: House) -> None:
    answer, subject = house.send("From: ann@loose.example\r\nFrom: bob@loose.example", signer="loose.example")
    assert answer[:2] == TAKEN
    found = house.results(subject)
    assert re.search(r"dmarc=fail [^;]*2 From fields", found) and re.search(r"dkim=policy [^;]*2 From fields", found)
    for header, words in (("From: undisclosed", "From names no domain"), ("X-From: a@b.example", "no From")):
        answer, subject = house.send(header)
        assert answer[:2] == TAKEN and re.search(rf"dmarc=permerror [^;]*{words}", house.results(subject))
    answer, subject = house.send(f"ann@loose.example, {EVIL}")
    assert answer[:2] == TAKEN and "one of 2 author domains in From" in house.results(subject)


# what a message may cost


def spending(world: World) -> bytes:
    """SPF at its limits, ten signatures deep in the author's name, ten authors, each eight names deep."""
    zone = world.zone
    zone["spender.example", "TXT"] = [f'"v=spf1 {" ".join(f"mx:m{n}.spender.example" for n in range(10))} ?all"']
    for n in range(10):
        zone[f"m{n}.spender.example", "MX"] = [f"10 h{k}.m{n}.spender.example." for k in range(10)]
        for k in range(10):
            zone[f"h{k}.m{n}.spender.example", "A"] = ["203.0.113.1"]
    names = ", ".join(["ceo@bank.example", *(f"x@a.b.c.d.e.f{n}.g{n}.h{n}" for n in range(9))])
    message = f"From: {names}\r\nTo: {ALICE}\r\nSubject: x\r\n\r\ntext\r\n".encode()
    key = key_pair("costly")
    for n in range(10):
        signer = f"a.b.c.d{n}.e{n}.bank.example"
        zone[f"{KEY}.{signer}", "TXT"] = [key[1]]
        selector, fields = authors.SELECTOR.encode(), list(authors.SIGNED)
        message = dkim.sign(message, selector, signer.encode(), key[0].encode(), include_headers=fields) + message
    return message


def test_no_message_costs_more_than_its_questions_and_none_passes_for_it(world: World) -> None:
    content = spending(world)
    house = House(world)
    (server,) = world.nameservers
    server.asked.clear()
    answer, _ = house.send("", "x@spender.example", content=content)
    assert answer[:2] == REJECTED and "bank.example" in answer.text
    assert QUESTIONS - 30 < len(set(server.asked)) <= QUESTIONS
    assert ("_dmarc.bank.example", "TXT") in server.asked


@pytest.mark.parametrize("domain", ["{n}.fwd.example", "a.b.c.{n}.bank.example", "a.b.c.d.e.f{n}.g{n}.h{n}"])
def test_more_authors_than_are_looked_at_cost_no_question(world: World, domain: str) -> None:
    house = House(world)
    (server,) = world.nameservers
    server.asked.clear()
    crowd = ", ".join("x@" + domain.format(n=n) for n in range(100))
    assert house.send(crowd)[0][:2] == CROWD
    assert {name for name, _ in server.asked} <= {"evil.example", "11.0.0.127.in-addr.arpa"}
