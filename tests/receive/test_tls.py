"""TLS on listeners, from STARTTLS to implicit, behind a proxy and not, and what a client may try against it."""

from __future__ import annotations

import asyncio
import os
import ssl
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509

from relay.config.sections import TlsSection
from relay.receive.server_tls import ServerTls
from relay.receive.stream import HIGH_WATER
from relay.rewrite.received_field import received_field
from tests.certificates import write_certificate
from tests.peers import needs, program, wait_for
from tests.receive.door import Door, Talk, within_patience

V1 = b"PROXY TCP4 192.0.2.7 127.0.0.1 1234 25\r\n"


@pytest.fixture
def files(tmp_path: Path) -> Path:
    write_certificate(tmp_path, "first")
    return tmp_path


@pytest.fixture
def server_tls(files: Path, monkeypatch: pytest.MonkeyPatch) -> ServerTls:
    monkeypatch.setattr("relay.receive.certificate_files.SETTLED", 0.0)
    return ServerTls(TlsSection(certificate=files / "cert.pem", private_key=files / "key.pem"))


@pytest.fixture
def tls(server_tls: ServerTls) -> Callable[[], ssl.SSLContext]:
    return server_tls.context


@pytest.fixture
def context(files: Path) -> ssl.SSLContext:
    """What a client expects that knows the first certificate."""
    return ssl.create_default_context(cafile=files / "cert.pem")


def trusting(**settings: Any) -> ssl.SSLContext:
    """What a client expects that takes any certificate, as most senders of mail do."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    for name, value in settings.items():
        setattr(context, name, value)
    return context


async def started(talk: Talk, context: ssl.SSLContext) -> Talk:
    """The client, after STARTTLS and another EHLO."""
    assert (await talk.says("STARTTLS\r\n")).startswith("220 2.0.0 ")
    await talk.starts_tls(context)
    assert "STARTTLS" not in await talk.says("EHLO client.test\r\n")
    return talk


async def test_starttls(door: Callable[..., Door], tls: Callable[[], ssl.SSLContext], context: ssl.SSLContext) -> None:
    server = door(tls=tls)
    talk = await server.client(greet=False)
    await talk.reply()
    assert "STARTTLS" in await talk.says("EHLO client.test\r\n")
    assert "STARTTLS" in await talk.says("HELP\r\n")
    await started(talk, context)
    assert "STARTTLS" not in await talk.says("HELP\r\n")
    assert (await talk.says("STARTTLS\r\n")).startswith("503 5.5.1")
    assert (await talk.mails(b"Subject: x\r\n\r\nhi\r\n")).startswith("250 2.0.0")
    assert (await talk.says("QUIT\r\n")).startswith("221 2.0.0")
    assert await talk.closed()
    ((client, _, message),) = server.taker.taken
    assert message.content == b"Subject: x\r\n\r\nhi\r\n"
    assert client.tls.startswith("TLSv1.3 TLS_")
    assert b" with ESMTPS id " in received_field(client, "mx.test", "id", "", False, 0)


async def test_implicit_tls(
    door: Callable[..., Door], tls: Callable[[], ssl.SSLContext], context: ssl.SSLContext
) -> None:
    server = door(tls=tls, listen={"tls": "implicit"})
    talk = Talk(*await asyncio.open_connection(*server.address, ssl=context, server_hostname="mx.test"))
    assert (await talk.reply()).startswith("220 mx.test ESMTP")
    assert "STARTTLS" not in await talk.says("EHLO client.test\r\n")
    assert (await talk.mails(b"hi\r\n")).startswith("250")
    assert server.taker.taken[0][0].protocol == "ESMTPS"


async def test_required_tls(door: Callable[..., Door], tls: Callable[[], ssl.SSLContext]) -> None:
    server = door(tls=tls, listen={"tls": "require"})
    talk = await server.client(greet=False)
    await talk.reply()
    for command in ("HELO c", "EHLO c", "NOOP"):
        assert (await talk.says(f"{command}\r\n")).startswith("250"), "RFC 3207 section 4"
    for command in ("MAIL FROM:<a@b>", "RCPT TO:<c@d>", "DATA", "VRFY x", "RSET"):
        assert (await talk.says(f"{command}\r\n")).startswith("530 5.7.0 Must issue a STARTTLS command first")
    await started(talk, trusting())
    assert (await talk.mails(b"hi\r\n")).startswith("250")


@pytest.mark.parametrize("mode", ["starttls", "require", "implicit"])
async def test_tls_behind_a_proxy(
    door: Callable[..., Door], tls: Callable[[], ssl.SSLContext], context: ssl.SSLContext, mode: str
) -> None:
    server = door(tls=tls, listen={"tls": mode, "proxy_protocol": True})
    talk = await server.client(greet=False)
    talk.writer.write(V1)
    if mode == "implicit":
        await talk.starts_tls(context)
    assert (await talk.reply()).startswith("220")
    await talk.says("EHLO client.test\r\n")
    if mode != "implicit":
        await started(talk, context)
    assert (await talk.mails(b"hi\r\n")).startswith("250")
    client = server.taker.taken[0][0]
    assert (client.ip, client.protocol) == ("192.0.2.7", "ESMTPS")


async def test_commands_injected_before_the_handshake_are_dropped(
    door: Callable[..., Door], tls: Callable[[], ssl.SSLContext]
) -> None:
    """What an attacker on the way adds in clear must not be taken for the client's (RFC 3207 section 4.2)."""
    server = door(tls=tls)
    talk = await server.client()
    assert (await talk.says("STARTTLS\r\nMAIL FROM:<evil@b>\r\nRCPT TO:<c@d>\r\n")).startswith("220")
    await talk.starts_tls(trusting())
    assert (await talk.says("RCPT TO:<c@d>\r\n")).startswith("503 5.5.1")
    assert (await talk.says("EHLO client.test\r\n")).startswith("250-mx.test")


