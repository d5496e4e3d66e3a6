"""The replies that a client gets to MAIL, RCPT and DATA, and what stands behind them."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from relay.dns import Answer, DnsFailure
from relay.intake import conversation as conversation_module
from relay.mail.envelope import RcptTo
from relay.mail.queue_id import id_text
from relay.mail.reply import Reply
from relay.srs.address import forward, forward_token
from relay.srs.reply_address import reply_addresses
from tests.bounce.samples import postfix
from tests.intake.arriving import FORGER, INNER, JOE, MESSAGE, House

BOUNCE = b"From: MAILER-DAEMON@else.test\r\nSubject: it failed\r\n\r\nSorry.\r\n"
DISK_FULL = "452 4.3.1 Insufficient system storage, try again later"


def srs_address(house: House, sender: str) -> str:
    return forward(sender, house.files.scheme, time.time())


async def keep(author: str, token: str) -> str:
    return token


# MAIL


async def test_no_mail_is_taken_on_a_full_disk(tmp_path: Path) -> None:
    house = House(tmp_path)
    house.queue.full = True
    assert await house.send("alice@fwd.test") == DISK_FULL
    house.queue.full = False
    assert (await house.send("alice@fwd.test")).startswith("250 2.0.0 Ok: queued as ")


# RCPT


async def test_an_unknown_user_is_refused_and_the_others_get_the_message(tmp_path: Path) -> None:
    house = House(tmp_path)
    with house.session() as session:
        await session.mail()
        assert (await session.rcpt("nobody@fwd.test")).startswith("550 5.1.1 ")
        assert (await session.rcpt("alice@fwd.test")).startswith("250 ")
        assert (await session.data()).startswith("250 ")
    assert [delivery.recipient for delivery in house.queue.deliveries] == ["carol@mailbox.test"]


async def test_a_stored_sender_that_cannot_be_looked_up_now_is_asked_for_again_later(tmp_path: Path) -> None:
    house = House(tmp_path)
    token = await house.tokens.token_for(JOE, time.time(), 86400)
    address = forward_token(token, house.files.scheme, time.time())
    house.tokens.away = True
    with capture_logs() as lines:
        reply = await house.send(address, sender="", client=FORGER)
    assert reply == "451 4.3.0 the address cannot be looked up now, try again later"
    assert [line["event"] for line in lines] == ["queue_unavailable"]
    assert house.count('srs_addresses_total{step="rejected"}') == 0
    house.tokens.away = False
    assert (await house.send(address, sender="", client=FORGER, content=BOUNCE)).startswith("250 ")
    assert house.count('srs_addresses_total{step="reversed"}') == 1


async def test_who_may_not_use_the_sender_does_not_learn_whether_a_rate_is_used_up(tmp_path: Path) -> None:
    house = House(tmp_path, srs={"reverse_rate": 1}, spf={"fail": "reject"})
    address = srs_address(house, "ann@person.test")
    with house.session(FORGER) as session:
        assert (await session.send(address, sender="eve@open.test", content=BOUNCE)).startswith("250 ")
        await session.mail(JOE)
        assert (await session.rcpt(address)).startswith("550 5.7.23 ")
        await session.mail("eve@open.test")
        assert (await session.rcpt(address)).startswith("450 4.7.1 ")


async def test_who_may_not_use_the_sender_does_not_learn_where_mail_for_a_person_leads(tmp_path: Path) -> None:
    """The person behind the address is a user of ours who does not exist, and the refusal would name the address."""
    house = House(tmp_path, spf={"fail": "reject"}, aliases="joe@served.test carol@mailbox.test\n")
    address = srs_address(house, "nobody@served.test")
    assert (await house.send(address, sender=JOE, client=FORGER)).startswith("550 5.7.23 ")
    assert (await house.send(address, sender="eve@open.test", client=FORGER)).startswith("550 5.1.1 ")


async def test_a_sender_whose_spf_fails_is_refused_at_rcpt_where_the_policy_says_so(tmp_path: Path) -> None:
    house = House(tmp_path, spf={"fail": "reject"})
    assert (await house.send("alice@fwd.test", client=FORGER)).startswith("550 5.7.23 SPF fail for origin.test: ")
    trusted = FORGER._replace(trusted=True)
    assert (await house.send("alice@fwd.test", client=trusted)).startswith("250 ")


async def test_one_spf_check_serves_all_recipients_and_data(tmp_path: Path) -> None:
    house = House(tmp_path)
    assert (await house.send("alice@fwd.test", "bob@fwd.test")).startswith("250 ")
    assert house.count('spf_results_total{result="pass"}') == 1
    assert house.resolver.asked.count(("origin.test", "TXT")) == 1


async def test_each_transaction_has_an_spf_check_of_its_own(tmp_path: Path) -> None:
    house = House(tmp_path, spf={"fail": "reject"})
    with house.session(FORGER) as session:
        content = b"From: eve@open.test\r\n\r\n"
        assert (await session.send("alice@fwd.test", sender="eve@open.test", content=content)).startswith("250 ")
        assert (await session.send("alice@fwd.test")).startswith("550 5.7.23 ")


async def test_a_client_behind_a_proxy_that_names_nobody_is_checked_for_nothing(tmp_path: Path) -> None:
    house = House(tmp_path, zone={("_dmarc.origin.test", "TXT"): []})
    assert (await house.send("alice@fwd.test", client=FORGER._replace(known=False))).startswith("250 ")
    assert b"spf=none" in house.queue.stored.trace and b"iprev" not in house.queue.stored.trace
    assert not any(rdtype == "PTR" for _, rdtype in house.resolver.asked)


@pytest.mark.parametrize(
    ("first", "second", "reply"),
    [
        ("alice@fwd.test", "strict@fwd.test", "452 4.5.3 this recipient has another policy for the message"),
        ("strict@fwd.test", "alice@fwd.test", "452 4.5.3 this recipient has another policy for the message"),
        ("alice@fwd.test", "bob@fwd.test", "250 "),
        ("strict@fwd.test", "STRICT@fwd.test", "250 "),
    ],
)
async def test_a_recipient_with_another_policy_gets_the_message_on_its_own(
    tmp_path: Path, first: str, second: str, reply: str
) -> None:
    house = House(tmp_path)
    with house.session() as session:
        await session.mail()
        assert (await session.rcpt(first)).startswith("250 ")
        assert (await session.rcpt(second)).startswith(reply)
        await session.mail()
        assert (await session.rcpt(second)).startswith("250 ")


async def test_aliases_do_not_multiply_a_message_without_bound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conversation_module, "TARGETS", 3)
    house = House(tmp_path)
    with house.session() as session:
        await session.mail()
        assert (await session.rcpt("team@fwd.test")).startswith("250 ")
        assert (await session.rcpt("bob@fwd.test")).startswith("250 ")
        assert await session.rcpt("alice@fwd.test") == (
            "452 4.5.3 too many recipients behind these aliases, send the others again"
        )
        assert (await session.data()).startswith("250 ")
    assert len(house.queue.deliveries) == 3


async def test_one_recipient_may_have_as_many_targets_as_its_alias_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(conversation_module, "TARGETS", 1)
    assert (await House(tmp_path).send("team@fwd.test")).startswith("250 ")


@pytest.mark.parametrize(
    ("bounces", "sender", "second", "reply"),
    [
        ("rebuild", "", "srs", "452 4.5.3 a bounce is for one recipient"),
        ("rebuild", "", "alice@fwd.test", "452 4.5.3 a bounce is for one recipient"),
        ("rebuild", JOE, "srs", "250 "),
        ("pass", "", "srs", "250 "),
    ],
)
async def test_a_bounce_that_is_rebuilt_is_for_one_recipient(
    tmp_path: Path, bounces: str, sender: str, second: str, reply: str
) -> None:
    house = House(tmp_path, srs={"bounces": bounces})
    second = srs_address(house, "bea@else.test") if second == "srs" else second
    with house.session() as session:
        await session.mail(sender)
        assert (await session.rcpt(srs_address(house, "ann@person.test"))).startswith("250 ")
        assert (await session.rcpt(second)).startswith(reply)


async def test_bounces_to_aliases_may_have_several_recipients(tmp_path: Path) -> None:
    house = House(tmp_path, srs={"bounces": "rebuild"})
    with house.session() as session:
        await session.mail("")
        assert (await session.rcpt("alice@fwd.test")).startswith("250 ")
        assert (await session.rcpt("bob@fwd.test")).startswith("250 ")
        assert (await session.rcpt(srs_address(house, "ann@person.test"))).startswith("452 4.5.3 ")


# DATA


async def test_the_final_reply_has_the_queue_id_and_the_message_is_counted(tmp_path: Path) -> None:
    house = House(tmp_path)
    with house.session() as session:
        await session.mail()
        await session.rcpt("alice@fwd.test")
        reply = await session.data()
        assert reply == f"250 2.0.0 Ok: queued as {id_text(session.transaction.id)}"
    assert house.queue.stored.id == session.transaction.id
    assert house.count("messages_accepted_total") == 1


async def test_a_refused_message_is_logged_and_not_counted_as_accepted(tmp_path: Path) -> None:
    house = House(tmp_path)
    with capture_logs() as lines:
        reply = await house.send("alice@fwd.test", client=FORGER)
    assert reply.startswith("550 5.7.23 ")
    assert [line["reply"] for line in lines if line["event"] == "refused"] == [reply]
    assert house.count("messages_accepted_total") == 0 and not house.queue.put_in


async def test_a_queue_that_cannot_be_written_is_a_temporary_failure(tmp_path: Path) -> None:
    house = House(tmp_path)
    house.queue.away = True
    with capture_logs() as lines:
        reply = await house.send("alice@fwd.test")
    assert reply == "452 4.3.1 the message cannot be stored now, try again later"
    assert ("queue_unavailable", "the disk is gone") in [(line["event"], line.get("problem")) for line in lines]
    assert house.count("messages_accepted_total") == 0


async def test_a_message_that_bears_our_mark_of_the_alias_is_looping(tmp_path: Path) -> None:
    house = House(tmp_path)
    await house.send("alice@fwd.test", client=INNER)
    came_back = house.queue.stored.trace + MESSAGE
    assert await house.send("alice@fwd.test", client=INNER, content=came_back) == (
        "554 5.4.6 this message has been forwarded here before, it is looping"
    )
    assert (await house.send("bob@fwd.test", client=INNER, content=came_back)).startswith("250 ")
    assert len(house.queue.put_in) == 2


async def test_the_mark_of_one_recipient_stops_the_message_for_all(tmp_path: Path) -> None:
    house = House(tmp_path)
    await house.send("alice@fwd.test", client=INNER)
    came_back = house.queue.stored.trace + MESSAGE
    reply = await house.send("bob@fwd.test", "alice@fwd.test", client=INNER, content=came_back)
    assert reply.startswith("554 5.4.6 ")


async def test_a_message_that_has_passed_too_many_hosts_is_looping(tmp_path: Path) -> None:
    house = House(tmp_path, receive={"max_hops": 3})
    hops = b"Received: from a by b\r\n"
    assert (await house.send("alice@fwd.test", content=hops * 3 + MESSAGE)).startswith("250 ")
    reply = await house.send("alice@fwd.test", content=hops * 4 + MESSAGE)
    assert reply == "554 5.4.6 too many hops, this message is looping"


async def test_a_rate_that_was_used_up_since_rcpt_is_a_temporary_refusal(tmp_path: Path) -> None:
    house = House(tmp_path, srs={"reverse_rate": 1})
    address = srs_address(house, "ann@person.test")
    with house.session() as first, house.session() as second:
        for session in (first, second):
            await session.mail()
            assert (await session.rcpt(address)).startswith("250 ")
        assert (await first.data()).startswith("250 ")
        assert await second.data() == ("450 4.7.1 too many messages to the address behind a recipient, try later")
    assert len(house.queue.put_in) == 1


async def test_a_trusted_client_is_held_up_by_no_rate(tmp_path: Path) -> None:
    house = House(tmp_path, srs={"reverse_rate": 1})
    address = srs_address(house, "ann@person.test")
    for _ in range(2):
        assert (await house.send(address, client=INNER)).startswith("250 ")


async def test_control_characters_in_an_address_are_refused_from_strangers_only(tmp_path: Path) -> None:
    house = House(tmp_path)
    content = MESSAGE.replace(b"<joe@origin.test>", b"<jo\x01e@origin.test>")
    assert (await house.send("alice@fwd.test", content=content)).startswith("550 5.6.0 From has NUL")
    assert (await house.send("alice@fwd.test", content=content, client=INNER)).startswith("250 ")


async def test_lines_of_an_mbox_file_are_no_part_of_the_message(tmp_path: Path) -> None:
    house = House(tmp_path)
    line = b"From joe@origin.test Mon Jun 16 10:00:00 2025\r\n"
    with capture_logs() as lines:
        assert (await house.send("alice@fwd.test", content=line + MESSAGE)).startswith("250 ")
    assert house.queue.stored.message.content == MESSAGE
    (removed,) = [line for line in lines if line["event"] == "mbox_lines_removed"]
    assert removed["octets"] == len(line)


# the client's name


async def test_received_has_the_confirmed_name_of_the_client(tmp_path: Path) -> None:
    house = House(tmp_path)
    await house.send("alice@fwd.test")
    assert b"Received: from mx.origin.test (mail.origin.test [192.0.2.11])\r\n" in house.queue.stored.trace
    assert b"iprev=pass" in house.queue.stored.trace


@pytest.mark.parametrize("zone", [{("mail.origin.test", "A"): ["192.0.2.12"]}, {("mail.origin.test", "A"): []}])
async def test_a_name_that_is_not_confirmed_is_not_written(tmp_path: Path, zone: Any) -> None:
    house = House(tmp_path, zone=zone)
    await house.send("alice@fwd.test")
    assert b"Received: from mx.origin.test (unknown [192.0.2.11])\r\n" in house.queue.stored.trace


async def test_the_clients_name_is_looked_up_once_for_a_connection(tmp_path: Path) -> None:
    house = House(tmp_path)
    with house.session() as session:
        for _ in range(2):
            assert (await session.send("alice@fwd.test", "bob@fwd.test")).startswith("250 ")
    assert [name for name, rdtype in house.resolver.asked if rdtype == "PTR"] == ["11.2.0.192.in-addr.arpa"]
    for stored, _, _ in house.queue.put_in:
        assert b"(mail.origin.test [192.0.2.11])" in stored.trace


async def test_what_dns_said_of_a_client_holds_for_its_next_connection(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    house = House(tmp_path)
    query = house.resolver.query

    async def lasting(name: str, rdtype: str) -> Answer:
        return replace(await query(name, rdtype), expires=time.monotonic() + 100)

    monkeypatch.setattr(house.resolver, "query", lasting)
    assert (await house.send("alice@fwd.test")).startswith("250 ")
    asked, tasks = len(house.resolver.asked), len(asyncio.all_tasks())
    with house.session() as session:
        await session.mail()
        await session.rcpt("alice@fwd.test")
        assert len(asyncio.all_tasks()) == tasks
    assert (await house.send("alice@fwd.test")).startswith("250 ")
    assert len(house.resolver.asked) == asked
    for stored, _, _ in house.queue.put_in:
        assert b"(mail.origin.test [192.0.2.11])" in stored.trace and b"spf=pass" in stored.trace


async def test_a_look_up_ends_with_its_connection(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    house = House(tmp_path)
    asked, cancelled = asyncio.Event(), asyncio.Event()
    query = house.resolver.query

    async def silent(name: str, rdtype: str) -> Answer:
        if rdtype != "PTR":
            return await query(name, rdtype)
        asked.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.set()
            raise
        raise DnsFailure("never")

    monkeypatch.setattr(house.resolver, "query", silent)
    async with asyncio.timeout(10):
        with house.session() as session:
            await session.mail()
            await session.rcpt("alice@fwd.test")
            await asked.wait()
        await cancelled.wait()


# counting


async def test_connections_and_open_sessions_are_counted(tmp_path: Path) -> None:
    house = House(tmp_path)
    with house.session(), house.session():
        assert house.count("sessions") == 2
    assert house.count("sessions") == 0 and house.count("connections_total") == 2


async def test_refusals_are_counted_by_their_reason(tmp_path: Path) -> None:
    house = House(tmp_path)
    with house.session() as session:
        session.conversation.refused(Reply(550, "5.7.23", "SPF fail"))
        session.conversation.refused(Reply(554, "5.4.6", "loop"))
    assert house.count('refusals_total{reason="spf"}') == 1
    assert house.count('refusals_total{reason="loop"}') == 1


@pytest.mark.parametrize("domain", ["fwd.test", "FWD.test"])
async def test_refused_return_addresses_are_counted(tmp_path: Path, domain: str) -> None:
    house = House(tmp_path)
    assert (await house.send(f"SRS0=AAAA=AA=victim.test=joe@{domain}", client=FORGER)).startswith("550 5.1.1 ")
    reply_address = (await reply_addresses(["ann@person.test"], house.files.scheme, keep))["ann@person.test"]
    forged = reply_address.replace("ann@", "eve@")
    assert (await house.send(forged, client=FORGER, sender="eve@open.test")).startswith("550 5.1.1 ")
    assert house.count('srs_addresses_total{step="rejected"}') == 1
    assert house.count('reply_addresses_total{step="rejected"}') == 1


# a bounce that comes home


async def test_a_bounce_comes_home_as_ours_where_it_can_be_read(tmp_path: Path) -> None:
    house = House(tmp_path, srs={"bounces": "rebuild"}, hostname="mx.fwd.example")
    content = postfix()
    assert (await house.send(srs_address(house, JOE), sender="", client=FORGER, content=content)).startswith("250 ")
    stored = house.queue.stored
    assert stored.is_own and stored.message.content != content
    assert [(d.recipient, d.hop[:1]) for d in house.queue.deliveries] == [(JOE, "!")]


async def test_what_has_a_sender_is_no_bounce_whatever_it_looks_like(tmp_path: Path) -> None:
    house = House(tmp_path, srs={"bounces": "rebuild"}, hostname="mx.fwd.example")
    content = postfix()
    reply = await house.send(srs_address(house, JOE), sender="eve@open.test", client=FORGER, content=content)
    assert reply.startswith("250 ")
    assert not house.queue.stored.is_own and house.queue.stored.message.content == content


async def test_a_bounce_that_cannot_be_read_passes_as_it_came(tmp_path: Path) -> None:
    house = House(tmp_path, srs={"bounces": "rebuild"})
    assert (await house.send(srs_address(house, JOE), sender="", content=BOUNCE)).startswith("250 ")
    assert not house.queue.stored.is_own and house.queue.stored.message.content == BOUNCE
    assert [delivery.recipient for delivery in house.queue.deliveries] == [JOE]


async def test_the_recipient_as_it_was_given_is_what_a_hash_is_about(tmp_path: Path) -> None:
    house = House(tmp_path)
    address = srs_address(house, "ann@person.test")
    rcpt = RcptTo(address, given=address.replace("SRS0=", "SRS0=x"))
    assert (await house.send(rcpt, sender="", client=FORGER)).startswith("550 5.1.1 ")
