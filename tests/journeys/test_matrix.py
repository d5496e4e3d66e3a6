"""Every way in which authentication and forwarding meet, through the SMTP door: what is answered, and what leaves.

Each cell is one message: what its SPF and DKIM say of the author, whether the sender is null, what the author's domain
asks for in DMARC, and which route it takes. `expected` is the whole contract; what leaves is judged as the next hop
would, in `next_hop`.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from dataclasses import dataclass
from email.utils import parseaddr
from functools import cache
from typing import Literal, NamedTuple, get_args

import pytest

from tests.journeys import authors
from tests.journeys.clients import Answer, Dialogue
from tests.journeys.maildir import parse
from tests.journeys.next_hop import sight
from tests.journeys.sinks import Received, RecordingSink
from tests.journeys.world import MAILBOX, SENDER, World, opened
from tests.peers import wait_until

pytestmark = pytest.mark.slow

STRANGER = "127.0.0.66"
BULK, SIGNER = "bulk.example", "signer.example"  # somebody else's domains: one passes SPF, one signs

Spf = Literal["pass", "other", "fail"]
Dkim = Literal["aligned", "other", "broken", "none"]
Policy = Literal["none", "quarantine", "reject", "testing"]
Route = Literal["outside", "trusting", "plain"]

RECORDS: dict[Policy, str] = {
    "none": "p=none",
    "quarantine": "p=quarantine",
    "reject": "p=reject",
    "testing": "p=reject; t=y",
}
RECIPIENTS: dict[Route, str] = {
    "outside": "alice@fwd.example",  # an alias; the MX of its target takes the mail
    "trusting": "carol@trusting.example",  # a domain route with srs = false
    "plain": "carol@plain.example",  # a domain route that says nothing of it
}
ON_TOP = [
    *("arc-seal", "arc-message-signature", "arc-authentication-results"),
    *("dkim-signature", "authentication-results", "x-srs-relay", "received"),
]


class Cell(NamedTuple):
    """One message.

    Attributes:
        spf: `pass` for the author's domain, `other` passes for another one, `fail` for the author's domain.
        dkim: the signature of the author's domain, or of another; `broken` once was the author's.
        null: the sender is null, and SPF looks at the EHLO name.
        policy: what the author's domain publishes for DMARC.
    """

    spf: Spf
    dkim: Dkim
    null: bool
    policy: Policy
    route: Route

    @property
    def name(self) -> str:
        sender = "null sender" if self.null else "sender"
        return f"SPF {self.spf}, DKIM {self.dkim}, {sender}, p {self.policy}, {self.route}"

    @property
    def author(self) -> str:
        return f"{self.policy}.example"

    @property
    def sending(self) -> str:
        """The domain that MAIL FROM or EHLO names."""
        return BULK if self.spf == "other" else self.author


CELLS = [
    Cell(*values)
    for values in itertools.product(*map(get_args, (Spf, Dkim)), (False, True), *map(get_args, (Policy, Route)))
]


@dataclass(frozen=True)
class Outcome:
    """What has to happen to one cell.

    Attributes:
        refusal: of the final dot; the rest is of mail that is taken.
        dmarc: what we find, and tell in Authentication-Results.
        rewritten: From is an address of ours.
        next_spf, next_signers, next_dmarc: what the next hop finds.
    """

    refusal: tuple[int, str] | None = None
    dmarc: str = ""
    rewritten: bool = False
    next_spf: str = ""
    next_signers: tuple[str, ...] = ()
    next_dmarc: str = ""


def expected(cell: Cell) -> Outcome:
    # What may come in.
    signed = cell.dkim == "aligned"
    if cell.spf == "fail" and not signed:
        return Outcome(refusal=(550, "5.7.23"))
    dmarc = "pass" if signed or cell.spf == "pass" else "fail"
    if dmarc == "fail" and cell.policy == "reject":  # t=y makes that quarantine, which is tagged
        return Outcome(refusal=(550, "5.7.26"))

    # How it leaves. Nothing is rewritten but what the next hop would see fail after it passed here, under a policy that
    # counts; where the host behind us trusts us, not even that.
    rests_on_spf = dmarc == "pass" and not signed
    rewritten = rests_on_spf and cell.policy != "none" and cell.route != "trusting"

    # What the next hop sees: our own signature always, the author's as far as it was good, another's unless it covered
    # a From that had to be rewritten; SPF of our address under the sender that left.
    signers = {"aligned": (cell.author,), "other": () if rewritten else (SIGNER,)}.get(cell.dkim, ())
    unchanged = cell.route == "trusting" and not cell.null
    return Outcome(
        dmarc=dmarc,
        rewritten=rewritten,
        next_spf="fail" if unchanged else "pass",
        next_signers=("fwd.example", *signers),
        next_dmarc="pass" if signed or rewritten else "fail",
    )


class Matrix:
    """All cells, sent through one relay to one sink: the answers, and what arrived, by cell."""

    def __init__(self, world: World) -> None:
        self.world = world
        for policy, record in RECORDS.items():
            authors.publish(world.zone, f"{policy}.example", SENDER, record)
        for domain in (BULK, SIGNER):
            authors.publish(world.zone, domain, SENDER)
        world.zone["_dmarc.fwd.example", "TXT"] = ['"v=DMARC1; p=reject"']
        sink = world.start(RecordingSink(MAILBOX, world.port))
        route = {"next_hop": f"smtp://{MAILBOX}:{world.port}", "recipients": "any"}
        self.relay = world.relay(
            aliases="alice@fwd.example carol@mailbox.example\n",
            routes={"domains": {"trusting.example": {**route, "srs": False}, "plain.example": route}},
        )
        self.answers = {cell: self._send(cell) for cell in CELLS}
        accepted = sum(answer.code == 250 for answer in self.answers.values())
        wait_until(lambda: len(self.relay.events("delivered")) >= accepted, f"{accepted} deliveries", 60)
        self.arrived = {parse(one.content)["Subject"]: one for one in sink.received}

    def _send(self, cell: Cell) -> Answer:
        sender = "" if cell.null else f"ann@{cell.sending}"
        source = STRANGER if cell.spf == "fail" else SENDER
        with Dialogue((self.relay.address, self.relay.port), source=source) as session:
            return session.deliver(sender, RECIPIENTS[cell.route], message(cell), helo=f"mx.{cell.sending}")

    def outcome(self, cell: Cell) -> Outcome:
        """What has happened to a cell, as far as it can be told from outside."""
        answer = self.answers[cell]
        if answer.code != 250:
            return Outcome(refusal=answer[:2])
        received = self.arrived[cell.name]
        seen = sight(self.world, received)
        return Outcome(
            dmarc=found_dmarc(received),
            rewritten=seen.author != cell.author,
            next_spf=seen.spf,
            next_signers=seen.signers,
            next_dmarc=seen.dmarc,
        )


@cache
def message(cell: Cell) -> bytes:
    plain = (
        f"From: Ann Author <ann@{cell.author}>\r\nTo: {RECIPIENTS[cell.route]}\r\nSubject: {cell.name}\r\n"
        f"Date: Mon, 16 Jun 2025 10:00:00 +0200\r\nMessage-ID: <{CELLS.index(cell)}@{cell.author}>\r\n\r\nHello.\r\n"
    ).encode()
    if cell.dkim == "none":
        return plain
    signed = authors.signed(plain, SIGNER if cell.dkim == "other" else cell.author)
    return authors.broken(signed) if cell.dkim == "broken" else signed


def found_dmarc(received: Received) -> str:
    """The result of DMARC in our Authentication-Results."""
    (field,) = parse(received.content).get_all("Authentication-Results", [])
    (result,) = re.findall(r";\s*dmarc=(\w+)", field)
    return str(result)


@pytest.fixture(scope="module")
def matrix() -> Iterator[Matrix]:
    with opened() as world:
        yield Matrix(world)


@pytest.mark.parametrize("cell", CELLS, ids=lambda cell: cell.name)
def test_cell(matrix: Matrix, cell: Cell) -> None:
    outcome = matrix.outcome(cell)
    assert outcome == expected(cell), matrix.answers[cell]
    if outcome.refusal is None:
        leaves_as_it_should(cell, outcome, matrix.arrived[cell.name])
    else:
        assert cell.name not in matrix.arrived
        assert cell.author in matrix.answers[cell].text, "the refusal says for whom"


def leaves_as_it_should(cell: Cell, outcome: Outcome, received: Received) -> None:
    """The envelope, what stands on top, the author, and every octet that nobody had to touch."""
    mail, sent = parse(received.content), parse(message(cell))
    on_top = [name for name in ON_TOP if name != "x-srs-relay" or cell.route == "outside"]  # it marks an alias
    assert [name.lower() for name in mail][: len(on_top)] == on_top
    if cell.null:
        assert received.sender == ""
    elif cell.route == "trusting":
        assert received.sender == f"ann@{cell.sending}"
    else:
        assert received.sender.startswith("SRS0=") and received.sender.endswith("@fwd.example")
    if outcome.rewritten:
        shown, address = parseaddr(mail["From"])
        assert "Ann Author" in shown and address.endswith("@fwd.example")
        assert parseaddr(mail["Reply-To"])[1] == f"ann@{cell.author}"
        assert mail["X-Original-From"] == sent["From"]
        kept = [(name, value) for name, value in mail.items() if name not in ("From", "Reply-To", "X-Original-From")]
        assert kept[-len(sent.keys()) + 1 :] == [(name, value) for name, value in sent.items() if name != "From"]
        assert received.content.partition(b"\r\n\r\n")[2] == message(cell).partition(b"\r\n\r\n")[2]
    else:
        assert received.content.endswith(message(cell))


def test_what_passes_here_by_spf_alone_passes_at_the_next_hop_outside(matrix: Matrix) -> None:
    """The promise of the whole stage, read from what arrived and not from the table above."""
    saved = [
        cell
        for cell in CELLS
        if cell.route != "trusting"
        and cell.policy != "none"
        and matrix.answers[cell].code == 250
        and found_dmarc(matrix.arrived[cell.name]) == "pass"
    ]
    assert len(saved) > 20
    assert {sight(matrix.world, matrix.arrived[cell.name]).dmarc for cell in saved} == {"pass"}


def test_the_reply_address_is_the_same_whenever_the_author_writes(matrix: Matrix) -> None:
    rewritten: dict[str, set[str]] = {}
    for cell in CELLS:
        if expected(cell).rewritten:
            address = parseaddr(parse(matrix.arrived[cell.name].content)["From"])[1]
            rewritten.setdefault(cell.author, set()).add(address)
    assert [len(addresses) for addresses in rewritten.values()] == [1, 1, 1]
    assert len(set.union(*rewritten.values())) == 3