async def test_a_flood_of_injected_commands_ends_in_a_failed_handshake(
    door: Callable[..., Door], tls: Callable[[], ssl.SSLContext], log: list[dict[str, Any]]
) -> None:
    server = door(tls=tls)
    talk = await server.client()
    talk.writer.write(b"STARTTLS\r\n" + b"NOOP\r\n" * HIGH_WATER)
    assert (await talk.reply()).startswith("220")
    assert await talk.closed()
    await wait_for(lambda: log[-1]["event"] == "disconnect", "the end of the session")
    assert [line["event"] for line in log] == ["connect", "tls_failed", "disconnect"]
    assert (log[-1]["starttls"], log[-1]["commands"]) == ("0/1", "1/2")


async def test_the_log_has_version_and_cipher(
    door: Callable[..., Door], tls: Callable[[], ssl.SSLContext], log: list[dict[str, Any]]
) -> None:
    talk = await started(await door(tls=tls).client(), trusting())
    await talk.says("MAIL FROM:<a@b>\r\nMAIL FROM:<a@b> FOO=1\r\n", 2)
    assert [line["event"] for line in log] == ["connect", "starttls", "mail"]
    shown = log[1]["tls"]
    assert shown.startswith("TLSv1.3 TLS_") and log[1]["ip"] == "127.0.0.1"
    assert (log[0]["tls"], log[2]["tls"]) == (None, shown)


async def test_what_was_said_in_clear_counts_no_more(
    door: Callable[..., Door], tls: Callable[[], ssl.SSLContext]
) -> None:
    """RFC 3207 section 4.2: neither the EHLO nor the transaction."""
    talk = await door(tls=tls).client()
    await talk.says("MAIL FROM:<a@b>\r\n")
    assert (await talk.says("STARTTLS now\r\n")).startswith("501 5.5.4")
    assert (await talk.says("STARTTLS\r\n")).startswith("220")
    await talk.starts_tls(trusting())
    assert (await talk.says("RCPT TO:<c@d>\r\n")).startswith("503 5.5.1")
    assert (await talk.says("MAIL FROM:<a@b>\r\n")).startswith("503 5.5.1 Error: send EHLO first")


@pytest.mark.parametrize("mode", ["starttls", "implicit"])
@pytest.mark.parametrize(
    "said",
    [b"", b"EHLO client.test\r\n" * 10, b"\x16\x03\x01\x00\x05hello", b"\x00" * 100_000],
    ids=["nothing", "SMTP", "a broken hello", "zeros"],
)
async def test_a_failed_handshake_hurts_nobody_else(
    door: Callable[..., Door],
    tls: Callable[[], ssl.SSLContext],
    log: list[dict[str, Any]],
    mode: str,
    said: bytes,
) -> None:
    server = door(tls=tls, listen={"tls": mode}, limits={"connections_per_client": 1})
    talk = await server.client(greet=mode != "implicit")
    if mode != "implicit":
        await talk.says("STARTTLS\r\n")
    talk.writer.write(said)
    if not said:
        talk.writer.close()
    await wait_for(lambda: [line for line in log if line["event"] == "tls_failed"], "the log of it")
    assert not [line for line in log if "exc_info" in line]
    await wait_for(lambda: not server.listener._connections, "the end of the connection")
    if mode == "implicit":
        talk = Talk(*await asyncio.open_connection(*server.address, ssl=trusting()))
        assert (await talk.reply()).startswith("220")
    else:
        await started(await server.client(), trusting())


