"""`[limits.rates]` through a conversation: who hears what, and who does not."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from relay.srs.address import forward
from tests.intake.arriving import ALIASES, CLIENT, FORGER, INNER, JOE, MESSAGE, House

OPEN = b"From: x@open.test\r\n\r\nHi.\r\n"


def house(tmp_path: Path, **rates: Any) -> House:
    return House(tmp_path, limits={"rates": rates})


async def test_a_client_that_sends_too_much(tmp_path: Path) -> None:
    host = house(tmp_path, client={"messages": 2})
    replies = [await host.send("alice@fwd.test") for _ in range(3)]
    assert [reply[:3] for reply in replies] == ["250", "250", "450"]
    assert replies[2] == (
        "450 4.7.1 <alice@fwd.test>: too much mail from your address (messages) within a minute, try again later"
    )
    assert (await host.send("alice@fwd.test", client=CLIENT._replace(ip="192.0.2.12"), sender="x@open.test",
                            content=OPEN)).startswith("250")  # fmt: skip
    assert len(host.queue.put_in) == 3


async def test_a_trusted_client_is_not_counted(tmp_path: Path) -> None:
    host = house(tmp_path, client={"messages": 1}, sender_domain={"messages": 1})
    for _ in range(5):
        assert (await host.send("x@elsewhere.test", client=INNER)).startswith("250")


async def test_a_user_is_counted_wherever_he_is(tmp_path: Path) -> None:
    host = house(tmp_path, client={"recipients": 3})
    replies = []
    for number in range(2):
        anna = INNER._replace(ip=f"192.0.2.{50 + number}", user="anna@origin.test")
        with host.session(anna) as session:
            await session.mail("anna@origin.test")
            replies += [await session.rcpt(f"r{n}@elsewhere.test") for n in range(2)]
            assert (await session.data(b"From: anna@origin.test\r\n\r\nHi.\r\n")).startswith("250")
    assert [reply[:3] for reply in replies] == ["250", "250", "250", "450"]
    assert "of anna@origin.test" in replies[3]


async def test_recipients_past_the_rate_come_on_their_own(tmp_path: Path) -> None:
    host = house(tmp_path, client={"recipients": 1})
    with host.session() as session:
        await session.mail()
        assert (await session.rcpt("alice@fwd.test")).startswith("250")
        assert (await session.rcpt("bob@fwd.test")).startswith("450 4.7.1")
        assert (await session.data()).startswith("250")
    assert [d.recipient for d in host.queue.deliveries] == ["carol@mailbox.test"]


async def test_a_forger_does_not_use_up_the_rate_of_a_domain(tmp_path: Path) -> None:
    host = House(
        tmp_path,
        limits={"rates": {"sender_domain": {"messages": 1}}},
        spf={"fail": "tag"},
        dmarc={"reject": "tag"},
    )
    replies = [await host.send("alice@fwd.test", client=FORGER) for _ in range(3)]
    assert [reply[:3] for reply in replies] == ["250", "450", "450"]
    assert [(await host.send("alice@fwd.test"))[:3] for _ in range(2)] == ["250", "450"]


async def test_bounces_have_no_sender_domain(tmp_path: Path) -> None:
    host = house(tmp_path, sender_domain={"messages": 1})
    for _ in range(3):
        assert (await host.send("alice@fwd.test", sender="", content=OPEN)).startswith("250")


async def test_a_flooded_alias_slows_alone_and_tells_nothing(tmp_path: Path) -> None:
    host = house(tmp_path, alias={"recipients": 2})
    assert (await host.send("team@fwd.test")).startswith("250")
    with host.session() as session:
        await session.mail()
        refused = await session.rcpt("TEAM@fwd.test")
        assert refused.startswith("450 4.7.1 <TEAM@fwd.test>: too much mail for this recipient within a minute")
        assert (await session.rcpt("alice@fwd.test")).startswith("250")
        assert (await session.data()).startswith("250")


async def test_a_destination_has_a_rate_from_whomever_it_comes(tmp_path: Path) -> None:
    host = house(tmp_path, destination={"messages": 2})
    assert (await host.send("alice@fwd.test")).startswith("250")
    assert (await host.send("x@mailbox.test", client=INNER)).startswith("250")
    refused = await host.send("bob@fwd.test")
    assert refused.startswith("450 4.7.1 <bob@fwd.test>") and "mailbox.test" not in refused
    assert (await host.send("x@elsewhere.test", client=INNER)).startswith("250")


async def test_octets_are_counted_and_paid_back(tmp_path: Path) -> None:
    host = house(tmp_path, client={"octets": 1000})
    large = MESSAGE + b"x" * 400 + b"\r\n"
    replies = [await host.send("alice@fwd.test", content=large) for _ in range(4)]
    assert [reply[:9] for reply in replies] == ["250 2.0.0"] * 3 + ["450 4.7.1"]


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("alice@fwd.test", "alice+detail@fwd.test"),
        ("alice@fwd.test", '"alice"@FWD.test'),
        ("nested@fwd.test", "alice@fwd.test"),
        ("x1@all.test", "x2@all.test"),
    ],
)
async def test_an_alias_is_one_whatever_it_is_called(tmp_path: Path, first: str, second: str) -> None:
    aliases = f"{ALIASES}nested@fwd.test alice@fwd.test\n@all.test one@mailbox.test\n@old.test @mailbox.test\n"
    host = House(tmp_path, aliases=aliases, limits={"rates": {"alias": {"messages": 1}}})
    assert (await host.send(first)).startswith("250")
    assert (await host.send(second)).startswith("450 4.7.1")


async def test_a_domain_that_stands_for_another_counts_user_by_user(tmp_path: Path) -> None:
    host = House(tmp_path, aliases=f"{ALIASES}@old.test @mailbox.test\n", limits={"rates": {"alias": {"messages": 1}}})
    assert [(await host.send(f"{user}@old.test"))[:3] for user in ("a", "b", "a")] == ["250", "250", "450"]


async def test_clients_whose_address_the_proxy_does_not_know_are_not_one_client(tmp_path: Path) -> None:
    host = House(tmp_path, limits={"rates": {"client": {"messages": 1}}})
    unknown = CLIENT._replace(known=False)
    for _ in range(3):
        assert (await host.send("alice@fwd.test", sender="x@open.test", content=OPEN, client=unknown)).startswith("250")


async def test_who_is_behind_a_return_address_uses_up_no_rate_of_a_destination(tmp_path: Path) -> None:
    host = house(tmp_path, destination={"messages": 1}, alias={"messages": 1})
    returned = forward("joe@mailbox.test", host.files.scheme, time.time())
    for _ in range(3):
        assert (await host.send(returned, sender="", content=OPEN)).startswith("250")
    assert (await host.send("alice@fwd.test")).startswith("250")


async def test_the_log_names_the_rate(tmp_path: Path) -> None:
    host = house(tmp_path, destination={"recipients": 1})
    assert (await host.send("team@fwd.test")).startswith("250")
    with capture_logs() as lines:
        assert (await host.send("alice@fwd.test")).startswith("450")
    [line] = [line for line in lines if line["event"] == "rate_used_up"]
    assert (line["rate"], line["name"], line["what"]) == ("destination", "mailbox.test", "recipients")


@pytest.mark.parametrize("recipient", ["nobody@fwd.test", "x@elsewhere.test"])
async def test_what_is_refused_is_not_counted(tmp_path: Path, recipient: str) -> None:
    host = house(tmp_path, client={"messages": 1})
    for _ in range(5):
        assert (await host.send(recipient)).startswith("5")
    assert (await host.send("alice@fwd.test", sender=JOE)).startswith("250")
