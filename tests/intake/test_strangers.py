"""What strangers meet at RCPT besides routes and SPF: DNS lists, reverse DNS and HELO. Others never meet it."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from relay.dns import DnsFailure
from relay.mail.envelope import Client
from relay.srs.address import forward
from tests.intake.arriving import CLIENT, INNER, MESSAGE, House, Zone

LISTED: Zone = {
    ("11.2.0.192.bl.test", "A"): ["127.0.0.2"],
    ("11.2.0.192.bl.test", "TXT"): [(b"https://bl.test/",)],
    ("1.100.51.198.bl.test", "A"): ["127.0.0.2"],
}
REFUSED = "550 5.7.1 Service unavailable; client [192.0.2.11] blocked using bl.test; https://bl.test/"
BL = {"dnsbl": [{"zone": "bl.test"}], "trusted": ["198.51.100.0/24"]}
PLAIN = MESSAGE.replace(b"joe@origin.test", b"ann@plain.test")
USER = CLIENT._replace(trusted=True, user="alice")


def house(folder: Path, zone: Zone | None = None, **clients: Any) -> House:
    return House(folder, zone, clients={"trusted": ["198.51.100.0/24"], **clients}, routes={"aliases": "aliases"})


@pytest.mark.parametrize("mode", ["queue", "in-session"])
async def test_a_listed_stranger_is_refused_at_rcpt(tmp_path: Path, mode: str) -> None:
    site = House(tmp_path, LISTED, clients=BL, delivery={"mode": mode})
    with capture_logs() as logs:
        assert await site.send("alice@fwd.test") == REFUSED
    (line,) = [line for line in logs if line["event"] == "dns_listed"]
    assert (line["ip"], line["lists"], line["score"], line["mail"]) == ("192.0.2.11", ("bl.test",), 1, "refused")
    assert line["id"] and not site.queue.put_in


@pytest.mark.parametrize("client", [INNER, USER], ids=["trusted", "logged in"])
async def test_trusted_clients_and_users_are_never_looked_up(tmp_path: Path, client: Client) -> None:
    site = House(tmp_path, LISTED, clients={**BL, "require_reverse": "confirmed", "require_helo": "resolves"})
    with site.session(client._replace(helo="x")) as session:
        await session.mail("")
        assert await session.rcpt("x@elsewhere.test") == "250 2.1.5 Ok"
    assert not [name for name, _ in site.resolver.asked if name.endswith("bl.test")]


@pytest.mark.parametrize("recipient", ["postmaster", "postmaster@fwd.test", "PostMaster@strict.test"])
async def test_postmaster_is_reached_by_everyone(tmp_path: Path, recipient: str) -> None:
    clients = {**BL, "require_reverse": "confirmed", "require_helo": "resolves"}
    routes = {"aliases": "aliases", "postmaster": "carol@mailbox.test"}
    routes["domains"] = {"strict.test": {"next_hop": "smtp://10.0.0.2", "recipients": "any"}}  # type: ignore[assignment]
    site = House(tmp_path, LISTED, clients=clients, routes=routes)
    stranger = CLIENT._replace(helo="nonsense")
    with site.session(stranger) as session:
        await session.mail()
        assert await session.rcpt(recipient) == "250 2.1.5 Ok"
        assert (await session.rcpt("alice@fwd.test")).startswith("504 5.5.2 ")


async def test_one_look_up_serves_all_recipients_of_a_transaction(tmp_path: Path) -> None:
    site = House(tmp_path, LISTED, clients=BL)
    with site.session() as session:
        await session.mail()
        assert {await session.rcpt(f"{name}@fwd.test") for name in ("alice", "bob", "team")} == {REFUSED}
    assert [name for name, rdtype in site.resolver.asked if rdtype == "A"].count("11.2.0.192.bl.test") == 1


async def test_a_recipient_that_does_not_exist_is_no_reason_to_ask(tmp_path: Path) -> None:
    site = House(tmp_path, LISTED, clients=BL)
    assert (await site.send("nobody@fwd.test")).startswith("550 5.1.1 ")
    assert not [name for name, _ in site.resolver.asked if name.endswith("bl.test")]


async def test_a_low_score_is_doubtful_and_taken(tmp_path: Path) -> None:
    site = House(tmp_path, LISTED, clients={**BL, "dnsbl_reject": 2})
    with site.session() as session:
        await session.mail()
        assert await session.rcpt("alice@fwd.test") == "250 2.1.5 Ok"
        screen = session.conversation._accepted.screen
        assert screen is not None and screen.doubt == "listed at bl.test"
        assert (await session.data(MESSAGE)).startswith("250 ")


async def test_a_dead_whitelist_defers_what_it_might_have_spared(tmp_path: Path) -> None:
    zone = {**LISTED, ("11.2.0.192.wl.test", "A"): DnsFailure("timeout")}
    site = House(tmp_path, zone, clients={**BL, "dnswl": [{"zone": "wl.test"}]})
    assert await site.send("alice@fwd.test") == REFUSED.replace("550 5.7.1", "450 4.7.1")


async def test_ok_in_an_access_table_skips_lists_and_requirements(tmp_path: Path) -> None:
    (tmp_path / "clients.access").write_text("192.0.2.0/24 OK\n")
    site = House(tmp_path, LISTED, clients={**BL, "require_helo": "fqdn", "access": "clients.access"})
    assert (await site.send("alice@fwd.test", client=CLIENT._replace(helo="x"))).startswith("250 ")
    assert (await site.send("x@elsewhere.test")).startswith("550 5.7.1 "), "it gives no right to relay"


@pytest.mark.parametrize(
    ("zone", "name", "confirmed"),
    [
        ({}, "250", "250"),
        ({("11.2.0.192.in-addr.arpa", "PTR"): []}, "550 5.7.25", "550 5.7.25"),
        ({("mail.origin.test", "A"): ["192.0.2.12"]}, "250", "550 5.7.25"),
        ({("11.2.0.192.in-addr.arpa", "PTR"): DnsFailure("timeout")}, "450 4.7.25", "450 4.7.25"),
        ({("mail.origin.test", "A"): DnsFailure("timeout")}, "250", "450 4.7.25"),
    ],
    ids=["confirmed", "no name", "another address", "no answer", "no answer for the name"],
)
async def test_reverse_dns(tmp_path: Path, zone: Zone, name: str, confirmed: str) -> None:
    for required, reply in (("none", "250"), ("name", name), ("confirmed", confirmed)):
        site = house(tmp_path, zone, require_reverse=required)
        assert (await site.send("alice@fwd.test")).startswith(reply + " "), required
    behind_proxy = CLIENT._replace(known=False, ip="198.51.100.1")
    assert (await site.send("alice@fwd.test", client=behind_proxy, sender="", content=PLAIN)).startswith("250 ")


HELO: Zone = {
    ("mx.origin.test", "A"): ["192.0.2.12"],
    ("six.test", "AAAA"): ["2001:db8::1"],
    ("mail.test", "MX"): [(10, "mx.origin.test")],
    ("silent.test", "AAAA"): DnsFailure("timeout"),
    ("half.test", "AAAA"): DnsFailure("timeout"),
    ("half.test", "A"): ["192.0.2.12"],
}


@pytest.mark.parametrize(
    ("helo", "fqdn", "resolves"),
    [
        ("mx.origin.test", "250", "250"),
        ("MX.Origin.Test.", "250", "250"),
        ("six.test", "250", "250"),
        ("mail.test", "250", "250"),
        ("half.test", "250", "250"),
        ("nowhere.test", "250", "550 5.7.1"),
        ("silent.test", "250", "450 4.7.1"),
        ("[192.0.2.11]", "250", "250"),
        ("[192.0.2.12]", "504 5.5.2", "504 5.5.2"),
        ("192.0.2.11", "504 5.5.2", "504 5.5.2"),
        ("localhost", "504 5.5.2", "504 5.5.2"),
        ("under_score.test", "250", "550 5.7.1"),
        ("a..test", "504 5.5.2", "504 5.5.2"),
        ("-.test", "504 5.5.2", "504 5.5.2"),
    ],
)
async def test_the_name_in_helo(tmp_path: Path, helo: str, fqdn: str, resolves: str) -> None:
    for required, reply in (("none", "250"), ("fqdn", fqdn), ("resolves", resolves)):
        site = house(tmp_path, HELO, require_helo=required)
        found = await site.send("alice@fwd.test", client=CLIENT._replace(helo=helo))
        assert found.startswith(reply + " "), required


async def test_the_literal_of_an_ipv6_client(tmp_path: Path) -> None:
    site = house(tmp_path, require_helo="resolves")
    client = Client("2001:db8::11", 4025, helo="[IPv6:2001:DB8:0:0::11]", protocol="ESMTP")
    assert (await site.send("alice@fwd.test", client=client, sender="ann@plain.test", content=PLAIN)).startswith("250 ")


async def test_a_helo_of_any_length_has_a_short_reply(tmp_path: Path) -> None:
    site = house(tmp_path, require_helo="fqdn")
    reply = await site.send("alice@fwd.test", client=CLIENT._replace(helo="x" * 2000))
    assert reply.startswith("504 5.5.2 ") and len(reply) < 300


async def test_a_bounce_from_a_listed_host_is_refused_like_all_mail(tmp_path: Path) -> None:
    site = House(tmp_path, LISTED, clients=BL)
    home = forward("ann@sender.test", site.files.scheme, time.time())
    assert await site.send(home, sender="", content=PLAIN) == REFUSED
    elsewhere = CLIENT._replace(ip="192.0.2.12")
    assert (await site.send(home, client=elsewhere, sender="", content=PLAIN)).startswith("250 ")
