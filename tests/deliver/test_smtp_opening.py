"""The way to MAIL: source address, EHLO and HELO, credentials. `test_client_tls` has STARTTLS and AUTH inside TLS."""

from __future__ import annotations

import pytest

from relay.deliver.mx import Host
from relay.deliver.next_hop import NextHop
from relay.deliver.smtp_connection import HostFailed
from relay.deliver.smtp_opening import open_connection
from tests.deliver.scripted import ScriptedServer
from tests.deliver.sending import agent, config, hop, job


async def test_the_source_address_is_the_configured_one() -> None:
    server = ScriptedServer()
    async with server(), agent(source_ipv4="127.0.0.77", source_ipv6="::1") as sender:
        (outcome,) = await sender.deliver_to("d.test", hop(server.port), job())
    assert outcome.status == "delivered"
    assert server.sessions[0].client == "127.0.0.77"


async def test_a_source_address_that_is_not_ours_is_a_deferral() -> None:
    server = ScriptedServer()
    async with server(), agent(source_ipv4="198.51.100.9") as sender:
        (outcome,) = await sender.deliver_to("d.test", hop(server.port), job())
    assert (outcome.status, outcome.enhanced) == ("deferred", "4.4.1")


# hello


@pytest.mark.parametrize("code", [500, 501, 502, 504, 530, 550])
async def test_a_server_without_ehlo_is_greeted_by_helo(code: int) -> None:
    server = ScriptedServer(EHLO=f"{code} 5.5.1 what")
    async with server(), agent() as sender:
        (outcome,) = await sender.deliver_to("d.test", hop(server.port), job(size=10**9, ret="HDRS"))
    assert (outcome.status, outcome.dsn) == ("delivered", False)
    assert server.commands[:3] == ["EHLO relay.test", "HELO relay.test", "MAIL FROM:<bob@origin.test>"]


@pytest.mark.parametrize("code", [421, 450, 521, 554])
async def test_a_host_that_takes_no_mail_is_not_asked_by_helo(code: int) -> None:
    server = ScriptedServer(EHLO=f"{code} not here")
    async with server(), agent() as sender:
        (outcome,) = await sender.deliver_to("d.test", hop(server.port), job())
    assert (outcome.status, outcome.code) == ("deferred", code)
    assert server.commands == ["EHLO relay.test"]


async def test_a_refused_helo_is_a_deferral() -> None:
    server = ScriptedServer(EHLO="500 what", HELO="550 no")
    async with server(), agent() as sender:
        (outcome,) = await sender.deliver_to("d.test", hop(server.port), job())
    assert (outcome.status, outcome.code) == ("deferred", 550)


@pytest.mark.parametrize("code", [500, 550])
async def test_lmtp_has_no_helo(code: int) -> None:
    server = ScriptedServer(lmtp=True, LHLO=f"{code} what")
    async with server(), agent() as sender:
        (outcome,) = await sender.deliver_to("d.test", hop(server.port, "lmtp"), job())
    assert outcome.status == "deferred"
    assert server.commands == ["LHLO relay.test"]


async def test_an_endless_reply_ends_with_the_connection() -> None:
    server = ScriptedServer(EHLO="\r\n".join(["250-more"] * 5000))
    async with server(), agent() as sender:
        (outcome,) = await sender.deliver_to("d.test", hop(server.port), job())
    assert (outcome.status, outcome.enhanced) == ("deferred", "4.5.0")


async def test_credentials_are_never_sent_in_clear_whatever_the_level() -> None:
    server = ScriptedServer(offers=("AUTH PLAIN LOGIN",))
    async with server():
        clear = NextHop(endpoint=hop(server.port), tls="may", user="relay", password="secret")
        host = Host("127.0.0.1", "127.0.0.1", server.port)
        with pytest.raises(HostFailed) as raised:
            await open_connection(host, clear, config().destinations.leaving, config().delivery)
    assert raised.value.outcome.enhanced == "4.7.4"
    assert server.commands == ["EHLO relay.test"]
    assert "secret" not in repr(clear)
