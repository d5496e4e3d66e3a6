"""TLS to next hops at every level, credentials inside it, and the certificate of our own listeners."""

from __future__ import annotations

import base64
import datetime
import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from relay.config.sections import TlsSection
from relay.deliver.client_tls import client_context
from tests.deliver.scripted import FINE, HANG_UP, STALL, Part, Play, ScriptedServer
from tests.deliver.sending import CONTENT, Zone, agent, hop, job

ZONE: Zone = {
    ("d.test", "MX"): [(10, "mx0.test"), (20, "mx1.test")],
    ("alone.test", "MX"): [(10, "mx0.test")],
    ("mx0.test", "A"): ["127.0.0.1"],
    ("mx1.test", "A"): ["127.0.0.2"],
}


SIGNS_CERTIFICATES = x509.KeyUsage(
    digital_signature=False,
    content_commitment=False,
    key_encipherment=False,
    data_encipherment=False,
    key_agreement=False,
    key_cert_sign=True,
    crl_sign=False,
    encipher_only=False,
    decipher_only=False,
)


class Authority:
    """A certificate authority whose certificates end up in `folder`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test authority")])
        certificate = self._builder(self._name, self._key).add_extension(x509.BasicConstraints(True, None), True)
        certificate = certificate.add_extension(SIGNS_CERTIFICATES, True)
        self.file = folder / "ca.pem"
        self.file.write_bytes(self._signed(certificate))

    def _builder(self, name: x509.Name, key: ec.EllipticCurvePrivateKey, ends: int = 1) -> x509.CertificateBuilder:
        now = datetime.datetime.now(datetime.UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(days=2))
            .not_valid_after(now + datetime.timedelta(days=ends))
            # RFC 5280 wants these (sections 4.2.1.1 and 4.2.1.2), and Python from 3.13 on
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), False)
        )

    def _signed(self, builder: x509.CertificateBuilder) -> bytes:
        return builder.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)

    def files(self, *names: str, expired: bool = False) -> TlsSection:
        """A fresh certificate for DNS names and addresses."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0])])
        alternatives = [x509.IPAddress(ip_address(n)) if n[0].isdigit() else x509.DNSName(n) for n in names]
        builder = self._builder(subject, key, ends=-1 if expired else 1)
        builder = builder.add_extension(x509.SubjectAlternativeName(alternatives), False)
        tls = TlsSection(certificate=self.folder / f"{names[0]}.pem", private_key=self.folder / f"{names[0]}.key")
        tls.pairs[0].certificate.write_bytes(self._signed(builder))
        tls.pairs[0].private_key.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        return tls


@dataclass(frozen=True)
class Certificates:
    """Server contexts: `good` is for mx0.test, mx1.test and 127.0.0.1, `other` for another name."""

    authority: Authority
    good: ssl.SSLContext
    other: ssl.SSLContext


def server_context(files: TlsSection) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(files.pairs[0].certificate, files.pairs[0].private_key)
    return context


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    authority = Authority(tmp_path_factory.mktemp("ca"))
    good = server_context(authority.files("mx0.test", "mx1.test", "127.0.0.1"))
    return Certificates(authority, good, server_context(authority.files("elsewhere.test")))


@pytest.fixture
def trusted(certificates: Certificates, monkeypatch: pytest.MonkeyPatch) -> Iterator[Certificates]:
    """The authority is one that this system trusts."""
    monkeypatch.setenv("SSL_CERT_FILE", str(certificates.authority.file))
    client_context.cache_clear()
    yield certificates
    client_context.cache_clear()


# opportunistic


async def test_may_uses_starttls_where_it_is_offered(certificates: Certificates) -> None:
    server = ScriptedServer(tls=certificates.good)
    async with server(), agent() as sender:
        (outcome,) = await sender.deliver_to("d.test", hop(server.port), job())
    assert outcome.status == "delivered" and outcome.tls.startswith("TLSv1.3 TLS_")
    assert server.sessions[0].verbs() == ["EHLO", "STARTTLS", "EHLO", "MAIL", "RCPT", "DATA", "QUIT"]
    assert server.sessions[0].encrypted


async def test_may_asks_for_no_certificate_that_fits(certificates: Certificates) -> None:
    server = ScriptedServer(tls=certificates.other)
    async with server(), agent(ZONE, port=server.port) as sender:
        (outcome,) = await sender.deliver_to("alone.test", None, job())
    assert outcome.status == "delivered" and outcome.tls


