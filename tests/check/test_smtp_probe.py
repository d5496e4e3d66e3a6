"""What a server says to a probe, and the ways in which it says nothing."""

from __future__ import annotations

import asyncio
import ssl
from pathlib import Path

import pytest

from relay.check import smtp_probe
from relay.check.smtp_probe import Unreachable, greeting, recipient_probe
from relay.config.file import NO_NAME
from relay.deliver.mx import Host
from tests.certificates import write_certificate
from tests.check.local_site import local_site, port_that_swallows
from tests.deliver.scripted import DEAF, HANG_UP, Play, ScriptedServer
from tests.peers import free_port


@pytest.fixture
def tls(tmp_path: Path) -> ssl.SSLContext:
    write_certificate(tmp_path, "fwd.example")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "cert.pem", tmp_path / "key.pem")
    return context


def at(port: int) -> Host:
    return Host("mx.test", "127.0.0.1", port)


# greetings


@pytest.mark.parametrize("said", ["220 mx.test ESMTP", "220-mx.test\r\n220 ESMTP", "554 5.7.1 no service for you"])
async def test_any_greeting_shows_that_the_way_is_open(said: str) -> None:
    async with ScriptedServer(greeting=said)() as server:
        assert await greeting(at(server.port), "") == said.partition("\r\n")[0]
    assert server.commands == ["QUIT"]


async def test_a_greeting_inside_tls(tls: ssl.SSLContext) -> None:
    async with ScriptedServer(tls=tls, implicit=True)() as server:
        said = await greeting(at(server.port), "", implicit_tls=True)
    assert said.startswith("220 ")


@pytest.mark.parametrize(
    ("play", "problem"),
    [("HTTP/1.1 400 Bad Request", "no mail server"), (HANG_UP, "no mail server"), (DEAF, "no greeting")],
)
async def test_what_does_not_greet_is_no_way_out(play: Play, problem: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(smtp_probe, "REPLY_SECONDS", 0.2)
    async with ScriptedServer(greeting=play)() as server:
        with pytest.raises(Unreachable, match=problem):
            await greeting(at(server.port), "")


async def test_a_port_that_is_closed_or_does_not_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(smtp_probe, "CONNECT_SECONDS", 0.2)
    config = local_site(tmp_path, {}).config
    with pytest.raises(Unreachable, match="Connection refused"):
        await greeting(at(free_port()), "")
    with port_that_swallows() as full:
        with pytest.raises(Unreachable, match="connection timed out"):
            await greeting(at(full), "")
        with pytest.raises(Unreachable, match="connection timed out"):
            async with recipient_probe(at(full), config):
                raise AssertionError("it cannot be open")


async def test_it_connects_from_the_address_that_mail_leaves_from(tmp_path: Path) -> None:
    delivery = {"source_ipv4": "127.0.0.7"}
    config = local_site(tmp_path, {}, delivery=delivery).config
    async with ScriptedServer()() as server:
        await greeting(at(server.port), "127.0.0.7")
        async with recipient_probe(at(server.port), config) as probe:
            assert (await probe.ask("joe@fwd.example")).accepted
    assert [session.client for session in server.sessions] == ["127.0.0.7", "127.0.0.7"]


# recipients


async def test_a_recipient_is_asked_about_inside_tls_where_the_host_has_it(tmp_path: Path, tls: ssl.SSLContext) -> None:
    config = local_site(tmp_path, {}).config
    async with ScriptedServer(tls=tls)() as server, recipient_probe(at(server.port), config) as probe:
        reply = await probe.ask("joe@fwd.example")
        assert reply.accepted and str(reply) == "250 2.1.5 Ok"
        assert server.sessions[0].encrypted


async def test_a_host_without_a_name_says_its_address(tmp_path: Path) -> None:
    """Where there are tables alone, the configuration has no name of the mail host."""
    config = local_site(tmp_path, {}).config.model_copy(update={"hostname": NO_NAME})
    async with ScriptedServer()() as server, recipient_probe(at(server.port), config) as probe:
        await probe.ask("joe@fwd.example")
    assert server.commands[0] == "EHLO [127.0.0.1]"


async def test_a_reply_of_several_lines_is_one(tmp_path: Path) -> None:
    said = "550-5.1.1 no such user\r\n550 5.1.1 see https://x.test"
    config = local_site(tmp_path, {}).config
    async with ScriptedServer(RCPT=said)() as server, recipient_probe(at(server.port), config) as probe:
        reply = await probe.ask("joe@fwd.example")
    assert (reply.command, reply.code, reply.detail, reply.final) == ("RCPT", 550, "1.1", True)
    assert reply.text == "550 5.1.1 no such user 5.1.1 see https://x.test"


async def test_a_host_that_refuses_the_sender_is_not_asked_about_the_recipient(tmp_path: Path) -> None:
    config = local_site(tmp_path, {}).config
    async with ScriptedServer(MAIL="451 not now")() as server, recipient_probe(at(server.port), config) as probe:
        reply = await probe.ask("joe@fwd.example")
    assert (reply.command, reply.code, reply.final) == ("MAIL", 451, False)
    assert not [line for line in server.commands if line.startswith("RCPT")]


async def test_a_probe_that_is_given_up_leaves_at_once(tmp_path: Path) -> None:
    config = local_site(tmp_path, {}).config
    async with ScriptedServer(RCPT=DEAF, QUIT=DEAF)() as server:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2), recipient_probe(at(server.port), config) as probe:
                await probe.ask("joe@fwd.example")
    assert "QUIT" not in server.commands
