"""What DMARC leads to at the door, as configured, and what happens where recipients or the DNS disagree."""

from __future__ import annotations

import re
from collections.abc import Iterator
from email.utils import parseaddr
from typing import Any

import pytest

from tests.journeys import authors
from tests.journeys.clients import Answer, Dialogue
from tests.journeys.maildir import parse
from tests.journeys.relay_process import RelayProcess
from tests.journeys.sinks import Received, RecordingSink
from tests.journeys.world import MAILBOX, SENDER, World, opened
from tests.peers import wait_until

pytestmark = pytest.mark.slow

STRANGER, ALICE = "127.0.0.66", "alice@fwd.example"
TAKEN, REJECTED, DEFERRED = (250, "2.0.0"), (550, "5.7.26"), (451, "4.7.26")
UNFORWARDABLE, ANOTHER_POLICY = (550, "5.7.1"), (452, "4.5.3")
POLICIES = {
    "none": "p=none",
    "quarantine": "p=quarantine",
    "reject": "p=reject",
    "testing": "p=reject; t=y",
    "half": "p=quarantine; t=y",
    "old": "p=reject; pct=0; rf=afrf; ri=60",
    "parent": "p=none; sp=reject; np=quarantine",
    "unknown": "p=maybe",
    "nonsense": "q=reject",
}


class House:
    """A relay before a sink, and a few domains with DMARC policies that send from `SENDER`."""

    def __init__(self, world: World, **tables: Any) -> None:
        for name, record in POLICIES.items():
            authors.publish(world.zone, f"{name}.example", SENDER, record)
        world.zone["there.parent.example", "TXT"] = ['"v=spf1 -all"']
        for name in ("bulk.example", "quaking.example", "keyless.example"):
            authors.publish(world.zone, name, SENDER)
        authors.publish(world.zone, "keyless.example", SENDER, "p=reject")
        del world.zone[f"{authors.SELECTOR}._domainkey.keyless.example", "TXT"]
        world.failures |= {
            "_dmarc.quaking.example": "servfail",
            f"{authors.SELECTOR}._domainkey.keyless.example": "servfail",
            "silent.example": "servfail",
        }
        self.sink = world.start(RecordingSink(MAILBOX, world.port))
        hop = {"next_hop": f"smtp://{MAILBOX}:{world.port}", "recipients": "any"}
        routes = {
            "refusing.example": {**hop, "unforwardable": "reject"},
            "passing.example": {**hop, "unforwardable": "pass"},
            "trusting.example": {**hop, "srs": False},
            "rewriting.example": {**hop, "srs": False, "unforwardable": "rewrite-from"},
            "plain.example": hop,
        }
        self.relay: RelayProcess = world.relay(
            aliases=f"{ALICE} carol@mailbox.example\n", routes={"domains": routes}, **tables
        )

    def client(self, source: str = SENDER) -> Dialogue:
        return Dialogue((self.relay.address, self.relay.port), source=source)

    def send(
        self,
        author: str,
        sender: str,
        recipient: str = ALICE,
        *,
        source: str = SENDER,
        signer: str = "",
        subject: str = "x",
    ) -> Answer:
        """One message: the last answer."""
        with self.client(source) as session:
            return session.deliver(sender, recipient, message(author, signer, subject))

    def arrived(self, subject: str, count: int = 1) -> list[bytes]:
        """What has come with this subject, in the order of the recipients' names."""
        line = f"\r\nSubject: {subject}\r\n".encode()

        def found() -> list[Received]:
            return [one for one in self.sink.received if line in one.content]

        wait_until(lambda: len(found()) >= count, f"{count} of {subject!r}")
        return [one.content for one in sorted(found(), key=lambda one: one.recipients)]


def message(author: str, signer: str = "", subject: str = "x") -> bytes:
    plain = f"From: {author}\r\nTo: {ALICE}\r\nSubject: {subject}\r\n\r\ntext\r\n".encode()
    return authors.signed(plain, signer) if signer else plain


@pytest.fixture(scope="module")
def house() -> Iterator[House]:
    with opened() as world:
        yield House(world)


# a line of the header that is no field


CUT_SHORT = [
    b"this is no field\r\n",
    b"<h1>Pay here</h1>\r\n<!--\r\n",
    b">From x\r\n",
    b"no field\r\n folded: x\r\n",
    b": x\r\n",
    b"X\xc3\xb6: y\r\n",
]