async def test_may_goes_on_in_clear_where_it_is_not_offered() -> None:
    server = ScriptedServer()
    async with server(), agent() as sender:
        (outcome,) = await sender.deliver_to("d.test", hop(server.port), job())
    assert (outcome.status, outcome.tls) == ("delivered", "")


async def test_none_does_not_ask_for_it(certificates: Certificates) -> None:
    server = ScriptedServer(tls=certificates.good)
    async with server(), agent(tls="none") as sender:
        (outcome,) = await sender.deliver_to("d.test", hop(server.port), job())
    assert (outcome.status, outcome.tls) == ("delivered", "")
    assert "STARTTLS" not in server.commands


@pytest.mark.parametrize("refusal", ["454 4.7.0 not now", "502 5.5.1 what", "554 5.7.3 no"])
async def test_may_stays_on_the_connection_where_starttls_is_refused(certificates: Certificates, refusal: str) -> None:
    server = ScriptedServer(tls=certificates.good, STARTTLS=refusal)
    async with server(), agent() as sender:
        (outcome,) = await sender.deliver_to("d.test", hop(server.port), job())
    assert (outcome.status, outcome.tls, len(server.sessions)) == ("delivered", "", 1)


BROKEN: list[Play] = [
    ("220 go on", HANG_UP),
    "220 go on\r\n",
    ("220 go on\r\nthis is no TLS", HANG_UP),
    HANG_UP,
    "what?",
    "250 what?",
    ("220 go on", STALL),
    STALL,
]


@pytest.mark.parametrize("play", BROKEN, ids=str)
async def test_may_reconnects_in_clear_where_the_handshake_fails(play: Play) -> None:
    server = ScriptedServer(offers=("STARTTLS",), STARTTLS=play)
    async with server(), agent(helo_timeout="300ms") as sender:
        (outcome,) = await sender.deliver_to("d.test", hop(server.port), job())
    assert (outcome.status, outcome.tls) == ("delivered", "")
    assert [session.verbs()[1] for session in server.sessions] == ["STARTTLS", "MAIL"]


NO_TLS: list[Play] = ["454 4.7.0 TLS not available", ("220 go on\r\nthis is no TLS", HANG_UP), HANG_UP]
OF_OUR_SESSION: list[dict[str, Play]] = [
    {"MAIL": "530 5.7.0 Must issue a STARTTLS command first"},
    {"MAIL": "550 5.7.1 not in clear"},
    {"MAIL": "550 not in clear"},
    {"MAIL": "554 5.7.0 policy"},
    {"RCPT": "554 5.7.1 not in clear"},
    {"RCPT": "550 5.7.1 not in clear"},
    {"RCPT": "554 no"},
    {"RCPT": "501 5.5.4 what"},
    {"DATA": "554 5.7.1 not in clear"},
    {"DATA": "550 no"},
    {"MAIL": "450 4.7.1 not in clear"},
    {"greeting": "554 not in clear"},
    {"MAIL": HANG_UP},
]
OF_THE_MAIL: list[dict[str, Play]] = [
    {"MAIL": "553 no"},
    {"MAIL": "550 5.1.8 no such sender"},
    {"MAIL": "550 5.1.0 no such sender"},
    {"MAIL": "552 5.3.4 too large"},
    {"RCPT": "550 no such user"},
    {"RCPT": "551 moved"},
    {"RCPT": "553 no"},
    {"RCPT": "550 5.1.1 no such user"},
    {"RCPT": "554 5.2.1 disabled"},
    {"DATA": "550 5.6.0 bad header"},
    {"DATA": "552 too large"},
    {"dot": "554 5.7.1 spam"},
    {"dot": "550 no"},
    {"body": "554 5.7.1 that is enough"},
]


@pytest.mark.parametrize("offers", [("STARTTLS", "PIPELINING"), ("STARTTLS",)])
@pytest.mark.parametrize("tls", NO_TLS, ids=str)
@pytest.mark.parametrize("play", OF_OUR_SESSION, ids=str)
async def test_what_a_host_has_against_a_session_in_clear_is_a_deferral_behind_a_fallback(
    play: dict[str, Play], tls: Play, offers: tuple[str, ...]
) -> None:
    script: dict[str, Part] = {**play}
    if "greeting" in play:  # of the second connection
        if str(tls).startswith("454"):
            return
        script["greeting"] = [FINE, play["greeting"]]
    server = ScriptedServer(offers=offers, STARTTLS=tls, script=script)
    async with server(), agent() as sender:
        (outcome,) = await sender.deliver_to("d.test", hop(server.port), job())
    assert outcome.status == "deferred" and outcome.enhanced.startswith("4.")
    ((refusal),) = play.values()
    words = "connection lost" if refusal is HANG_UP else str(refusal).split()[-1]
    assert words in outcome.text and "TLS failed" in outcome.text
    assert ("TLS not available" if "454" in str(tls) else "STARTTLS" if tls is HANG_UP else "handshake") in outcome.text


