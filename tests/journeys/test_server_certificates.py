"""Which certificate real clients see, by the name that they ask for, before and after it is renewed under load."""

from __future__ import annotations

import re
import shutil
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator

import pytest

from tests.certificates import write_certificate
from tests.journeys.clients import swaks
from tests.journeys.postfix import Postfix
from tests.journeys.relay_process import RelayProcess
from tests.journeys.sinks import RecordingSink
from tests.journeys.world import FWD, MAILBOX, SENDER, World
from tests.peers import free_port, needs, program, wait_until

pytestmark = pytest.mark.slow

ANN, ALICE = "ann@sender.example", "alice@fwd.example"
HOSTS = {"default": "mx.fwd.example", "brand": "mx.brand.example", "wild": "*.mail.example"}
NAMES = [
    ("mx.fwd.example", "default"),
    ("MX.Brand.Example", "brand"),
    ("any.mail.example", "wild"),
    ("unknown.example", "default"),
    ("", "default"),
]
MESSAGE = b"From: ann@sender.example\r\nSubject: x\r\n\r\nhi\r\n"


class House:
    """A relay with three certificates, on a port for STARTTLS and one for implicit TLS, before a sink."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.folder = world.base / "certificates"
        self.folder.mkdir()
        for name in HOSTS:
            (self.folder / name).mkdir()
            self.renew(name)
        self.implicit = free_port()
        self.sink = world.start(RecordingSink(MAILBOX, world.port))
        self.relay: RelayProcess = world.relay(
            aliases=f"{ALICE} carol@mailbox.example\n",
            listen=[
                {"address": f"{FWD}:{world.port}", "tls": "starttls"},
                {"address": f"{FWD}:{self.implicit}", "tls": "implicit"},
            ],
            tls={
                "certificates": [
                    {
                        "certificate": str(self.folder / name / "cert.pem"),
                        "private_key": str(self.folder / name / "key.pem"),
                    }
                    for name in HOSTS
                ]
            },
            limits={"connections_per_client": 500},
        )

    def renew(self, name: str) -> None:
        write_certificate(self.folder / name, name, HOSTS[name])

    def der(self, name: str) -> bytes:
        return ssl.PEM_cert_to_DER_cert((self.folder / name / "cert.pem").read_text())

    def shown(self, host: str = "", *, implicit: bool = True) -> bytes:
        """The certificate that a client of Python sees, which resumes nothing."""
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        with socket.create_connection((FWD, self.implicit if implicit else self.world.port), timeout=20) as plain:
            if not implicit:
                for command in (b"", b"EHLO c\r\n", b"STARTTLS\r\n"):
                    plain.sendall(command)
                    assert plain.recv(4096)[:3] in (b"220", b"250")
            with context.wrap_socket(plain, server_hostname=host or None) as client:
                if implicit:
                    assert client.recv(3) == b"220"
                shown = client.getpeercert(binary_form=True)
        assert shown is not None
        return shown


@pytest.fixture
def house(world: World) -> Iterator[House]:
    yield House(world)


@needs("openssl")
def test_openssl_sees_the_certificate_of_the_name_it_asks_for(house: House) -> None:
    for options, port in ((["-starttls", "smtp"], house.world.port), ([], house.implicit)):
        for host, name in NAMES:
            for version in ("-tls1_2", "-tls1_3"):
                asked = ["-servername", host] if host else ["-noservername"]
                command = [program("openssl"), "s_client", "-connect", f"{FWD}:{port}", version, *options, *asked]
                done = subprocess.run(command, input=b"QUIT\n", capture_output=True, timeout=20)
                pem = re.search(rb"-----BEGIN.*?END CERTIFICATE-----\n", done.stdout, re.DOTALL)
                assert pem is not None, done.stderr.decode()
                assert ssl.PEM_cert_to_DER_cert(pem[0].decode()) == house.der(name), (options, host, version)


@needs("swaks", "perl:Net::SSLeay")
def test_swaks_delivers_to_the_host_it_names(house: House) -> None:
    for number, (host, name) in enumerate(NAMES[:3], 1):
        options = ["--tls", "--tls-sni", host, "--tls-verify", "--tls-ca-path", str(house.folder / name / "cert.pem")]
        done = swaks(
            (FWD, house.world.port),
            source=SENDER,
            helo="mx.sender.example",
            sender=ANN,
            recipients=[ALICE],
            options=options,
        )
        assert done.returncode == 0, done.stdout
        received = house.sink.wait(number)[-1].content.decode()
        assert re.search(
            r"Received: from mx\.sender\.example \(\S+ \[127\.0\.0\.11\]\)\r\n"
            r"\t\(using TLSv1\.3 with cipher TLS_AES_256_GCM_SHA384 \(256/256 bits\)\)\r\n"
            r"\tby mx\.fwd\.example with ESMTPS id [0-9A-Z]{12}\r\n\tfor <alice@fwd\.example>;\r\n",
            received,
        ), received


@needs("postfix", root=True)
def test_postfix_verifies_the_host_that_it_names_and_writes_the_same_of_tls(house: House) -> None:
    """Its own Received, of the host where the mail comes from, is the model of ours."""
    trusted = house.world.base / "trusted.pem"
    new = house.folder / "new"
    new.mkdir()
    write_certificate(new, "renewed", HOSTS["brand"])
    trusted.write_bytes(b"".join((folder / "cert.pem").read_bytes() for folder in (house.folder / "brand", new)))
    postfix = Postfix(
        house.world.base / "postfix",
        "mx.sender.example",
        SENDER,
        house.world.port,
        relayhost=f"[{FWD}]:{house.world.port}",
        settings={
            "smtp_tls_security_level": "secure",
            "smtp_tls_secure_cert_match": "mx.brand.example",
            "smtp_tls_servername": "mx.brand.example",
            "smtp_tls_CAfile": str(trusted),
            "smtp_tls_session_cache_database": f"btree:{house.world.base}/postfix/data/sessions",
        },
    )
    house.world.start(postfix)
    for number in (1, 2):  # the second resumes the session, if the same worker takes it
        postfix.submit(ANN, [ALICE], MESSAGE)
        content = house.sink.wait(number)[-1].content
        assert b" with ESMTPS id " in content and b"\t(using TLSv1." in content
    for file in ("cert.pem", "key.pem"):
        (new / file).replace(house.folder / "brand" / file)
    wait_until(lambda: house.relay.has_events("tls_certificate_reloaded", 1), "the renewed certificate")
    wait_until(
        lambda: all(house.shown("mx.brand.example") == house.der("brand") for _ in range(8)), "it in all workers"
    )
    postfix.submit(ANN, [ALICE], MESSAGE)
    house.sink.wait(3)


def test_no_handshake_fails_while_certificates_are_renewed(house: House) -> None:
    """A certificate and its key are replaced one after the other, and one of them is broken for a while."""
    before = {name: house.der(name) for name in HOSTS}
    stop = threading.Event()
    seen: dict[str, list[bytes]] = {name: [] for name in HOSTS}
    failures: list[str] = []

    def clients(host: str, name: str, implicit: bool) -> None:
        while not stop.is_set():
            try:
                seen[name].append(house.shown(host, implicit=implicit))
            except (OSError, AssertionError) as error:
                failures.append(f"{host}: {error!r}")

    threads = [
        threading.Thread(target=clients, args=(host, name, implicit))
        for host, name in NAMES[:3]
        for implicit in (True, False)
    ]
    for thread in threads:
        thread.start()
    try:
        new = house.folder / "new"
        new.mkdir()
        write_certificate(new, "brand", HOSTS["brand"])
        shutil.copy(new / "cert.pem", house.folder / "brand" / "cert.pem")
        (house.folder / "wild" / "cert.pem").write_text("broken")
        wait_until(lambda: house.relay.has_events("tls_certificate_not_reloaded", 2), "both to be told")
        shutil.copy(new / "key.pem", house.folder / "brand" / "key.pem")
        wait_until(lambda: house.relay.has_events("tls_certificate_reloaded", 1), "the renewed one")
        wait_until(lambda: seen["brand"][-20:].count(house.der("brand")) == 20, "the new one in all workers")
    finally:
        stop.set()
        for thread in threads:
            thread.join(20)
    assert not failures
    assert set(seen["brand"]) == {before["brand"], house.der("brand")}
    assert set(seen["default"]) == {before["default"]}
    assert set(seen["wild"]) == {before["wild"]}, "the broken one keeps its old one"
    problems = [line["problem"] for line in house.relay.events("tls_certificate_not_reloaded")]
    assert (
        len(problems) == 2
        and any("/wild/" in text for text in problems)
        and any("/brand/" in text for text in problems)
    )
    for pid in house.relay.workers():  # a new worker begins with the last good ones
        house.relay.kill_worker(pid)
    wait_until(lambda: house.relay.has_events("worker_ended", 2) or len(house.relay.workers()) == 2, "new workers")

    def shows() -> bool:
        try:
            return house.shown("any.mail.example") == before["wild"]
        except OSError:
            return False

    wait_until(shows, "the old certificate in a new worker")


def test_a_name_of_odd_octets_fails_that_handshake_alone(house: House) -> None:
    for name in (b"\xff\xfe-odd.example", b"a b\r\nc: .example", b"x" * 15):
        context = ssl.create_default_context()
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        hello = context.wrap_bio(incoming, outgoing, server_hostname="aaaaaa.example1")
        with pytest.raises(ssl.SSLWantReadError):
            hello.do_handshake()
        octets = outgoing.read()
        assert octets.count(b"aaaaaa.example1") == 1
        with socket.create_connection((FWD, house.implicit), timeout=20) as client:
            client.sendall(octets.replace(b"aaaaaa.example1", name.ljust(15, b"x")[:15]))
            answered = client.recv(1) == b"\x16"  # a handshake record
        assert answered is name.isascii()
    wait_until(lambda: house.relay.has_events("tls_failed", 1), "the log of it")
    assert house.shown("mx.brand.example") == house.der("brand")
    assert house.relay.stderr == ""
    assert "Traceback" not in house.relay.log_text


def test_a_broken_certificate_is_one_line_at_the_start(house: House) -> None:
    house.relay.stop()
    (house.folder / "brand" / "key.pem").write_text("broken")
    done = house.relay.command("serve")
    assert done.returncode == 1
    assert re.fullmatch(r"[^\n]*tls\.certificates\.1: [^\n]*/brand/cert\.pem with [^\n]*\n", done.stderr), done.stderr


def test_a_message_in_chunks_inside_tls(house: House) -> None:
    context = ssl.create_default_context(cafile=house.folder / "brand" / "cert.pem")
    chunks = [b"Subject: y\r\n\r\n.\r\nab\r", b"\n.\r\n", b"no end"]
    stream = b"EHLO mx.sender.example\r\nMAIL FROM:<ann@sender.example>\r\nRCPT TO:<alice@fwd.example>\r\n"
    for number, chunk in enumerate(chunks, 1):
        stream += b"BDAT %d%b\r\n%b" % (len(chunk), b" LAST" if number == len(chunks) else b"", chunk)
    with socket.create_connection((FWD, house.implicit), timeout=20) as plain:
        client = context.wrap_socket(plain, server_hostname="mx.brand.example")
        client.sendall(stream + b"QUIT\r\n")
        replies = [line[:3] for line in client.makefile("rb") if line[3:4] == b" "]
        client.close()
    assert replies == [b"220", *[b"250"] * 6, b"221"]
    assert house.sink.wait()[-1].content.endswith(b"Subject: y\r\n\r\n.\r\nab\r\n.\r\nno end\r\n")
