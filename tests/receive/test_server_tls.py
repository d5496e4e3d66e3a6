"""The certificate of the listeners follows its files, and a broken file keeps the old one."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from relay.config.sections import TlsSection
from relay.receive.server_tls import ServerTls
from relay.tls import UnusableCertificate
from tests.certificates import write_certificate


@pytest.fixture
def files(tmp_path: Path) -> TlsSection:
    write_certificate(tmp_path, "first")
    return TlsSection(certificate=tmp_path / "cert.pem", private_key=tmp_path / "key.pem")


def shown_by(context: ssl.SSLContext) -> bytes:
    """The certificate that a client sees, in DER; client and server talk through memory."""
    accepts_any = ssl.create_default_context()
    accepts_any.check_hostname, accepts_any.verify_mode = False, ssl.CERT_NONE
    to_client, to_server = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = accepts_any.wrap_bio(to_client, to_server, server_hostname="mx.test")
    server = context.wrap_bio(to_server, to_client, server_side=True)
    for _ in range(4):
        for side in (client, server):
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                pass
    shown = client.getpeercert(binary_form=True)
    assert shown is not None
    return shown


def der(tls: TlsSection) -> bytes:
    return ssl.PEM_cert_to_DER_cert(tls.pairs[0].certificate.read_text())


def test_a_renewed_certificate_is_shown_without_a_restart(files: TlsSection, tmp_path: Path) -> None:
    tls = ServerTls(files)
    kept = tls.context()
    first = der(files)
    assert shown_by(kept) == first
    write_certificate(tmp_path, "second")
    assert shown_by(tls.context()) == shown_by(kept) == der(files) != first


def test_a_broken_certificate_keeps_the_old_one(files: TlsSection, tmp_path: Path) -> None:
    tls = ServerTls(files)
    first = der(files)
    files.pairs[0].private_key.write_text("no key")
    assert shown_by(tls.context()) == first
    files.pairs[0].certificate.unlink()
    assert shown_by(tls.context()) == first
    write_certificate(tmp_path, "second")
    assert shown_by(tls.context()) == der(files) != first


@pytest.mark.parametrize("quiet", [False, True])
def test_what_becomes_of_it_is_logged_once_and_by_one_process(files: TlsSection, tmp_path: Path, quiet: bool) -> None:
    tls = ServerTls(files)
    tls.quiet = quiet
    with capture_logs() as lines:
        files.pairs[0].certificate.unlink()
        for _ in range(3):
            tls.context()
        write_certificate(tmp_path, "second")
        for _ in range(3):
            tls.context()
    said = ["tls_certificate_not_reloaded", "tls_certificate_reloaded"]
    assert [line["event"] for line in lines] == ([] if quiet else said)


@pytest.mark.parametrize("spoil", [Path.unlink, lambda path: path.write_text("nothing")])
def test_a_certificate_that_cannot_be_used_at_the_start(files: TlsSection, spoil: object) -> None:
    assert callable(spoil)
    spoil(files.certificate)
    with pytest.raises((OSError, UnusableCertificate)):
        ServerTls(files)


def test_versions_below_1_2_are_not_offered(files: TlsSection) -> None:
    assert ServerTls(files).context().minimum_version == ssl.TLSVersion.TLSv1_2
