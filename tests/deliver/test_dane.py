"""A server's certificate against its TLSA records, on the connection: before anything else is said inside TLS."""

from __future__ import annotations

import ssl
from collections.abc import Sequence
from pathlib import Path

import pytest
import uvloop
from cryptography import x509

from relay.deliver.client_tls import client_context
from relay.deliver.mx import Host
from relay.deliver.next_hop import NextHop
from relay.deliver.smtp_connection import Connection
from relay.deliver.smtp_opening import open_connection
from relay.deliver.tls_policy import HostPolicy, Untrusted
from relay.dns import Tlsa
from tests.deliver.scripted import ScriptedServer
from tests.deliver.sending import config
from tests.transport_security.issued import BETWEEN, HOST, OTHER, ROOT, host, server_context

OWN = host(BETWEEN)


def policy(*records: Tlsa, names: Sequence[str] = (HOST,)) -> HostPolicy:
    return HostPolicy("dane", "require", records, HOST, tuple(names))


async def opened(server: ScriptedServer, policy: HostPolicy) -> Connection:
    where = Host(HOST, "127.0.0.1", server.port, "far.example")
    return await open_connection(
        where, NextHop(domain="far.example"), config().destinations.leaving, config().delivery, policy=policy
    )


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_a_certificate_that_fits(tmp_path: Path, version: ssl.TLSVersion) -> None:
    context = server_context(tmp_path, OWN, BETWEEN)
    context.minimum_version = context.maximum_version = version
    server = ScriptedServer(tls=context)
    async with server():
        for record in (OWN.record(3, 1, 1), BETWEEN.record(2, 0, 1), ROOT.record(2, 1, 0)):
            connection = await opened(server, policy(record))
            assert connection.tls.startswith(str(version.name).replace("_", ".").replace("TLSv1.", "TLSv1."))
            await connection.quit()
    assert {tuple(session.verbs()) for session in server.sessions} == {("EHLO", "STARTTLS", "EHLO", "QUIT")}


@pytest.mark.parametrize(
    ("record", "result", "word"),
    [
        (OTHER.record(3, 1, 1), "validation-failure", "no TLSA record fits"),
        (OTHER.record(2, 1, 1), "validation-failure", "no TLSA record fits"),
        (OTHER.record(2, 0, 0), "certificate-not-trusted", "unable to get local issuer"),
    ],
)
async def test_one_that_does_not_is_told_nothing(tmp_path: Path, record: Tlsa, result: str, word: str) -> None:
    server = ScriptedServer(tls=server_context(tmp_path, OWN, BETWEEN))
    async with server():
        with pytest.raises(Untrusted) as raised:
            await opened(server, policy(record))
    outcome = raised.value.outcome
    assert (raised.value.result, outcome.status, outcome.enhanced) == (result, "deferred", "4.7.5")
    assert outcome.text.startswith("DANE: ") and word in outcome.text and HOST in outcome.text
    assert (outcome.host, outcome.address) == (HOST, "127.0.0.1") and outcome.tls
    assert [session.verbs() for session in server.sessions] == [["EHLO", "STARTTLS"]]


async def test_the_names_below_an_authority(tmp_path: Path) -> None:
    server = ScriptedServer(tls=server_context(tmp_path, host(BETWEEN, "far.example"), BETWEEN))
    async with server():
        await (await opened(server, policy(BETWEEN.record(2, 0, 1), names=(HOST, "far.example")))).quit()
        for names in ((HOST,), ()):
            with pytest.raises(Untrusted) as raised:
                await opened(server, policy(BETWEEN.record(2, 0, 1), names=names))
            assert raised.value.result == "certificate-host-mismatch"


@pytest.mark.parametrize("offers", [(), ("STARTTLS",)])
async def test_without_tls_there_is_no_mail(offers: tuple[str, ...]) -> None:
    """The server does not offer it, or somebody on the way has cut it out, or breaks the handshake."""
    server = ScriptedServer(offers=offers, STARTTLS="220 go on\r\nnonsense")
    async with server():
        with pytest.raises(Untrusted):
            await opened(server, policy(OWN.record(3, 1, 1)))
    assert len(server.sessions) == 1 and "MAIL" not in server.sessions[0].verbs()


async def test_the_server_is_asked_for_by_the_base_domain(tmp_path: Path) -> None:
    asked: list[str | None] = []
    context = server_context(tmp_path, OWN)
    context.sni_callback = lambda _socket, name, _context: asked.append(name)
    server = ScriptedServer(tls=context)
    async with server():
        aliased = HostPolicy("dane", "require", (OWN.record(3, 1, 1),), "real.far.example")
        await (await opened(server, aliased)).quit()
        await (await opened(server, HostPolicy("require", "require"))).quit()
    assert asked == ["real.far.example", HOST]


def test_uvloop_shows_the_certificates_too(tmp_path: Path) -> None:
    async def through() -> None:
        server = ScriptedServer(tls=server_context(tmp_path, OWN, BETWEEN))
        async with server():
            await (await opened(server, policy(BETWEEN.record(2, 0, 1)))).quit()

    uvloop.run(through())


async def test_the_chain_is_shown_as_it_came(tmp_path: Path) -> None:
    server = ScriptedServer(tls=server_context(tmp_path, OWN, OTHER, BETWEEN))
    async with server():
        connection = await opened(server, HostPolicy("require", "require"))
        chain = [x509.load_der_x509_certificate(octets) for octets in connection.peer_chain()]
        await connection.quit()
    assert chain == [OWN.certificate, OTHER.certificate, BETWEEN.certificate]


@pytest.mark.parametrize("verify", [False, True])
def test_no_cipher_without_a_certificate_is_offered(verify: bool) -> None:
    ciphers = [cipher["description"] for cipher in client_context(verify).get_ciphers()]
    assert ciphers and not [cipher for cipher in ciphers if "Au=None" in cipher]