@pytest.mark.parametrize("offers", [("STARTTLS", "PIPELINING"), ("STARTTLS",)])
@pytest.mark.parametrize("tls", NO_TLS, ids=str)
@pytest.mark.parametrize("play", OF_THE_MAIL, ids=str)
async def test_what_a_host_has_against_the_mail_is_final_behind_a_fallback_too(
    play: dict[str, Play], tls: Play, offers: tuple[str, ...]
) -> None:
    server = ScriptedServer(offers=offers, STARTTLS=tls, script=play)
    content = b"".join([b"x" * 70 + b"\r\n"] * 20000) if "body" in play else CONTENT
    async with server(), agent() as sender:
        (outcome,) = await sender.deliver_to("d.test", hop(server.port), job(content=content))
    ((refusal),) = play.values()
    assert (outcome.status, str(outcome.code)) == ("failed", str(refusal)[:3])


async def test_where_a_host_wants_tls_and_has_none_the_next_one_is_tried(certificates: Certificates) -> None:
    sick = ScriptedServer(offers=("STARTTLS",), STARTTLS="454 not now", MAIL="530 5.7.0 STARTTLS first")
    good = ScriptedServer(tls=certificates.good)
    async with sick("127.0.0.1"), good("127.0.0.2", sick.port), agent(ZONE, port=sick.port) as sender:
        (outcome,) = await sender.deliver_to("d.test", None, job())
    assert (outcome.status, outcome.host) == ("delivered", "mx1.test") and outcome.tls


async def test_421_to_starttls_goes_on_to_the_next_host(certificates: Certificates) -> None:
    bad, good = ScriptedServer(tls=certificates.good, STARTTLS="421 4.3.2 bye"), ScriptedServer()
    async with bad("127.0.0.1"), good("127.0.0.2", bad.port), agent(ZONE, port=bad.port) as sender:
        (alone,) = await sender.deliver_to("alone.test", None, job())
        (outcome,) = await sender.deliver_to("d.test", None, job())
    assert (alone.status, alone.code) == ("deferred", 421)
    assert (outcome.status, outcome.host) == ("delivered", "mx1.test")


async def test_what_was_said_in_clear_behind_starttls_is_forgotten(certificates: Certificates) -> None:
    server = ScriptedServer(
        offers=("8BITMIME",), tls=certificates.good, STARTTLS="220 go on\r\n250-evil.test\r\n250 PIPELINING"
    )
    async with server(), agent(tls="require") as sender:
        outcomes = await sender.deliver_to("d.test", hop(server.port), job("a@d.test", "b@d.test"))
    assert {o.status for o in outcomes} == {"delivered"}
    assert not server.sessions[0].pipelined


# demanded


@pytest.mark.parametrize("level", ["require", "verify"])
@pytest.mark.parametrize("play", ["454 4.7.0 not now", "502 5.5.1 what", *BROKEN], ids=str)
async def test_a_demand_that_is_not_met_is_a_deferral(level: str, play: Play) -> None:
    server = ScriptedServer(offers=("STARTTLS",), STARTTLS=play)
    async with server(), agent(ZONE, port=server.port, tls=level, helo_timeout="200ms") as sender:
        (outcome,) = await sender.deliver_to("alone.test", None, job())
    assert outcome.status == "deferred" and outcome.enhanced.startswith("4.")
    assert [session.verbs() for session in server.sessions] == [["EHLO", "STARTTLS"]]


@pytest.mark.parametrize("level", ["require", "verify"])
async def test_a_server_without_tls_gets_nothing(level: str) -> None:
    server = ScriptedServer()
    async with server(), agent(ZONE, port=server.port, tls=level) as sender:
        (outcome,) = await sender.deliver_to("alone.test", None, job())
    assert (outcome.status, outcome.enhanced) == ("deferred", "4.7.4")
    assert f'tls = "{level}"' in outcome.text
    assert server.commands == ["EHLO relay.test"]


