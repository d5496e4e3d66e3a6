"""The dry run: what it shows of a message, and that nothing is sent, stored or used up by it."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from relay.cli.dry_run import DryRun, OurSignature, dry_run
from relay.dns import Answer, DnsFailure, Tlsa
from relay.mail.message import Message
from relay.queue.connect import connect
from relay.queue.database import QueueUnavailable
from relay.queue.store import Store
from relay.srs.address import forward_token
from tests.content_filter.answering import rspamd, says
from tests.corpus import RSA_PEM
from tests.intake.arriving import CLIENT, FORGER, INNER, JOE, MESSAGE, ZONE, House

OURS: dict[tuple[str, str], Any] = {("mx.fwd.test", "A"): ["192.0.2.25"], ("fwd.test", "TXT"): [(b"v=spf1 a -all",)]}


async def run_dry(house: House, *recipients: str, client: Any = CLIENT, **more: Any) -> DryRun:
    defaults: dict[str, Any] = {"sender": JOE, "next_hop_view": False, "content": MESSAGE}
    arguments = {**defaults, **more}
    message = Message(arguments.pop("content"))
    to = recipients or ("alice@fwd.test",)
    return await dry_run(
        house.config, house.resolver, message, ip=client.ip, helo=client.helo, recipients=to, **arguments
    )


# the way of a message


async def test_the_filter_is_asked_only_where_that_is_wanted(tmp_path: Path) -> None:
    async with rspamd(says("add header", 7)) as server:
        house = House(tmp_path, filter={"rspamd": server.url})
        result = await run_dry(house, content=b"X-Spam: No\r\n" + MESSAGE)
        assert result.accepted and result.filter_asked is False and not server.requests
        assert b"x-spam" not in (result.ways[0].on_top + result.ways[0].message.content).lower()
        result = await run_dry(house, ask_filter=True)
        assert result.filter_asked is True and len(server.requests) == 1
        assert b"X-Spam: Yes\r\nX-Spam-Score: 7.00\r\n" in result.ways[0].on_top
    assert (await run_dry(House(tmp_path))).filter_asked is None


async def test_an_accepted_message_shows_its_session_its_results_and_its_ways(tmp_path: Path) -> None:
    house = House(tmp_path)
    result = await run_dry(house, "team@fwd.test")
    assert result.accepted
    assert [(step.command, step.reply[:3]) for step in result.steps] == [
        (f"MAIL FROM:<{JOE}>", "250"),
        ("RCPT TO:<team@fwd.test>", "250"),
        ("DATA", "250"),
    ]
    assert result.verdict is not None and result.verdict.aligned == ("spf",)
    assert "by SPF alone" in result.unforwardable
    assert ("origin.test", "TXT") in [(asked.name, asked.rdtype) for asked in result.asked]
    carol, eve = result.ways
    assert (carol.recipient, carol.original, carol.hop) == ("carol@mailbox.test", "team@fwd.test", "mailbox.test")
    assert carol.sender_reason == "srs" and carol.sender.endswith("=origin.test=joe@fwd.test")
    assert carol.from_rewritten and b"via fwd.test" in carol.message.content
    assert b"Authentication-Results: mx.fwd.test" in carol.on_top and carol.views == ()
    assert eve.recipient == "eve@mailbox.test"


async def test_a_refusal_ends_the_session_and_has_no_ways(tmp_path: Path) -> None:
    house = House(tmp_path)
    at_rcpt = await run_dry(house, "nobody@fwd.test")
    assert [step.reply[:3] for step in at_rcpt.steps] == ["250", "550"]
    at_data = await run_dry(house, client=FORGER)
    assert [step.reply[:3] for step in at_data.steps] == ["250", "250", "550"]
    for result in (at_rcpt, at_data):
        assert not result.accepted and result.ways == []
    assert at_rcpt.verdict is None and at_data.verdict is not None and at_data.unforwardable == ""


async def test_a_trusted_client_is_known_by_its_address(tmp_path: Path) -> None:
    result = await run_dry(House(tmp_path), "anyone@d.test", client=INNER)
    assert result.accepted and result.client.trusted


async def test_a_user_is_shown_the_rules_for_users(tmp_path: Path) -> None:
    house = House(tmp_path, senders={"local_domains": ["fwd.test"]})
    refused = await run_dry(house, "anyone@d.test", user="ann")
    assert [step.reply for step in refused.steps] == [f"550 5.7.1 <{JOE}>: user ann may not send as this address"]
    content = b"From: ann@fwd.test\r\n\r\nhi\r\n"
    taken = await run_dry(house, "anyone@d.test", user="ann", sender="ann@fwd.test", content=content)
    assert taken.accepted and b"auth=pass smtp.auth=ann" in taken.ways[0].on_top
    assert b"Message-ID: <" in taken.ways[0].message.content


async def test_forged_results_and_overrides_are_shown(tmp_path: Path) -> None:
    house = House(tmp_path, dmarc={"skip": ["192.0.2.66/32"]})
    forged = b"Authentication-Results: mx.fwd.test; spf=pass\r\n"
    result = await run_dry(house, client=FORGER, content=forged + MESSAGE)
    assert (result.forged, result.override) == (1, "known host 192.0.2.66")


async def test_the_signatures_are_those_of_the_fields_that_are_added(tmp_path: Path) -> None:
    (tmp_path / "relay1.pem").write_bytes(RSA_PEM)
    key = {"domain": "fwd.test", "selector": "relay1", "private_key": "relay1.pem"}
    (way,) = (await run_dry(House(tmp_path, dkim=[key]))).ways
    assert way.signatures == (
        OurSignature("ARC-Seal", "fwd.test", "relay1", "rsa-sha256"),
        OurSignature("DKIM-Signature", "fwd.test", "relay1", "rsa-sha256"),
    )


# with the next hop's eyes


@pytest.fixture(autouse=True)
def kernel(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """What the kernel sends from to an address; without an entry no route leads there. Anywhere is 192.0.2.1."""
    sources = {"192.0.2.1": "192.0.2.25"}
    for module in ("relay.sending_addresses", "relay.cli.address_seen"):
        monkeypatch.setattr(f"{module}.kernel_choice", lambda destination, source="": sources.get(destination))
    return sources


async def test_the_next_hops_view_is_of_what_leaves(tmp_path: Path) -> None:
    zone = {**ZONE, **OURS, ("fwd.test", "A"): ["192.0.2.25"]}
    result = await run_dry(House(tmp_path, zone=zone), next_hop_view=True)
    (way,) = result.ways
    (view,) = way.views
    assert view.ip == "192.0.2.25" and "mailbox.test does not exist" in way.address_problem
    assert view.verdict.spf is not None and (view.verdict.spf.result, view.verdict.spf.domain) == ("pass", "fwd.test")
    assert view.verdict.dmarc is not None and view.verdict.dmarc.domain == "fwd.test"
    assert ("fwd.test", "TXT") in [(asked.name, asked.rdtype) for asked in view.asked]
    assert ("mailbox.test", "MX") in [(asked.name, asked.rdtype) for asked in way.asked]


async def test_the_tls_policy_of_each_host_is_shown(tmp_path: Path) -> None:
    right = Tlsa(3, 1, 1, bytes(32))
    mailbox: dict[tuple[str, str], Any] = {
        ("mailbox.test", "MX"): Answer(((10, "mx1.test"), (20, "mx2.test"), (30, "mx3.test")), secure=True),
        ("mx1.test", "A"): Answer(("8.8.8.8",), secure=True),
        ("mx2.test", "A"): Answer(("8.8.4.4",), secure=True),
        ("mx3.test", "A"): ["9.9.9.9"],
        ("_25._tcp.mx1.test", "TLSA"): Answer((right,), secure=True),
        ("_25._tcp.mx2.test", "TLSA"): DnsFailure("SERVFAIL"),
    }
    zone = {**ZONE, **OURS, **mailbox}
    (way,) = (await run_dry(House(tmp_path, zone=zone), next_hop_view=True)).ways
    assert [(each.host.name, each.policy) for each in way.tls] == [
        ("mx1.test", "dane"),
        ("mx2.test", "dane"),
        ("mx3.test", "may"),
    ]
    assert ["SERVFAIL" in each.problem for each in way.tls] == [False, True, False]
    (way,) = (await run_dry(House(tmp_path, zone=zone))).ways
    assert way.tls == ()


async def test_each_address_that_the_kernel_chooses_for_a_host_has_a_view(
    tmp_path: Path, kernel: dict[str, str]
) -> None:
    """A host with IPv6 whose SPF has its IPv4 address alone."""
    kernel |= {"2a01:4f8::25": "2001:db8::25", "8.8.8.8": "192.0.2.25"}
    mailbox: dict[tuple[str, str], Any] = {
        ("mailbox.test", "MX"): [(10, "mx.mailbox.test")],
        ("mx.mailbox.test", "A"): ["8.8.8.8"],
        ("mx.mailbox.test", "AAAA"): ["2a01:4f8::25"],
    }
    zone = {**ZONE, **OURS, ("fwd.test", "TXT"): [(b"v=spf1 ip4:192.0.2.25 -all",)], **mailbox}
    (way,) = (await run_dry(House(tmp_path, zone=zone), next_hop_view=True)).ways
    results = [(view.ip, view.verdict.spf.result if view.verdict.spf else "") for view in way.views]
    assert results == [("2001:db8::25", "fail"), ("192.0.2.25", "pass")] and way.address_problem == ""
    assert [view.opinion.spf.result for view in way.views] == ["fail", "pass"]
    four_alone = House(tmp_path, zone=zone, delivery={"families": ["ipv4"]})
    (way,) = (await run_dry(four_alone, next_hop_view=True)).ways
    assert [view.ip for view in way.views] == ["192.0.2.25"]


async def test_without_addresses_of_ours_there_is_no_next_hops_view(tmp_path: Path, kernel: dict[str, str]) -> None:
    kernel.clear()
    house = House(tmp_path, zone={("mx.fwd.test", "A"): DnsFailure("no answer")})
    with pytest.raises(DnsFailure):
        await run_dry(house, next_hop_view=True)


# nothing is left behind


async def test_nothing_is_stored_and_no_queue_is_made(tmp_path: Path) -> None:
    house = House(tmp_path, queue={"url": "sqlite:///queue.db"})
    before = set(tmp_path.iterdir())
    result = await run_dry(house, sender="j" * 60 + "@open.test", content=b"From: x@open.test\r\n\r\n")
    (way,) = result.ways
    assert way.sender_reason == "too-long" and way.sender.endswith("@fwd.test")
    result = await run_dry(house, "team@fwd.test", sender="j" * 60 + "@open.test", content=b"From: x@open.test\r\n\r\n")
    assert len(result.ways) == 2 and len({way.sender for way in result.ways}) == 1, "a sender has one token"
    assert set(tmp_path.iterdir()) == before


async def test_a_stored_sender_is_found_in_the_queue(tmp_path: Path) -> None:
    house = House(tmp_path, queue={"url": "sqlite:///queue.db"})
    now, content = time.time(), b"From: MAILER-DAEMON@else.test\r\n\r\n"
    store = Store(await connect(f"sqlite:///{tmp_path}/queue.db"), "worker/1/")
    token = await store.token_for(JOE, now, 86400)
    await store.close()
    found = await run_dry(house, forward_token(token, house.files.scheme, now), sender="", content=content)
    assert [way.recipient for way in found.ways] == [JOE]
    (tmp_path / "queue.db").unlink()
    lost = await run_dry(house, forward_token(token, house.files.scheme, now), sender="", content=content)
    assert [step.reply[:9] for step in lost.steps] == ["250 2.1.0", "451 4.3.0"]
    assert QueueUnavailable.__name__ not in str(lost.steps)
