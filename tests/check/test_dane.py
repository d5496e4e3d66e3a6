"""The TLSA records of our mail hosts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from relay.check import dane
from relay.dns import DnsFailure, Tlsa
from relay.transport_security.tlsa import data
from tests.check.chains import Authority, write_chain
from tests.check.sites import HOST, IPV4, Zone, green, levels, site

TLS: dict[str, Any] = {"tls": {"certificate": "cert.pem", "private_key": "key.pem"}}
NAME = f"_25._tcp.{HOST}"
WRONG = Tlsa(3, 1, 1, b"x" * 32)


@pytest.fixture
def right(tmp_path: Path) -> Tlsa:
    """The record of the certificate in the folder of the test."""
    authority = Authority("root")
    certificate = authority.host(tmp_path, HOST)
    write_chain(tmp_path, certificate, authority.certificate)
    return Tlsa(3, 1, 1, data(certificate, 1, 1))


def with_records(*records: Tlsa) -> Zone:
    return green() | {(NAME, "TLSA"): records}


async def test_none_is_good_and_the_hint_has_the_record(tmp_path: Path, right: Tlsa) -> None:
    [finding] = await dane.check(site(tmp_path, green(), **TLS))
    assert (finding.subject, finding.level) == (HOST, "ok")
    assert finding.mend.split("\n")[1] == f"{NAME}. 3600 IN TLSA 3 1 1 {right.data.hex()}"
    [finding] = await dane.check(site(tmp_path, green(), secure=False, **TLS))
    assert finding.level == "ok" and "DNSSEC" in finding.mend
    assert levels(await dane.check(site(tmp_path, green()))) == [(HOST, "ok")]


async def test_records_that_fit(tmp_path: Path, right: Tlsa) -> None:
    assert levels(await dane.check(site(tmp_path, with_records(right), **TLS))) == [(HOST, "ok")]
    # the next certificate is there already
    assert levels(await dane.check(site(tmp_path, with_records(WRONG, right), **TLS))) == [(HOST, "ok")]


async def test_records_that_do_not_fit(tmp_path: Path, right: Tlsa) -> None:
    [finding] = await dane.check(site(tmp_path, with_records(WRONG), **TLS))
    assert finding.level == "error" and right.data.hex() in finding.mend


async def test_a_stronger_digest_that_was_forgotten(tmp_path: Path, right: Tlsa) -> None:
    [finding] = await dane.check(site(tmp_path, with_records(right, Tlsa(3, 1, 2, b"x" * 64)), **TLS))
    assert finding.level == "error" and "SHA-512" in finding.mend


async def test_records_that_nobody_uses(tmp_path: Path, right: Tlsa) -> None:
    [finding] = await dane.check(site(tmp_path, with_records(right._replace(usage=1)), **TLS))
    assert (finding.level, "useless" in finding.text) == ("warning", True)
    [finding] = await dane.check(site(tmp_path, with_records(right, right._replace(usage=0)), **TLS))
    assert (finding.level, "useless" in finding.text) == ("warning", True)


async def test_records_that_are_not_signed(tmp_path: Path, right: Tlsa) -> None:
    [finding] = await dane.check(site(tmp_path, with_records(right), secure=False, **TLS))
    assert (finding.level, "not signed" in finding.text) == ("warning", True)
    findings = await dane.check(site(tmp_path, with_records(WRONG), secure=False, **TLS))
    assert levels(findings) == [(HOST, "error"), (HOST, "warning")]


async def test_records_without_a_certificate(tmp_path: Path) -> None:
    assert levels(await dane.check(site(tmp_path, with_records(WRONG)))) == [(HOST, "error")]


async def test_every_name_by_which_mail_comes_here(tmp_path: Path, right: Tlsa) -> None:
    zone = with_records(right) | {
        ("brand.example", "MX"): [(10, "mx.brand.example"), (20, "mx.elsewhere.test")],
        ("mx.brand.example", "A"): [IPV4],
        ("mx.elsewhere.test", "A"): ["198.51.100.9"],
        ("_25._tcp.mx.brand.example", "TLSA"): [WRONG],
        ("_25._tcp.mx.elsewhere.test", "TLSA"): [WRONG],
    }
    found = await dane.check(site(tmp_path, zone, **TLS))
    assert levels(found) == [(HOST, "ok"), ("mx.brand.example", "error")]


@pytest.mark.parametrize("key", [(NAME, "TLSA"), (HOST, "A")])
async def test_no_answer(tmp_path: Path, right: Tlsa, key: tuple[str, str]) -> None:
    """Where DNS does not answer for TLSA, senders that follow DANE wait (RFC 7672 section 2.1)."""
    zone: dict[Any, Any] = with_records(right) | {key: DnsFailure("SERVFAIL")}
    level = "error" if key[1] == "TLSA" else "ok"
    assert levels(await dane.check(site(tmp_path, zone, **TLS))) == [(HOST, level)]


async def test_records_are_about_the_server_in_front_where_only_this_host_connects(tmp_path: Path) -> None:
    relayhost: dict[str, Any] = {"listen": [{"address": "127.0.0.1:10025"}]}
    assert levels(await dane.check(site(tmp_path, with_records(WRONG), **relayhost))) == [(HOST, "ok")]
    assert levels(await dane.check(site(tmp_path, with_records(WRONG)))) == [(HOST, "error")]


def host_certificate(folder: Path, name: str, host: str) -> Tlsa:
    """A certificate in a folder of its own; returns its record."""
    (folder / name).mkdir()
    authority = Authority("root")
    certificate = authority.host(folder / name, host)
    write_chain(folder / name, certificate, authority.certificate)
    return Tlsa(3, 1, 1, data(certificate, 1, 1))


async def test_each_host_against_the_certificate_that_is_shown_for_it(tmp_path: Path) -> None:
    default = host_certificate(tmp_path, "default", "other.test")
    brand = host_certificate(tmp_path, "brand", "mx.brand.example")
    host_certificate(tmp_path, "host", HOST)
    tables = [
        {"certificate": f"{name}/cert.pem", "private_key": f"{name}/key.pem"} for name in ("default", "brand", "host")
    ]
    zone = green() | {
        ("brand.example", "MX"): [(10, "mx.brand.example")],
        ("mx.brand.example", "A"): [IPV4],
        ("_25._tcp.mx.brand.example", "TLSA"): [brand, default],
        (NAME, "TLSA"): [default],
    }
    findings = await dane.check(site(tmp_path, zone, tls={"certificates": tables}))
    assert levels(findings) == [(HOST, "error"), ("mx.brand.example", "ok")]
    zone["_25._tcp.mx.brand.example", "TLSA"] = [brand]
    [_, old_senders] = await dane.check(site(tmp_path, zone, tls={"certificates": tables}))
    assert old_senders.level == "warning" and "SNI" in old_senders.text and default.data.hex() in old_senders.mend
    broken_meanwhile = site(tmp_path, zone, tls={"certificates": tables})
    (tmp_path / "default" / "cert.pem").write_text("no PEM")
    [_, old_senders] = await dane.check(broken_meanwhile)
    assert old_senders.level == "warning"
    (tmp_path / "brand" / "cert.pem").unlink()
    [_, unread] = await dane.check(broken_meanwhile)
    assert unread.level == "error"
