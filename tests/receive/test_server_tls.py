"""The certificates of the listeners: which one a client sees, and what becomes of files that change."""

from __future__ import annotations

import asyncio
import os
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from relay.config.model import ConfigError
from relay.config.sections import TlsSection
from relay.receive.server_tls import ServerTls
from tests.certificates import write_certificate
from tests.peers import wait_for


@pytest.fixture(autouse=True)
def settled(monkeypatch: pytest.MonkeyPatch) -> None:
    """A file counts as written at once."""
    monkeypatch.setattr("relay.receive.certificate_files.SETTLED", 0.0)


@pytest.fixture
def files(tmp_path: Path) -> TlsSection:
    write_certificate(tmp_path, "first")
    return TlsSection(certificate=tmp_path / "cert.pem", private_key=tmp_path / "key.pem")


class Hosts:
    """A folder for each of several certificates, for the host of the same name."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def write(self, name: str, host: str, **settings: Any) -> dict[str, str]:
        """Write a certificate; returns its table."""
        folder = self.folder / name
        folder.mkdir(exist_ok=True)
        write_certificate(folder, name, host, **settings)
        return {"certificate": str(folder / "cert.pem"), "private_key": str(folder / "key.pem")}

    def der(self, name: str) -> bytes:
        return ssl.PEM_cert_to_DER_cert((self.folder / name / "cert.pem").read_text())


@pytest.fixture
def hosts(tmp_path: Path) -> Hosts:
    return Hosts(tmp_path)


def client_context(**settings: Any) -> ssl.SSLContext:
    accepts_any = ssl.create_default_context()
    accepts_any.check_hostname, accepts_any.verify_mode = False, ssl.CERT_NONE
    for name, value in settings.items():
        setattr(accepts_any, name, value)
    return accepts_any


def handshake(
    server_context: ssl.SSLContext,
    host: str | None = "mx.test",
    *,
    context: ssl.SSLContext | None = None,
    session: ssl.SSLSession | None = None,
) -> ssl.SSLObject:
    """The client's side after a handshake; client and server talk through memory."""
    to_client, to_server = ssl.MemoryBIO(), ssl.MemoryBIO()
    context = context or client_context()
    client = context.wrap_bio(to_client, to_server, server_hostname=host, session=session)
    server = server_context.wrap_bio(to_server, to_client, server_side=True)
    for _ in range(4):
        for side in (client, server):
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                pass
    server.write(b"220 ")
    assert client.read(4) == b"220 "
    return client


def shown_by(server_context: ssl.SSLContext, host: str | None = "mx.test", **how: Any) -> bytes:
    """The certificate that a client sees, in DER."""
    certificate = handshake(server_context, host, **how).getpeercert(binary_form=True)
    assert certificate is not None
    return certificate


def der(tls: TlsSection) -> bytes:
    return ssl.PEM_cert_to_DER_cert(tls.pairs[0].certificate.read_text())


# one certificate


def test_a_renewed_certificate_is_shown_without_a_restart(files: TlsSection, tmp_path: Path) -> None:
    tls = ServerTls(files)
    kept, first = tls.context(), der(files)
    assert shown_by(kept) == first
    write_certificate(tmp_path, "second")
    tls.look()
    assert shown_by(tls.context()) == der(files) != first
    assert shown_by(kept) == first, "a handshake that has begun goes on with what it began with"


def test_a_broken_certificate_keeps_the_old_one(files: TlsSection, tmp_path: Path) -> None:
    tls = ServerTls(files)
    first = der(files)
    for spoil in (lambda: files.pairs[0].private_key.write_text("no key"), files.pairs[0].certificate.unlink):
        spoil()
        for _ in range(3):
            tls.look()
            assert shown_by(tls.context()) == first
    write_certificate(tmp_path, "second")
    tls.look()
    assert shown_by(tls.context()) == der(files) != first