@pytest.mark.parametrize("line", CUT_SHORT, ids=ascii)
def test_a_signature_does_not_count_where_readers_end_the_header_early(house: House, line: bytes) -> None:
    """Signed mail of somebody else, with a text on top of his own that Python's email and Postfix take for the body."""
    for domain, expected in (("reject.example", REJECTED), ("none.example", TAKEN)):
        subject = f"replayed {domain} {line!r}"
        signed = message(f"ann@{domain}", domain, subject)
        with house.client() as session:
            assert session.deliver("x@bulk.example", ALICE, signed.replace(b"To: ", line + b"To: ", 1))[:2] == expected
    (content,) = house.arrived(subject)
    (field,) = parse(content).get_all("Authentication-Results", [])
    assert "dkim=policy" in field and "dmarc=fail" in field


@pytest.mark.parametrize("line", CUT_SHORT, ids=ascii)
def test_mail_of_the_author_s_own_host_may_have_such_a_line(house: House, line: bytes) -> None:
    subject = f"no field {line!r}"
    signed = message("ann@reject.example", "reject.example", subject).replace(b"To: ", line + b"To: ", 1)
    with house.client() as session:
        assert session.deliver("ann@reject.example", ALICE, signed)[:2] == TAKEN
    (content,) = house.arrived(subject)
    assert content.endswith(signed) and b"dkim=pass" in content, "nothing was rewritten"


# a failure


@pytest.mark.parametrize(
    ("author", "expected"),
    [
        ("none", TAKEN),
        ("quarantine", TAKEN),
        ("reject", REJECTED),
        ("testing", TAKEN),
        ("old", REJECTED),
        ("below.reject", REJECTED),
        ("parent", TAKEN),
        ("there.parent", REJECTED),
        ("nowhere.parent", TAKEN),
        ("unknown", TAKEN),
        ("nonsense", TAKEN),
    ],
)
def test_a_failure_is_treated_as_the_domain_asks(house: House, author: str, expected: tuple[int, str]) -> None:
    """An old `pct` is read over (RFC 9989 has none); a record without a policy that is known asks for nothing."""
    answer = house.send(f"ann@{author}.example", "x@bulk.example", subject=f"failed {author}")
    assert answer[:2] == expected
    if expected == TAKEN:
        (content,) = house.arrived(f"failed {author}")
        (field,) = parse(content).get_all("Authentication-Results", [])
        assert re.search(rf";\s*dmarc=(fail|none|permerror)\b.*header\.from={author}\.example", field, re.DOTALL)
        assert parse(content)["From"] == f"ann@{author}.example"
    else:
        assert f"{author}.example" in answer.text


@pytest.mark.parametrize(
    ("actions", "expected"),
    [
        (
            {"reject": "tag", "quarantine": "reject"},
            {"none": TAKEN, "quarantine": REJECTED, "reject": TAKEN, "testing": REJECTED, "half": TAKEN},
        ),
        (
            {"reject": "defer", "quarantine": "defer"},
            {"none": TAKEN, "quarantine": DEFERRED, "reject": DEFERRED, "testing": DEFERRED, "half": TAKEN},
        ),
        (
            {"reject": "reject", "quarantine": "defer"},
            {"none": TAKEN, "quarantine": DEFERRED, "reject": REJECTED, "testing": DEFERRED, "half": TAKEN},
        ),
    ],
)
def test_a_failure_is_treated_as_configured(
    world: World, actions: dict[str, str], expected: dict[str, tuple[int, str]]
) -> None:
    """With t=y the policy counts one step less: reject as quarantine, quarantine as none."""
    house = House(world, dmarc=actions)
    assert {name: house.send(f"ann@{name}.example", "x@bulk.example")[:2] for name in expected} == expected


@pytest.mark.parametrize(
    ("name", "skip", "expected"),
    [
        ("its address", "127.0.0.11/32", TAKEN),
        ("its confirmed name", "mx.lists.example", TAKEN),
        ("what its name is below", ".lists.example", TAKEN),
        ("a name that only looks alike", ".ists.example", REJECTED),
    ],
)
def test_a_known_host_may_bring_what_fails(world: World, name: str, skip: str, expected: tuple[int, str]) -> None:
    world.zone["11.0.0.127.in-addr.arpa", "PTR"] = ["mx.lists.example."]
    world.zone["mx.lists.example", "A"] = [SENDER]
    house = House(world, dmarc={"skip": [skip]})
    assert house.send("ann@reject.example", "x@bulk.example", subject="known")[:2] == expected
    if expected == TAKEN:
        (content,) = house.arrived("known")
        (field,) = parse(content).get_all("Authentication-Results", [])
        assert re.search(r";\s*dmarc=fail\b[^;]*known host", field, re.DOTALL), "the override is recorded"


