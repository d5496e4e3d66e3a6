"""Postfix with the relay as its relayhost, and a Postfix that hosts the mailbox at the other end."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from email.message import Message
from typing import Any, cast

import pytest

from relay.srs import address as srs
from tests.journeys.maildir import parse, return_path
from tests.journeys.postfix import Postfix
from tests.journeys.relay_process import RelayProcess
from tests.journeys.world import MAILBOX, SENDER, World
from tests.peers import needs

pytestmark = [needs("postfix", root=True), pytest.mark.slow]

ANN = "ann@sender.example"
CAROL = "carol@mailbox.example"
DAVE = "dave@mailbox.example"
MESSAGE = b"""\
From: Ann <ann@sender.example>
To: Carol <carol@mailbox.example>
Subject: %s

Gr\xc3\xbc\xc3\x9fe.
.a line that begins with a dot
"""


class Company:
    """A company's Postfix hands everything to the relay; it trusts nothing but that Postfix."""

    def __init__(
        self, world: World, settings: Mapping[str, str] | None = None, authserv_ids: Sequence[str] = (), **tables: Any
    ) -> None:
        clients = {"trusted": [SENDER], "authserv_ids": [*authserv_ids]}
        self.relay: RelayProcess = world.relay(clients=clients, **tables)
        self.office = Postfix(
            world.base / "office",
            "mx.sender.example",
            SENDER,
            world.port,
            mailboxes=[ANN],
            relayhost=f"[{self.relay.address}]:{self.relay.port}",
            settings=settings or {},
        )
        self.mailbox = Postfix(
            world.base / "mailbox",
            "mx.mailbox.example",
            MAILBOX,
            world.port,
            mailboxes=[CAROL, DAVE],
            refused_content="refuse-me",
        )
        world.start_all(self.office, self.mailbox)


def test_a_sender_that_is_not_ours_leaves_with_an_srs_address(world: World) -> None:
    company = Company(world)
    company.office.submit(ANN, [CAROL], MESSAGE % b"hello")
    [arrived] = company.mailbox.wait_for_mail(CAROL)
    sender = return_path(arrived)
    assert srs.is_srs(sender) and sender.endswith("=sender.example=ann@fwd.example")
    assert b"\n\nGr\xc3\xbc\xc3\x9fe.\n.a line that begins with a dot\n" in arrived
    assert world.signers(arrived) == ["fwd.example"]
    company.relay.wait_for_empty_queue()


def test_a_local_sender_leaves_as_it_is_and_signed_with_its_own_key(world: World) -> None:
    company = Company(
        world,
        senders={"local_domains": ["fwd.example", "sender.example"]},
        dkim=[{"domain": "sender.example", "selector": "relay1", "private_key": "sender.example.pem"}],
    )
    company.office.submit(ANN, [CAROL], MESSAGE % b"hello")
    [arrived] = company.mailbox.wait_for_mail(CAROL)
    assert return_path(arrived) == ANN
    assert world.signers(arrived) == ["sender.example"]


@pytest.mark.parametrize(
    ("recipient", "subject", "status"),
    [("nobody@mailbox.example", b"hello", "5.1.1"), (CAROL, b"refuse-me", "5.7.1")],
    ids=["at RCPT", "after DATA"],
)
def test_what_the_mailbox_refuses_comes_back_to_the_user_of_the_first_postfix(
    world: World, recipient: str, subject: bytes, status: str
) -> None:
    company = Company(world)
    company.office.submit(ANN, [recipient], MESSAGE % subject)
    [bounce] = company.office.wait_for_mail(ANN)
    report = parse(bounce)
    assert return_path(bounce) == ""
    assert report.get_content_type() == "multipart/report" and report["Auto-Submitted"].startswith("auto-")
    status_part = next(part for part in report.walk() if part.get_content_type() == "message/delivery-status")
    _, about = cast(list[Message], status_part.get_payload())
    assert about["Action"] == "failed" and about["Status"] == status
    assert recipient in about["Final-Recipient"]
    assert subject in bounce and company.mailbox.inbox(CAROL) == []
    assert world.signers(bounce) == ["fwd.example"]
    company.relay.wait_for_empty_queue()


def test_one_of_three_recipients_refused_is_one_bounce_and_two_delivered(world: World) -> None:
    company = Company(world)
    company.office.submit(ANN, [CAROL, "nobody@mailbox.example", DAVE], MESSAGE % b"three of you")
    assert len(company.mailbox.wait_for_mail(CAROL)) == 1
    assert len(company.mailbox.wait_for_mail(DAVE)) == 1
    [bounce] = company.office.wait_for_mail(ANN)
    assert b"nobody@mailbox.example" in bounce
    assert CAROL.encode() not in bounce.partition(b"message/delivery-status")[2].partition(b"\n--")[0]
    company.relay.wait_for_empty_queue()
    assert len(company.office.inbox(ANN)) == 1


@pytest.mark.parametrize("believed", [True, False])
def test_what_postfix_found_out_decides_whether_from_has_to_change(world: World, believed: bool) -> None:
    """Postfix writes the field as a milter of it would: here by an access table."""
    world.zone["_dmarc.sender.example", "TXT"] = ['"v=DMARC1; p=reject"']
    found = "spf=pass smtp.mailfrom=ann@sender.example; dmarc=pass (p=reject) header.from=sender.example"
    table = f"static:{{PREPEND Authentication-Results: mx.sender.example; {found}}}"
    company = Company(
        world,
        {"smtpd_client_restrictions": f"check_client_access {table}"},
        ["mx.sender.example"] if believed else [],
    )
    company.office.submit(ANN, [CAROL], MESSAGE % b"hello")
    [arrived] = company.mailbox.wait_for_mail(CAROL)
    message = parse(arrived)
    assert ("reply=" in message["From"], "ARC-Seal" in message) == (believed, believed)
    if believed:
        assert '"Ann via fwd.example"' in message["From"] and message["X-Original-From"] == "Ann <ann@sender.example>"
        assert message["ARC-Authentication-Results"].startswith("i=1; mx.sender.example;")
    assert world.signers(arrived) == ["fwd.example"]