async def test_where_tls_fails_the_next_host_is_tried(certificates: Certificates) -> None:
    bad, good = ScriptedServer(), ScriptedServer(tls=certificates.good)
    async with bad("127.0.0.1"), good("127.0.0.2", bad.port), agent(ZONE, port=bad.port, tls="require") as sender:
        (outcome,) = await sender.deliver_to("d.test", None, job())
    assert (outcome.status, outcome.host) == ("delivered", "mx1.test") and outcome.tls


async def test_require_takes_any_certificate(certificates: Certificates) -> None:
    server = ScriptedServer(tls=certificates.other)
    async with server(), agent(ZONE, port=server.port, tls="require") as sender:
        (outcome,) = await sender.deliver_to("alone.test", None, job())
    assert outcome.status == "delivered" and outcome.tls


async def test_verify_takes_the_right_name_of_a_trusted_authority(trusted: Certificates) -> None:
    server = ScriptedServer(tls=trusted.good)
    async with server(), agent(ZONE, port=server.port, tls="verify") as sender:
        (by_mx,) = await sender.deliver_to("alone.test", None, job())
        (by_address,) = await sender.deliver_to("d.test", hop(server.port), job())
    assert (by_mx.status, by_address.status) == ("delivered", "delivered")


async def test_verify_checks_the_name(trusted: Certificates) -> None:
    server = ScriptedServer(tls=trusted.other)
    async with server(), agent(ZONE, port=server.port, tls="verify") as sender:
        (outcome,) = await sender.deliver_to("alone.test", None, job())
    assert (outcome.status, outcome.enhanced) == ("deferred", "4.7.5")
    assert "mx0.test" in outcome.text
    assert "MAIL" not in server.sessions[0].verbs()


async def test_verify_checks_the_authority(certificates: Certificates) -> None:
    server = ScriptedServer(tls=certificates.good)
    async with server(), agent(ZONE, port=server.port, tls="verify") as sender:
        (outcome,) = await sender.deliver_to("alone.test", None, job())
    assert (outcome.status, outcome.enhanced) == ("deferred", "4.7.5")


# from the first octet


@pytest.mark.parametrize("level", ["may", "require", "verify"])
async def test_smtps_is_encrypted_from_the_start(trusted: Certificates, level: str) -> None:
    server = ScriptedServer(tls=trusted.good, implicit=True)
    async with server(), agent(tls=level) as sender:
        (outcome,) = await sender.deliver_to("d.test", hop(server.port, "smtps"), job())
    assert outcome.status == "delivered" and outcome.tls.startswith("TLS")
    assert server.sessions[0].verbs()[:2] == ["EHLO", "MAIL"]


async def test_smtps_verifies_the_name_too(trusted: Certificates) -> None:
    server = ScriptedServer(tls=trusted.other, implicit=True)
    async with server(), agent(tls="verify") as sender:
        (outcome,) = await sender.deliver_to("d.test", hop(server.port, "smtps"), job())
    assert (outcome.status, outcome.enhanced) == ("deferred", "4.7.5")


@pytest.mark.parametrize("play", [FINE, HANG_UP, STALL], ids=str)
async def test_smtps_never_goes_on_in_clear(play: Play) -> None:
    server = ScriptedServer(greeting=play)
    async with server(), agent(connect_timeout="300ms") as sender:
        (outcome,) = await sender.deliver_to("d.test", hop(server.port, "smtps"), job())
    assert outcome.status == "deferred"
    assert "MAIL" not in [verb for session in server.sessions for verb in session.verbs()]


# credentials

PLAIN = base64.b64encode("\0relay\0pass wörd".encode()).decode()


@pytest.fixture
def login(tmp_path: Path) -> dict[str, str]:
    password = tmp_path / "password"
    password.write_text("pass wörd\n", encoding="utf-8")
    return {"user": "relay", "password_file": str(password)}


async def test_credentials_are_sent_inside_tls(trusted: Certificates, login: dict[str, str]) -> None:
    server = ScriptedServer(offers=("AUTH LOGIN PLAIN",), tls=trusted.good)
    async with server(), agent(smarthost={"url": f"smtp://127.0.0.1:{server.port}", **login}) as sender:
        (outcome,) = await sender.deliver_to("d.test", None, job())
    assert outcome.status == "delivered"
    assert server.sessions[0].verbs() == ["EHLO", "STARTTLS", "EHLO", "AUTH", "MAIL", "RCPT", "DATA", "QUIT"]
    assert server.commands[3] == f"AUTH PLAIN {PLAIN}"