def test_certificate_and_key_may_be_replaced_one_after_the_other(files: TlsSection, tmp_path: Path) -> None:
    tls = ServerTls(files)
    first = der(files)
    (tmp_path / "new").mkdir()
    write_certificate(tmp_path / "new", "second")
    with capture_logs() as lines:
        (tmp_path / "new" / "cert.pem").replace(tmp_path / "cert.pem")
        tls.look()
        assert shown_by(tls.context()) == first
        (tmp_path / "new" / "key.pem").replace(tmp_path / "key.pem")
        tls.look()
    assert shown_by(tls.context()) == der(files) != first
    assert [line["event"] for line in lines] == ["tls_certificate_reloaded"]


def test_a_file_is_not_read_while_it_is_written(
    files: TlsSection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tls = ServerTls(files)
    first = der(files)
    monkeypatch.setattr("relay.receive.certificate_files.SETTLED", 60.0)
    write_certificate(tmp_path, "second")
    tls.look()
    assert shown_by(tls.context()) == first
    monkeypatch.setattr("relay.receive.certificate_files.SETTLED", 0.0)
    tls.look()
    assert shown_by(tls.context()) == der(files)


@pytest.mark.parametrize("quiet", [False, True])
async def test_what_becomes_of_it_is_logged_once_and_by_one_process(
    files: TlsSection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, quiet: bool
) -> None:
    monkeypatch.setattr("relay.receive.server_tls.next_look", lambda now: 0.01)
    tls = ServerTls(files)
    following = asyncio.create_task(tls.follow(quiet=quiet))
    with capture_logs() as lines:
        looks = 0

        def looked(count: int = 5) -> bool:
            nonlocal looks
            looks += 1
            return looks % count == 0

        files.pairs[0].certificate.unlink()
        await wait_for(looked, "some looks")
        write_certificate(tmp_path, "second")
        await wait_for(lambda: shown_by(tls.context()) == der(files), "the new certificate")
        await wait_for(looked, "some looks")
    following.cancel()
    said = ["tls_certificate_not_reloaded", "tls_certificate_reloaded"]
    assert [line["event"] for line in lines] == ([] if quiet else said)


async def test_files_are_read_in_a_thread(files: TlsSection, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("relay.receive.server_tls.next_look", lambda now: 0.01)
    tls = ServerTls(files)
    threads = []
    monkeypatch.setattr(tls, "look", lambda: threads.append(threading.current_thread()))
    following = asyncio.create_task(tls.follow())
    await wait_for(lambda: len(threads) > 1, "two looks")
    following.cancel()
    assert threading.main_thread() not in threads


def test_versions_below_1_2_are_not_offered(files: TlsSection) -> None:
    assert ServerTls(files).context().minimum_version == ssl.TLSVersion.TLSv1_2


# several


@pytest.fixture
def several(hosts: Hosts) -> Iterator[TlsSection]:
    yield TlsSection.model_validate(
        {
            "certificates": [
                hosts.write("default", "mx.fwd.example"),
                hosts.write("wild", "*.mail.example"),
                hosts.write("exact", "mx.mail.example"),
                {**hosts.write("given", "other.example"), "hosts": ["MX.given.example", "*.given.example"]},
            ]
        }
    )


NAMES = [
    ("mx.fwd.example", "default"),
    ("a.mail.example", "wild"),
    ("MX.Mail.Example", "exact"),
    ("mx.given.example", "given"),
    ("x.given.example", "given"),
    ("other.example", "default"),
    ("x.y.mail.example", "default"),
    (None, "default"),
]


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_the_client_chooses_by_the_name_it_asks_for(hosts: Hosts, several: TlsSection, version: ssl.TLSVersion) -> None:
    tls = ServerTls(several)
    for name, expected in NAMES:
        shown = shown_by(tls.context(), name, context=client_context(maximum_version=version))
        assert shown == hosts.der(expected), name


def test_each_is_renewed_on_its_own(hosts: Hosts, several: TlsSection) -> None:
    tls = ServerTls(several)
    broken = hosts.der("wild")
    (hosts.folder / "wild" / "key.pem").write_text("no key")
    hosts.write("exact", "mx.mail.example")
    hosts.write("given", "other.example")
    with capture_logs() as lines:
        for _ in range(3):
            tls.look()
    assert shown_by(tls.context(), "a.mail.example") == broken
    for name in ("exact", "given", "default"):
        host = {"exact": "mx.mail.example", "given": "mx.given.example"}.get(name, "mx.fwd.example")
        assert shown_by(tls.context(), host) == hosts.der(name)
    assert [(line["event"], "wild" in str(line)) for line in lines] == [
        ("tls_certificate_reloaded", False),
        ("tls_certificate_reloaded", False),
        ("tls_certificate_not_reloaded", True),
    ]


def test_a_renewed_certificate_is_shown_for_its_new_names(hosts: Hosts, several: TlsSection) -> None:
    tls = ServerTls(several)
    hosts.write("exact", "new.example")
    tls.look()
    assert shown_by(tls.context(), "new.example") == hosts.der("exact")
    assert shown_by(tls.context(), "mx.mail.example") == hosts.der("wild")


def test_keys_of_two_kinds_for_one_name(hosts: Hosts) -> None:
    """RSA for clients that know nothing else, and what each client verifies is what it can."""
    tables = [hosts.write("rsa", "mx.test", kind="rsa"), hosts.write("ec", "mx.test")]
    tls = ServerTls(TlsSection.model_validate({"certificates": tables}))
    old = client_context(maximum_version=ssl.TLSVersion.TLSv1_2)
    old.set_ciphers("aRSA")
    new = client_context(maximum_version=ssl.TLSVersion.TLSv1_2)
    new.set_ciphers("aECDSA")
    for host in ("mx.test", None):
        assert shown_by(tls.context(), host, context=old) == hosts.der("rsa")
        assert shown_by(tls.context(), host, context=new) == hosts.der("ec")
    first = hosts.der("ec")
    (hosts.folder / "ec" / "cert.pem").write_text("broken")
    hosts.write("rsa", "mx.test", kind="rsa")
    tls.look()
    assert shown_by(tls.context(), context=old) == hosts.der("rsa"), "the other one is renewed nevertheless"
    assert shown_by(tls.context(), context=new) == first


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_sessions_are_resumed_and_do_not_outlive_a_certificate(
    hosts: Hosts, several: TlsSection, version: ssl.TLSVersion
) -> None:
    tls = ServerTls(several)
    context = client_context(maximum_version=version)
    for host, _ in NAMES:
        session = handshake(tls.context(), host, context=context).session
        again = handshake(tls.context(), host, context=context, session=session)
        assert again.session_reused, host
        handshake(tls.context(), "mx.fwd.example", context=context, session=session)
    session = handshake(tls.context(), "mx.mail.example", context=context).session
    hosts.write("exact", "mx.mail.example")
    tls.look()
    renewed = handshake(tls.context(), "mx.mail.example", context=context, session=session)
    assert not renewed.session_reused
    assert renewed.getpeercert(binary_form=True) == hosts.der("exact")


@pytest.mark.parametrize(
    "spoil", [Path.unlink, lambda path: path.write_text("nothing"), lambda path: path.write_text("")]
)
@pytest.mark.parametrize("file", ["cert.pem", "key.pem"])
def test_a_certificate_that_cannot_be_used_at_the_start(
    hosts: Hosts, several: TlsSection, spoil: Any, file: str
) -> None:
    spoil(hosts.folder / "exact" / file)
    with pytest.raises(ConfigError, match=rf"^tls\.certificates\.2: {hosts.folder}/exact/"):
        ServerTls(several)


def test_a_named_pipe_is_not_waited_for(hosts: Hosts, several: TlsSection) -> None:
    key = hosts.folder / "exact" / "key.pem"
    tls = ServerTls(several)
    key.unlink()
    os.mkfifo(key)
    for _ in range(2):
        tls.look()
    assert shown_by(tls.context(), "mx.mail.example") == hosts.der("exact")


def test_the_key_is_in_no_repr(several: TlsSection) -> None:
    tls = ServerTls(several)
    assert "PRIVATE" not in repr(tls._files[0].pair)