# what passes here and would fail behind us


@pytest.mark.parametrize(
    ("recipient", "rewritten"),
    [
        (ALICE, True),
        ("x@plain.example", True),
        ("x@rewriting.example", True),
        ("x@passing.example", False),
        ("x@trusting.example", False),
    ],
)
def test_each_route_says_what_becomes_of_mail_that_forwarding_breaks(
    house: House, recipient: str, rewritten: bool
) -> None:
    author, subject = "ann@reject.example", f"breaks for {recipient}"
    assert house.send(author, author, recipient, subject=subject)[:2] == TAKEN
    (content,) = house.arrived(subject)
    mail = parse(content)
    assert (parseaddr(mail["From"])[1] != author) is rewritten
    assert mail["X-Original-From"] == (author if rewritten else None)


@pytest.mark.parametrize("policy", ["quarantine", "reject", "testing"])
def test_a_route_may_refuse_what_forwarding_breaks(house: House, policy: str) -> None:
    author, recipient = f"ann@{policy}.example", "x@refusing.example"
    answer = house.send(author, author, recipient)
    assert answer[:2] == UNFORWARDABLE and f"{policy}.example" in answer.text
    assert house.send(author, author, recipient, signer=f"{policy}.example")[:2] == TAKEN
    assert house.send("ann@none.example", "ann@none.example", recipient)[:2] == TAKEN


def test_one_message_leaves_in_as_many_variants_as_its_routes_want(house: House) -> None:
    author = "ann@quarantine.example"
    with house.client() as session:
        assert session.offer(author, ALICE).code == 250
        assert session("RCPT TO:<x@trusting.example>").code == 250
        assert session("RCPT TO:<x@passing.example>").code == 250
        assert session("DATA").code == 354
        session.send(message(author, subject="variants") + b".\r\n")
        assert session.reply()[:2] == TAKEN
    outside, passing, trusting = house.arrived("variants", 3)
    assert parse(outside)["X-Original-From"] == author
    for content in (passing, trusting):
        assert content.endswith(message(author, subject="variants"))


@pytest.mark.parametrize(
    ("first", "second"), [(ALICE, "x@refusing.example"), ("x@refusing.example", "x@plain.example")]
)
def test_a_recipient_with_another_policy_comes_in_a_transaction_of_its_own(
    house: House, first: str, second: str
) -> None:
    author, subject = "ann@reject.example", f"{first} before {second}"
    content = message(author, "reject.example", subject)
    with house.client() as session:
        assert session.offer(author, first)[:2] == (250, "2.1.5")
        assert session(f"RCPT TO:<{second}>")[:2] == ANOTHER_POLICY
        assert session("DATA").code == 354
        session.send(content + b".\r\n")
        assert session.reply()[:2] == TAKEN
        assert session.deliver(author, second, content)[:2] == TAKEN
    house.arrived(subject, 2)


def test_the_first_recipient_that_is_accepted_fixes_the_policy(house: House) -> None:
    with house.client() as session:
        session.offer("ann@reject.example", "nobody@fwd.example")
        assert session("RCPT TO:<x@refusing.example>")[:2] == (250, "2.1.5")
        assert session(f"RCPT TO:<{ALICE}>")[:2] == ANOTHER_POLICY


# when DNS does not answer


def test_a_policy_that_cannot_be_asked_for_refuses_nothing_and_rewrites_nothing(house: House) -> None:
    author = "ann@quaking.example"
    assert house.send(author, author, subject="no policy")[:2] == TAKEN
    (content,) = house.arrived("no policy")
    assert re.search(rb";\s*dmarc=temperror\b", content)
    assert parse(content)["From"] == author


def test_what_only_a_key_out_of_reach_could_save_is_asked_again_later(house: House) -> None:
    """SPF fails, or p=reject is at stake, and whether the signature speaks for the author nobody can say."""
    author = "ann@keyless.example"
    assert house.send(author, author, source=STRANGER, signer="keyless.example").code == 451
    assert house.send(author, "x@bulk.example", signer="keyless.example").code != 550, "not for good"


def test_a_sender_whose_spf_cannot_be_asked_for_is_deferred(house: House) -> None:
    assert house.send("ann@none.example", "x@silent.example")[:2] == (451, "4.7.24")
