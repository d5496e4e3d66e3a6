"""The certificate of the listeners: each fault, and one without any."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

from relay.check.certificate import check
from relay.check.finding import Finding
from relay.dns import DnsFailure
from tests.check.authority import Authority, signed, write
from tests.check.local_site import DOMAIN, HOSTNAME, levels, local_site

TLS = {"certificate": "cert.pem", "private_key": "key.pem"}
ZONE: dict[tuple[str, str], Any] = {(DOMAIN, "MX"): [(10, HOSTNAME)], (HOSTNAME, "A"): ["203.0.113.5"]}


@pytest.fixture
def authority(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Authority:
    """One that this system trusts."""
    authority = Authority(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.root_file))
    return authority


async def looked(folder: Path, zone: Any = ZONE, sends_from: Sequence[str] = ("203.0.113.5",)) -> list[Finding]:
    return await check(local_site(folder, zone, tls=TLS, sends_from=sends_from))


@pytest.mark.parametrize("name", [HOSTNAME, "*.fwd.example", "MX.fwd.example"])
async def test_a_certificate_for_the_host_with_its_chain_is_good(
    tmp_path: Path, authority: Authority, name: str
) -> None:
    leaf = signed("leaf", authority.intermediate, hosts=["other.example", name])
    write(tmp_path, leaf, authority.intermediate)
    [finding] = await looked(tmp_path)
    assert (finding.subject, finding.level) == (str(tmp_path / "cert.pem"), "ok")
    assert HOSTNAME in finding.text and f"{leaf.certificate.not_valid_after_utc:%Y-%m-%d}" in finding.text


@pytest.mark.parametrize(
    ("days", "level", "said"),
    [
        ((-100, -1), "error", "expired on"),
        ((1, 90), "error", "not valid before"),
        ((-76, 13), "warning", "expires on"),
        ((-75, 15), "ok", ""),
        ((-4, 2.5), "ok", ""),  # a certificate for a week
        ((-6, 0.5), "warning", "expires on"),
    ],
)
async def test_how_long_it_is_good(
    tmp_path: Path, authority: Authority, days: tuple[float, float], level: str, said: str
) -> None:
    write(tmp_path, signed("leaf", authority.intermediate, hosts=[HOSTNAME], days=days), authority.intermediate)
    [finding] = await looked(tmp_path)
    assert (finding.level, said in finding.text) == (level, True)


@pytest.mark.parametrize("names", [["fwd.example"], ["*.example"], ["*.mx.fwd.example"], ["xmx.fwd.example"]])
async def test_a_certificate_for_other_names(tmp_path: Path, authority: Authority, names: list[str]) -> None:
    write(tmp_path, signed("leaf", authority.intermediate, hosts=names), authority.intermediate)
    [finding] = await looked(tmp_path)
    assert finding.level == "error" and HOSTNAME in finding.text and names[0] in finding.text


async def test_mx_names_that_lead_here_count_and_those_that_lead_elsewhere_do_not(
    tmp_path: Path, authority: Authority
) -> None:
    zone = {
        (DOMAIN, "MX"): [(10, HOSTNAME), (20, "backup.example")],
        ("brand.example", "MX"): [(10, "mail.brand.example")],
        (HOSTNAME, "A"): ["203.0.113.5"],
        ("mail.brand.example", "A"): ["203.0.113.5"],
        ("backup.example", "A"): ["198.51.100.9"],
    }
    write(tmp_path, signed("leaf", authority.intermediate, hosts=[HOSTNAME]), authority.intermediate)
    [finding] = await looked(tmp_path, zone)
    assert finding.level == "error" and "mail.brand.example" in finding.text and "backup" not in finding.text
    [finding] = await looked(tmp_path, {**zone, ("brand.example", "MX"): DnsFailure("timeout")})
    assert finding.level == "ok", "what DNS does not tell is for other checks"


# the chain


async def test_a_chain_without_its_intermediate(tmp_path: Path, authority: Authority) -> None:
    write(tmp_path, signed("leaf", authority.intermediate, hosts=[HOSTNAME]))
    [finding] = await looked(tmp_path)
    assert finding.level == "warning" and "incomplete" in finding.text and "fullchain.pem" in finding.mend


async def test_an_intermediate_that_has_expired(tmp_path: Path, authority: Authority) -> None:
    old = signed("Old", authority.root, days=(-90, -1))
    write(tmp_path, signed("leaf", old, hosts=[HOSTNAME]), old)
    [finding] = await looked(tmp_path)
    assert finding.level == "error" and "chain" in finding.text


async def test_a_self_signed_certificate_is_enough_for_encryption(tmp_path: Path, authority: Authority) -> None:
    write(tmp_path, signed(HOSTNAME, None, hosts=[HOSTNAME]))
    [finding] = await looked(tmp_path)
    assert finding.level == "warning" and "self-signed" in finding.text


async def test_a_root_that_this_system_does_not_trust(
    tmp_path: Path, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, signed("leaf", authority.intermediate, hosts=[HOSTNAME]), authority.intermediate, authority.root)
    assert levels(await looked(tmp_path)) == ["ok"]
    (tmp_path / "other").mkdir()
    monkeypatch.setenv("SSL_CERT_FILE", str(Authority(tmp_path / "other").root_file))
    [finding] = await looked(tmp_path)
    assert finding.level == "warning" and "does not trust" in finding.text


async def test_a_system_without_any_root_cannot_tell(
    tmp_path: Path, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, signed("leaf", authority.intermediate, hosts=[HOSTNAME]))
    (tmp_path / "none").mkdir()
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "absent"))
    monkeypatch.setenv("SSL_CERT_DIR", str(tmp_path / "none"))
    assert levels(await looked(tmp_path)) == ["ok"]


# the rest


async def test_several_faults_are_all_named(tmp_path: Path, authority: Authority) -> None:
    write(tmp_path, signed("leaf", authority.intermediate, hosts=["other.example"], days=(-80, 5)))
    findings = await looked(tmp_path)
    assert levels(findings) == ["warning", "error", "warning"]


async def test_a_short_key(tmp_path: Path, authority: Authority, monkeypatch: pytest.MonkeyPatch) -> None:
    """OpenSSL of Debian does not even load one, so the number is moved instead."""
    monkeypatch.setattr("relay.check.certificate.RSA_BITS", 3072)
    key = rsa.generate_private_key(65537, 2048)
    write(tmp_path, signed("leaf", authority.intermediate, hosts=[HOSTNAME], key=key), authority.intermediate)
    [finding] = await looked(tmp_path)
    assert finding.level == "warning" and "2048 bits" in finding.text


async def test_without_a_certificate_there_is_a_hint(tmp_path: Path) -> None:
    [finding] = await check(local_site(tmp_path, ZONE))
    assert (finding.subject, finding.level) == (HOSTNAME, "ok") and "[tls]" in finding.mend


async def test_files_that_cannot_be_used_are_a_finding(tmp_path: Path, authority: Authority) -> None:
    mine = signed("leaf", authority.intermediate, hosts=[HOSTNAME])
    write(tmp_path, mine, authority.intermediate)
    site = local_site(tmp_path, ZONE, tls=TLS)
    (tmp_path / "cert.pem").write_text("-----BEGIN CERTIFICATE-----\nrubbish\n")
    [finding] = await check(site)
    assert finding.level == "error" and "it is no PEM" in finding.text
    (tmp_path / "cert.pem").write_bytes(signed("leaf", authority.intermediate, hosts=[HOSTNAME]).pem)
    [finding] = await check(site)
    assert finding.level == "error" and "for another key" in finding.text
    (tmp_path / "cert.pem").write_bytes(authority.intermediate.pem + mine.pem)
    [finding] = await check(site)
    assert finding.level == "error" and "comes first" in finding.mend
    (tmp_path / "key.pem").unlink()
    [finding] = await check(site)
    assert finding.level == "error" and "No such file" in finding.text


# several


async def looked_at_several(folder: Path, broken: str = "", **hosts: list[str]) -> dict[str, list[Finding]]:
    """The findings by the folder of each certificate; `hosts` has those that are given, `broken` one without PEM."""
    tables = [
        {"certificate": f"{name}/cert.pem", "private_key": f"{name}/key.pem", "hosts": given}
        for name, given in hosts.items()
    ]
    zone = ZONE | {("brand.example", "MX"): [(10, "mx.brand.example")], ("mx.brand.example", "A"): ["203.0.113.5"]}
    site = local_site(folder, zone, tls={"certificates": tables}, sends_from=["203.0.113.5"])
    if broken:
        (folder / broken / "cert.pem").write_text("no PEM")
    findings: dict[str, list[Finding]] = {}
    for finding in await check(site):
        findings.setdefault(Path(finding.subject).parent.name, []).append(finding)
    return findings


def host_certificate(folder: Path, name: str, authority: Authority, *hosts: str, **settings: Any) -> None:
    (folder / name).mkdir()
    write(folder / name, signed(name, authority.intermediate, hosts=hosts, **settings), authority.intermediate)


async def test_each_of_several_is_looked_at_for_the_names_that_it_is_shown_for(
    tmp_path: Path, authority: Authority
) -> None:
    host_certificate(tmp_path, "default", authority, HOSTNAME)
    host_certificate(tmp_path, "brand", authority, "mx.brand.example")
    host_certificate(tmp_path, "old", authority, "old.example", days=(-90, -1))
    found = await looked_at_several(tmp_path, default=[], brand=[], old=[])
    assert {name: levels(each) for name, each in found.items()} == {
        "default": ["ok"],
        "brand": ["ok"],
        "old": ["error"],
    }
    assert "mx.brand.example" in found["brand"][0].text and HOSTNAME not in found["brand"][0].text
    found = await looked_at_several(tmp_path, "brand", default=[], brand=[], old=[])
    assert levels(found["brand"]) == ["error"] and "no PEM" in found["brand"][0].text
    assert "mx.brand.example" in found["default"][0].text, "which is shown for it as long as that is so"


async def test_hosts_that_the_certificate_is_not_for(tmp_path: Path, authority: Authority) -> None:
    host_certificate(tmp_path, "default", authority, HOSTNAME, "mx.brand.example")
    host_certificate(tmp_path, "given", authority, "a.given.example", "*.wild.example")
    given = ["a.given.example", "b.given.example", "*.given.example", "*.wild.example", "x.wild.example"]
    found = await looked_at_several(tmp_path, default=[], given=given)
    [finding] = found["given"]
    assert finding.level == "error" and "it is not for b.given.example, *.given.example, but" in finding.text
    assert levels(found["default"]) == ["ok"]


async def test_a_certificate_that_is_shown_to_nobody(tmp_path: Path, authority: Authority) -> None:
    host_certificate(tmp_path, "default", authority, HOSTNAME, "mx.brand.example")
    host_certificate(tmp_path, "same", authority, HOSTNAME)
    host_certificate(
        tmp_path, "rsa", authority, HOSTNAME, "mx.brand.example", key=rsa.generate_private_key(65537, 2048)
    )
    host_certificate(tmp_path, "nameless", authority)
    found = await looked_at_several(tmp_path, default=[], same=[], rsa=[], nameless=[])
    [hidden] = found["same"]
    assert hidden.level == "warning" and f"never shown for {HOSTNAME}" in hidden.text and "default" in hidden.text
    assert levels(found["rsa"]) == ["ok"], "its key is of another kind"
    assert any("never shown" in finding.text for finding in found["nameless"])