@pytest.mark.parametrize("mode", ["starttls", "implicit"])
async def test_a_handshake_that_never_comes_is_given_up(
    door: Callable[..., Door], tls: Callable[[], ssl.SSLContext], monkeypatch: pytest.MonkeyPatch, mode: str
) -> None:
    monkeypatch.setattr(f"relay.receive.{'listener' if mode == 'implicit' else 'greetings'}.HANDSHAKE_TIMEOUT", 0.1)
    server = door(tls=tls, listen={"tls": mode})
    talk = await server.client(greet=mode != "implicit")
    if mode != "implicit":
        await talk.says("STARTTLS\r\n")
    assert await talk.closed()


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
async def test_old_versions_of_tls_are_refused(door: Callable[..., Door], tls: Callable[[], ssl.SSLContext]) -> None:
    """RFC 8996."""
    talk = await door(tls=tls).client()
    await talk.says("STARTTLS\r\n")
    old = trusting(maximum_version=ssl.TLSVersion.TLSv1_1, minimum_version=ssl.TLSVersion.TLSv1)
    old.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.raises((ssl.SSLError, ConnectionError)):
        await talk.starts_tls(old)


async def test_a_full_house_shakes_no_hands(door: Callable[..., Door], tls: Callable[[], ssl.SSLContext]) -> None:
    server = door(tls=tls, listen={"tls": "implicit"}, limits={"connections_per_client": 1})
    first = Talk(*await asyncio.open_connection(*server.address, ssl=trusting()))
    assert (await first.reply()).startswith("220")
    assert await (await server.client(greet=False)).closed()


async def shown(server: Door, mode: str) -> str:
    """The organization in the certificate that a new client sees."""
    if mode == "implicit":
        talk = Talk(*await asyncio.open_connection(*server.address, ssl=trusting()))
    else:
        talk = await started(await server.client(), trusting())
    certificate = x509.load_der_x509_certificate(talk.writer.get_extra_info("ssl_object").getpeercert(True))
    talk.writer.close()
    return str(certificate.subject.get_attributes_for_oid(x509.NameOID.ORGANIZATION_NAME)[0].value)


@pytest.mark.parametrize("mode", ["starttls", "implicit"])
async def test_a_new_certificate_is_shown_without_a_restart(
    door: Callable[..., Door],
    server_tls: ServerTls,
    files: Path,
    log: list[dict[str, Any]],
    mode: str,
) -> None:
    server = door(tls=server_tls.context, listen={"tls": mode})
    assert await shown(server, mode) == "first"
    write_certificate(files, "second")
    server_tls.look()
    assert await shown(server, mode) == "second"
    (files / "key.pem").write_text("not a key\n")
    for _ in range(2):
        server_tls.look()
        assert await shown(server, mode) == "second"
    assert [line for line in log if line.get("log_level") == "error"], "a broken file is worth a line"
    write_certificate(files, "third")
    server_tls.look()
    assert await shown(server, mode) == "third"


async def test_a_large_message_over_tls(door: Callable[..., Door], tls: Callable[[], ssl.SSLContext]) -> None:
    server = door(tls=tls)
    talk = await started(await server.client(), trusting())
    content = b"Subject: large\r\n\r\n" + os.urandom(4_000_000).hex().encode() + b"\r\n"
    assert (await talk.mails(content)).startswith("250")
    assert server.contents == [content]


async def test_an_idle_client_inside_tls_is_sent_away(
    door: Callable[..., Door], tls: Callable[[], ssl.SSLContext]
) -> None:
    server = door(tls=tls, limits={"command_timeout": "200ms"})
    talk = await started(await server.client(), trusting())
    assert (await talk.reply()).startswith("421 4.4.2")
    assert await talk.closed()
    await wait_for(lambda: not server.listener._connections, "the end of the connection")


@needs("swaks", "perl:Net::SSLeay")
@pytest.mark.parametrize(("mode", "option"), [("require", "--tls"), ("implicit", "--tls-on-connect")])
async def test_swaks(door: Callable[..., Door], tls: Callable[[], ssl.SSLContext], mode: str, option: str) -> None:
    server = door(tls=tls, listen={"tls": mode})
    host, port = server.address
    command = [program("swaks"), "--server", f"{host}:{port}", option, "--to", "c@d.test", "--from", "a@b.test"]
    swaks = await asyncio.create_subprocess_exec(*command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    said, _ = await within_patience(swaks.communicate())
    assert swaks.returncode == 0, said.decode()
    assert b"~> QUIT" in said
    assert server.taker.taken[0][0].protocol == "ESMTPS"


async def test_requiretls_is_offered_and_taken_inside_tls_only(
    door: Callable[..., Door], tls: Callable[[], ssl.SSLContext], context: ssl.SSLContext
) -> None:
    server = door(tls=tls)
    talk = await server.client(greet=False)
    await talk.reply()
    assert "REQUIRETLS" not in await talk.says("EHLO client.test\r\n")
    assert (await talk.says("MAIL FROM:<joe@origin.test> REQUIRETLS\r\n")).startswith("530 5.7.10 ")
    await started(talk, context)
    assert "250-REQUIRETLS\r\n" in await talk.says("EHLO client.test\r\n")
    assert (await talk.says("MAIL FROM:<joe@origin.test> REQUIRETLS=1\r\n")).startswith("501 5.5.4 ")
    assert (await talk.says("MAIL FROM:<joe@origin.test> REQUIRETLS\r\n")).startswith("250 ")
