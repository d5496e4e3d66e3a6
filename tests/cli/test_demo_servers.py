"""The mail servers of the demo: they show what they got, and they end when they are told to."""

from __future__ import annotations

import asyncio

import pytest

from relay.cli.demo_servers import MailServer, Received


async def test_a_server_shows_what_it_got_octet_for_octet() -> None:
    host, other = MailServer("mx.a.example", "127.0.0.2"), MailServer("mx.b.example", "127.0.0.4")
    port = await host.start(0)
    try:
        reply = await other.send(("127.0.0.2", port), "", "b@a.example", b"Subject: x\r\n\r\n.\r\n..dots\r\n\xe9\r\n")
        received = await host.next_message(5)
    finally:
        await host.close()
    assert reply == "250 2.0.0 Ok"
    content = b"Subject: x\r\n\r\n.\r\n..dots\r\n\xe9\r\n"
    assert received == Received("127.0.0.4", "mx.b.example", "", ("b@a.example",), content)


async def test_a_server_that_closes_hangs_up() -> None:
    host = MailServer("mx.a.example", "127.0.0.2")
    reader, writer = await asyncio.open_connection("127.0.0.2", await host.start(0))
    assert (await reader.readline()).startswith(b"220 ")
    async with asyncio.timeout(5):
        await host.close()
        assert await reader.read() == b""
    writer.close()


async def test_a_server_says_when_nothing_comes() -> None:
    with pytest.raises(TimeoutError):
        await MailServer("mx.a.example", "127.0.0.2").next_message(0.01)


async def test_a_server_returns_the_refusal_of_another_one() -> None:
    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 mx.b.example ESMTP\r\n")
        while (verb := (await reader.readline())[:4].upper()) not in (b"QUIT", b""):
            writer.write(b"550 5.1.1 no\r\n" if verb == b"RCPT" else b"250 Ok\r\n")
        writer.write(b"221 Bye\r\n")
        writer.close()

    other = await asyncio.start_server(refuse, "127.0.0.4", 0)
    async with other:
        server, address = MailServer("mx.a.example", "127.0.0.2"), other.sockets[0].getsockname()
        assert await server.send(address, "a@a.example", "b@b.example", b"Subject: x\r\n\r\n") == "550 5.1.1 no"


async def test_what_a_client_does_wrong_is_answered_and_not_printed(capsys: pytest.CaptureFixture[str]) -> None:
    host = MailServer("mx.a.example", "127.0.0.2")
    reader, writer = await asyncio.open_connection("127.0.0.2", await host.start(0))
    writer.write(b"NONSENSE\r\nQUIT\r\n")
    async with asyncio.timeout(5):
        assert [line[:3] for line in (await reader.read()).splitlines()] == [b"220", b"500", b"221"]
        await host.close()
    writer.close()
    assert capsys.readouterr() == ("", "")