async def test_auth_login(trusted: Certificates, login: dict[str, str]) -> None:
    server = ScriptedServer(
        offers=("AUTH LOGIN CRAM-MD5",), tls=trusted.good, AUTH=["334 VXNlcm5hbWU6", "334 UGFzc3dvcmQ6", FINE]
    )
    async with server(), agent(smarthost={"url": f"smtp://127.0.0.1:{server.port}", **login}) as sender:
        (outcome,) = await sender.deliver_to("d.test", None, job())
    assert outcome.status == "delivered"
    said = [base64.b64decode(line).decode() for line in server.commands[4:6]]
    assert (server.commands[3], said) == ("AUTH LOGIN", ["relay", "pass wörd"])


async def test_credentials_are_not_for_a_route_of_its_own(trusted: Certificates, login: dict[str, str]) -> None:
    server = ScriptedServer(offers=("AUTH PLAIN",), tls=trusted.good)
    async with server(), agent(smarthost={"url": f"smtp://127.0.0.1:{server.port}", **login}) as sender:
        (outcome,) = await sender.deliver_to("d.test", hop(server.port), job())
    assert outcome.status == "delivered"
    assert not any(line.startswith("AUTH") for line in server.commands)


@pytest.mark.parametrize("level", ["require", "verify"])
async def test_credentials_are_never_sent_in_clear(login: dict[str, str], level: str) -> None:
    server = ScriptedServer(offers=("AUTH PLAIN LOGIN",))
    smarthost = {"tls": level, **login}
    async with server(), agent(smarthost={"url": f"smtp://127.0.0.1:{server.port}", **smarthost}) as sender:
        (outcome,) = await sender.deliver_to("d.test", None, job())
    assert (outcome.status, outcome.enhanced) == ("deferred", "4.7.4")
    assert server.commands == ["EHLO relay.test"]


@pytest.mark.parametrize(
    ("play", "code", "enhanced"),
    [
        ("535 5.7.8 wrong", 535, "4.7.8"),
        ("454 4.7.0 later", 454, "4.7.0"),
        ("421 4.3.2 bye", 421, "4.3.2"),
        ("250 what", 451, "4.5.0"),
        ("what", 451, "4.5.0"),
        (HANG_UP, 451, "4.4.2"),
        (STALL, 451, "4.4.2"),
    ],
)
async def test_what_goes_wrong_at_auth(
    certificates: Certificates, login: dict[str, str], play: Play, code: int, enhanced: str
) -> None:
    bad = ScriptedServer(offers=("AUTH PLAIN LOGIN",), tls=certificates.good, AUTH=play)
    good = ScriptedServer(offers=("AUTH PLAIN",), tls=certificates.good)
    zone: Zone = {("hub.test", "A"): ["127.0.0.1", "127.0.0.2"], ("one.test", "A"): ["127.0.0.1"]}
    patience = "300ms" if play is STALL else "10s"
    async with bad("127.0.0.1"), good("127.0.0.2", bad.port):
        for name in ("one.test", "hub.test"):
            smarthost = {"url": f"smtp://{name}:{bad.port}", "tls": "require", **login}
            async with agent(zone, smarthost=smarthost, helo_timeout=patience) as sender:
                (outcome,) = await sender.deliver_to("d.test", None, job())
            if name == "one.test":
                assert (outcome.status, outcome.code, outcome.enhanced) == ("deferred", code, enhanced)
                assert "pass" not in outcome.text and PLAIN not in outcome.text
    assert (outcome.status, outcome.address) == ("delivered", "127.0.0.2")
    assert [session.verbs().count("AUTH") for session in bad.sessions] == [1, 1]  # a wrong password is tried once


@pytest.mark.parametrize("offers", [(), ("AUTH CRAM-MD5 GSSAPI",), ("AUTH",)])
async def test_no_way_to_log_in_that_we_know(
    certificates: Certificates, login: dict[str, str], offers: tuple[str, ...]
) -> None:
    server = ScriptedServer(offers=offers, tls=certificates.good)
    smarthost = {"tls": "require", **login}
    async with server(), agent(smarthost={"url": f"smtp://127.0.0.1:{server.port}", **smarthost}) as sender:
        (outcome,) = await sender.deliver_to("d.test", None, job())
    assert (outcome.status, outcome.enhanced) == ("deferred", "4.7.0")
