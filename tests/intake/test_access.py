"""The access tables through a conversation: who hears what, what is stored of the message, and what the log says."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from relay.dns import DnsFailure
from relay.mail.envelope import Client, RcptTo
from relay.srs.address import Scheme, forward
from tests.intake.arriving import CLIENT, FORGER, INNER, JOE, MESSAGE, House, Zone

ANNA = "anna@origin.test"
OPEN = b"From: x@open.test\r\n\r\nHi.\r\n"
BAD = "451 4.3.5 a table of access rules here has a bad line, try again later"


def house(folder: Path, access: Mapping[str, str], zone: Zone | None = None, **tables: Any) -> House:
    """A house with access tables, given by section and text."""
    sections: dict[str, dict[str, Any]] = {
        "routes": {"aliases": "aliases", "postmaster": "admin@mailbox.test"},
        "clients": {"trusted": ["198.51.100.0/24"]},
        "senders": {},
    }
    folder.mkdir(exist_ok=True)
    for section, text in access.items():
        (folder / f"{section}.access").write_text(text)
        sections[section]["access"] = f"{section}.access"
    return House(folder, zone, **{**sections, **tables})


# Who is let in does not change who may send where.

CLIENTS: Mapping[str, tuple[Client, str]] = {
    "stranger": (CLIENT, JOE),
    "trusted": (INNER, JOE),
    "logged in": (INNER._replace(ip="192.0.2.50", user=ANNA), ANNA),
}
REPLIES = {"OK": "", "REJECT": "550 5.7.1 so", "DEFER": "450 4.7.1 so", "HOLD": "", "DISCARD": ""}
EVERYBODY = {
    "clients": "192.0.2.0/24 {0} so\n198.51.100.0/24 {0} so\n",
    "senders": "origin.test {0} so\n",
    "routes": "/./ {0} so\n",
}


def recipients(scheme: Scheme) -> Mapping[str, str]:
    good = forward("ann@sender.test", scheme, time.time())
    return {
        "alias": "alice@fwd.test",
        "alias with two targets": "team@fwd.test",
        "unknown": "nobody@fwd.test",
        "foreign": "x@elsewhere.test",
        "foreign by %": "x%elsewhere.test@fwd.test",
        "SRS": good,
        "SRS forged": good.replace("SRS0=", "SRS0=A", 1),
        "postmaster": "postmaster",
        "postmaster of ours": "postmaster@fwd.test",
    }


async def fate(host: House, recipient: str, who: str) -> tuple[str, list[tuple[str, str]]]:
    """The reply to a message without the queue id, and the deliveries that are stored of it, each with its state."""
    client, sender = CLIENTS[who]
    host.queue.put_in.clear()
    reply = await host.send(recipient, sender=sender, client=client, content=f"From: {sender}\r\n\r\n".encode())
    stored = [(each.recipient, str(each.state)) for _, deliveries, _ in host.queue.put_in for each in deliveries]
    return reply.partition(" as ")[0], stored


@pytest.mark.parametrize("mode", ["queue", "in-session"])
@pytest.mark.parametrize("table", EVERYBODY)
@pytest.mark.parametrize("action", REPLIES)
@pytest.mark.parametrize("who", CLIENTS)
async def test_no_row_relays_what_was_not_relayed_before(
    tmp_path: Path, who: str, action: str, table: str, mode: str
) -> None:
    """A reply is what it is without tables, or a refusal more; what is stored is the same, held, or nothing."""
    plain = house(tmp_path / "plain", {}, delivery={"mode": mode})
    judged = house(tmp_path / "judged", {table: EVERYBODY[table].format(action)}, delivery={"mode": mode})
    taken = 0
    for name, recipient in recipients(plain.files.scheme).items():
        expected = reply, stored = await fate(plain, recipient, who)
        if reply.startswith("250"):
            taken += 1
            if recipient == "postmaster":
                pass
            elif action == "HOLD":
                expected = reply, [(address, "held") for address, _ in stored]
            elif action == "DISCARD":
                expected = reply, []
            elif action != "OK":
                expected = REPLIES[action], []
        assert await fate(judged, recipient, who) == expected, name
    assert taken == {"stranger": 5, "trusted": 6, "logged in": 6}[who]


@pytest.mark.parametrize("table", EVERYBODY)
async def test_ok_lifts_no_rule(tmp_path: Path, table: str) -> None:
    host = house(tmp_path, {table: EVERYBODY[table].format("OK") + "fwd.test OK\n<> OK\n"})
    assert (await host.send("alice@fwd.test", client=FORGER)).startswith("550 5.7.23 ")
    forged = b"From: ceo@fwd.test\r\n\r\nHi.\r\n"
    assert (await host.send("alice@fwd.test", content=forged)).startswith("550 5.7.1 ")
    assert (await host.send("alice@fwd.test", sender="ceo@fwd.test", content=OPEN)).startswith("550 5.7.1 ")
    reply = await host.send("alice@fwd.test", client=FORGER, sender="x@open.test", content=MESSAGE)
    assert reply.startswith("550 5.7.26 ")
    assert not host.queue.put_in


# What a client, a sender and a recipient are called.


@pytest.mark.parametrize(
    ("line", "reply"),
    [
        ("192.0.2.11 REJECT go away", "550 5.7.1 go away"),
        ("192.0.2 DEFER", "450 4.7.1 Access denied, try again later"),
        ("mail.origin.test REJECT", "550 5.7.1 Access denied"),
        (".test 554 no tests", "554 5.7.1 no tests"),
        ("/^MAIL\\./ REJECT 5.7.0 no names", "550 5.7.0 no names"),
        ("/^192\\.0\\.2\\.(\\d+)$/ REJECT not $1", "550 5.7.1 not 11"),
        ("192.0.2.11 REJECTED", BAD),
        ("x.test OK\n192.0.2.11/ REJECT", BAD),
        ("unknown REJECT", "250"),
        ("mx.origin.test REJECT", "250"),
        ("mail.origin.test DUNNO\n192.0.2.11 REJECT", "250"),
    ],
)
async def test_clients(tmp_path: Path, line: str, reply: str) -> None:
    host = house(tmp_path, {"clients": f"203.0.113.1 OK\n{line}\n"})
    assert (await host.send("alice@fwd.test")).startswith(reply)
    assert len(host.queue.put_in) == (reply == "250")


async def test_a_client_without_a_confirmed_name_is_unknown(tmp_path: Path) -> None:
    zone: Zone = {
        ("66.2.0.192.in-addr.arpa", "PTR"): ["mail.origin.test"],  # whose address is another one
        ("67.2.0.192.in-addr.arpa", "PTR"): DnsFailure("timeout"),
    }
    host = house(tmp_path, {"clients": "mail.origin.test REJECT by name\nunknown REJECT no name\n"}, zone)
    replies = [
        await host.send(
            "alice@fwd.test", client=CLIENT._replace(ip=f"192.0.2.{last}"), sender="x@open.test", content=OPEN
        )
        for last in (11, 12, 66, 67)
    ]
    assert replies[:3] == ["550 5.7.1 by name", "550 5.7.1 no name", "550 5.7.1 no name"]
    assert replies[3].startswith("250 "), "nobody knows the name now"


async def test_the_address_of_a_proxy_is_nobodys(tmp_path: Path) -> None:
    host = house(tmp_path, {"clients": "192.0.2.11 REJECT\n/./ REJECT\n"})
    behind = CLIENT._replace(known=False)
    assert (await host.send("alice@fwd.test", client=behind, sender="x@open.test", content=OPEN)).startswith("250 ")


async def test_no_name_is_looked_up_for_a_table_of_addresses(tmp_path: Path) -> None:
    host = house(tmp_path, {"clients": "192.0.2.11 REJECT\n"})
    with host.session() as session:
        await session.mail()
        assert await session.rcpt("alice@fwd.test") == "550 5.7.1 Access denied"
    assert ("11.2.0.192.in-addr.arpa", "PTR") not in host.resolver.asked


async def test_postmaster_alone_can_always_be_asked_why(tmp_path: Path) -> None:
    host = house(tmp_path, {"clients": "192.0.2.11 REJECT\n", "routes": "postmaster@mx.fwd.test REJECT\n"})
    assert (await host.send("Postmaster")).startswith("250 ")
    assert await host.send("postmaster@fwd.test") == "550 5.7.1 Access denied"


async def test_the_recipient_is_what_the_client_gave(tmp_path: Path) -> None:
    host = house(tmp_path, {"routes": "carol@mailbox.test REJECT\nalice@fwd.test REJECT 5.2.0 moved\n"})
    assert await host.send("Alice+x@FWD.test") == "550 5.2.0 moved"
    assert (await host.send("team@fwd.test")).startswith("250 "), "carol is behind it"


async def test_an_srs_sender_is_an_address_like_others(tmp_path: Path) -> None:
    host = house(tmp_path, {"senders": "/^srs0=[^@]*=Spam\\.test=/ REJECT\nopen.test REJECT other\n"})
    replies = [
        await host.send("alice@fwd.test", sender=f"SRS0=AAAA=AA={domain}=x@open.test", content=OPEN)
        for domain in ("spam.test", "ham.test")
    ]
    assert replies == ["550 5.7.1 other"] * 2
    (tmp_path / "second").mkdir()
    host = house(tmp_path / "second", {"senders": "/^srs0=[^@]*=Spam\\.test=/ REJECT\n"})
    assert await host.send("bob@fwd.test", sender="SRS0=AAAA=AA=spam.test=x@open.test", content=OPEN) == (
        "550 5.7.1 Access denied"
    )
    assert (await host.send("bob@fwd.test", sender="SRS0=AAAA=AA=ham.test=x@open.test", content=OPEN)).startswith("250")


# In which order, and for which recipients.


async def test_ok_ends_the_search_in_the_tables_behind_it(tmp_path: Path) -> None:
    reject = {"senders": "origin.test REJECT sender\n", "routes": "alice@fwd.test REJECT recipient\n"}
    for name, clients, expected in (("none", "192.0.2.9 OK\n", "550 5.7.1 sender"), ("ok", "192.0.2.11 OK\n", "250")):
        host = house(tmp_path / name, {"clients": clients, **reject})
        assert (await host.send("alice@fwd.test")).startswith(expected)


async def test_the_ok_of_a_sender_needs_spf(tmp_path: Path) -> None:
    tables = {"senders": "origin.test OK\nsilent2.test OK\nopen.test OK\n", "routes": "alice@fwd.test REJECT\n"}
    host = house(tmp_path, tables)
    assert (await host.send("alice@fwd.test")).startswith("250 ")
    with capture_logs() as logs:
        assert await host.send("alice@fwd.test", sender="x@silent2.test", content=OPEN) == "550 5.7.1 Access denied"
        assert await host.send("alice@fwd.test", client=INNER) == "550 5.7.1 Access denied"
    problems = [line["problem"] for line in logs if line["event"] == "access" and line["action"] == "OK"]
    assert problems == ["SPF none", "SPF is not checked for trusted clients"]
    anna = INNER._replace(user=ANNA)
    assert (await host.send("alice@fwd.test", client=anna, sender=ANNA, content=b"From: anna@origin.test\r\n\r\n"))[
        :3
    ] == "250"


async def test_hold_goes_on_to_the_next_table(tmp_path: Path) -> None:
    host = house(tmp_path, {"clients": "192.0.2.11 HOLD look\n", "routes": "bob@fwd.test REJECT\n"})
    assert await host.send("bob@fwd.test") == "550 5.7.1 Access denied"
    assert (await host.send("alice@fwd.test")).startswith("250 ")
    assert [each.state for each in host.queue.deliveries] == ["held"]


@pytest.mark.parametrize("action", ["HOLD", "DISCARD"])
async def test_hold_and_discard_take_the_whole_message(tmp_path: Path, action: str) -> None:
    host = house(tmp_path, {"routes": f"bob@fwd.test {action}\n"})
    assert (await host.send("alice@fwd.test", "bob@fwd.test")).startswith("250 ")
    states = [each.state for _, deliveries, _ in host.queue.put_in for each in deliveries]
    assert states == (["held", "held"] if action == "HOLD" else [])


@pytest.mark.parametrize("action", ["HOLD", "DISCARD"])
async def test_a_recipient_who_is_not_accepted_changes_nothing_for_the_others(tmp_path: Path, action: str) -> None:
    lines = f"nobody@fwd.test {action}\nx@elsewhere.test {action}\nbob@fwd.test {action}\n"
    host = house(tmp_path, {"routes": lines}, limits={"rates": {"client": {"recipients": 1}}})
    with host.session() as session:
        await session.mail()
        assert (await session.rcpt("alice@fwd.test")).startswith("250 ")
        refused = [(await session.rcpt(r))[:9] for r in ("nobody@fwd.test", "x@elsewhere.test", "bob@fwd.test")]
        assert refused == ["550 5.1.1", "550 5.7.1", "450 4.7.1"]
        assert (await session.data()).startswith("250 ")
    assert [(each.recipient, each.state) for each in host.queue.deliveries] == [("carol@mailbox.test", "queued")]


async def test_the_next_transaction_begins_anew(tmp_path: Path) -> None:
    host = house(tmp_path, {"senders": "open.test DISCARD\n"})
    with host.session() as session:
        assert (await session.send("alice@fwd.test", sender="x@open.test", content=OPEN)).startswith("250 ")
        assert not host.queue.put_in
        assert (await session.send("alice@fwd.test")).startswith("250 ")
    assert [each.recipient for each in host.queue.deliveries] == ["carol@mailbox.test"]


# What is said of it.


async def test_discarded_mail_has_no_report_and_is_counted(tmp_path: Path) -> None:
    host = house(tmp_path, {"senders": f"{JOE} DISCARD unwanted\n"})
    with capture_logs() as logs:
        reply = await host.send(RcptTo("team@fwd.test", notify="SUCCESS"), ret="HDRS")
    assert reply.startswith("250 2.0.0 Ok: queued as ")
    assert not host.queue.put_in
    assert host.count("messages_discarded_total") == 1
    queue_id = reply.rpartition(" ")[2]
    assert [line for line in logs if line["event"] in ("access", "discarded")] == [
        {
            "event": "access",
            "log_level": "info",
            "id": queue_id,
            "table": "senders.access",
            "of": JOE,
            "matched": JOE,
            "action": "DISCARD",
            "text": "unwanted",
            "problem": None,
        },
        {
            "event": "discarded",
            "log_level": "info",
            "id": queue_id,
            "sender": JOE,
            "reason": f"senders.access {JOE}: unwanted",
        },
    ]


async def test_what_is_said_of_client_and_sender_is_logged_once(tmp_path: Path) -> None:
    access = {"clients": "192.0.2 HOLD\n", "senders": "origin.test DUNNO\n.test HOLD\n", "routes": "fwd.test HOLD\n"}
    host = house(tmp_path, access)
    with capture_logs() as logs:
        await host.send("alice@fwd.test", "bob@fwd.test")
    said = [(line["table"], line["of"], line["matched"]) for line in logs if line["event"] == "access"]
    assert said == [
        ("clients.access", "192.0.2.11", "192.0.2"),
        ("routes.access", "alice@fwd.test", "fwd.test"),
        ("routes.access", "bob@fwd.test", "fwd.test"),
    ]
    assert [line["reason"] for line in logs if line["event"] == "held"] == ["clients.access 192.0.2"]


async def test_one_file_may_serve_for_all(tmp_path: Path) -> None:
    (tmp_path / "all").write_text(
        "192.0.2.66 REJECT client\nx@open.test REJECT sender\nbob@fwd.test REJECT recipient\nbad\n"
    )
    shared = {"access": "all"}
    host = House(tmp_path, clients=shared, senders=shared, routes={"aliases": "aliases", **shared})
    assert await host.send("alice@fwd.test", client=FORGER, sender="x@open.test") == "550 5.7.1 client"
    assert await host.send("alice@fwd.test", sender="x@open.test") == "550 5.7.1 sender"
    assert await host.send("bob@fwd.test") == "550 5.7.1 recipient"
    assert (await host.send("alice@fwd.test")).startswith("250 ")
    assert host.files.bad_lines[str(tmp_path / "all")] == 1
