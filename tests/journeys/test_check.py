"""`srs-relay check` as it is run, against a real validating resolver with a signed zone, and a real policy host."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509

from relay.sign import keys
from relay.sign.keys import SigningKey, zone_line
from relay.transport_security.tlsa import data
from tests.certificates import write_certificate
from tests.check.policy_host import serving
from tests.journeys.relay_process import ROOT, toml
from tests.journeys.validating_unbound import ValidatingUnbound
from tests.peers import needs

pytestmark = needs("unbound", root=True)  # the policy host has port 443

POLICY_HOST = "127.0.4.43"
POLICY = b"version: STSv1\nmode: enforce\nmx: mx.fwd.example\nmax_age: 604800\n"
OF_DNS = "spf,dkim,dmarc,mx,ptr,address,mta-sts,tls-rpt,dane,dnssec,resolver,dnsbl"
KEY = keys.generate("rsa2048")

Zone = dict[tuple[str, str], list[str]]


class Host:
    """A relay's folder, and its DNS."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._servers: list[ValidatingUnbound] = []
        write_certificate(folder, "relay", "mx.fwd.example")
        certificate = x509.load_pem_x509_certificate((folder / "cert.pem").read_bytes())
        (folder / "policy").mkdir()
        (folder / "relay1.pem").write_bytes(KEY)
        (folder / "srs.secret").write_text("tops3cr3t\n")
        (folder / "aliases").write_text("info@brand.example someone@mailbox.example\n")
        record = SigningKey("fwd.example", "relay1", keys.parse(KEY)).public_record()
        self.zone: Zone = {
            ("fwd.example", "MX"): ["10 mx.fwd.example."],
            ("brand.example", "MX"): ["10 mx.fwd.example."],
            ("mx.fwd.example", "A"): ["203.0.113.5"],
            ("fwd.example", "TXT"): ['"v=spf1 mx -all"'],
            ("mx.fwd.example", "TXT"): ['"v=spf1 a -all"'],
            ("relay1._domainkey.fwd.example", "TXT"): [zone_line("x", record).partition(" TXT ")[2]],
            ("_dmarc.fwd.example", "TXT"): ['"v=DMARC1; p=reject; rua=mailto:dmarc@reports.test"'],
            ("fwd.example._report._dmarc.reports.test", "TXT"): ['"v=DMARC1"'],
            ("5.113.0.203.in-addr.arpa", "PTR"): ["mx.fwd.example."],
            ("_mta-sts.fwd.example", "TXT"): ['"v=STSv1; id=20261130"'],
            ("mta-sts.fwd.example", "A"): [POLICY_HOST],
            ("_smtp._tls.fwd.example", "TXT"): ['"v=TLSRPTv1; rua=mailto:tls@fwd.example"'],
            ("_25._tcp.mx.fwd.example", "TLSA"): [f"3 1 1 {data(certificate, 1, 1).hex()}"],
        }

    def check(self, *options: str, forged: bool = False) -> subprocess.CompletedProcess[str]:
        """Run the command with the zone as it is now."""
        server = ValidatingUnbound(self._folder / f"unbound{len(self._servers)}", self.zone, forged)
        self._servers.append(server)
        server.start()
        config = {
            "hostname": "mx.fwd.example",
            "listen": [{"address": "0.0.0.0:25"}],
            "tls": {"certificate": "cert.pem", "private_key": "key.pem"},
            "dns": {"nameservers": [server.endpoint]},
            "srs": {"domain": "fwd.example", "secrets_file": "srs.secret"},
            "senders": {"local_domains": ["fwd.example"]},
            "dkim": [{"domain": "fwd.example", "selector": "relay1", "private_key": "relay1.pem"}],
            "routes": {"aliases": "aliases"},
            "delivery": {"families": ["ipv4"], "source_ipv4": "203.0.113.5"},
        }
        (self._folder / "relay.toml").write_text(toml(config))
        command = [sys.executable, "-m", "relay", "check", "--config", str(self._folder / "relay.toml")]
        with serving(
            self._folder / "policy",
            "mta-sts.fwd.example",
            {"/.well-known/mta-sts.txt": (200, POLICY)},
            (POLICY_HOST, 443),
        ) as (_, certificate):
            return subprocess.run(
                [*command, "--only", OF_DNS, *options],
                capture_output=True,
                text=True,
                cwd=ROOT,
                timeout=60,
                env=os.environ | {"SSL_CERT_FILE": str(certificate)},
            )

    def stop(self) -> None:
        for server in self._servers:
            server.stop()


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    host = Host(tmp_path)
    yield host
    host.stop()


def found(done: subprocess.CompletedProcess[str]) -> list[dict[str, Any]]:
    assert done.stderr == ""
    findings: list[dict[str, Any]] = json.loads(done.stdout)["findings"]
    return findings


def test_a_host_where_all_is_well(host: Host) -> None:
    done = host.check("--json")
    findings = found(done)
    assert [finding for finding in findings if finding["level"] != "ok"] == []
    assert done.returncode == 0
    text = {(finding["check"], finding["subject"]): finding["text"] for finding in findings}
    assert "signatures are right" in text["dnssec", "fwd.example"]
    assert "fits our certificate" in text["dane", "mx.fwd.example"]
    assert "(enforce) names mx.fwd.example" in text["mta-sts", "fwd.example"]
    assert {check for check, _ in text} == set(OF_DNS.split(","))
    done = host.check()
    assert done.returncode == 0 and done.stderr == ""
    assert done.stdout.endswith(f"\nno errors, no warnings, {len(findings)} ok\n")


def test_a_host_with_every_fault(host: Host) -> None:
    other = SigningKey("fwd.example", "relay1", keys.parse(keys.generate("ed25519"))).public_record()
    host.zone |= {
        ("fwd.example", "MX"): ["10 mx.elsewhere.test."],
        ("mx.elsewhere.test", "A"): ["198.51.100.9"],
        ("fwd.example", "TXT"): ['"v=spf1 ip4:198.51.100.9 -all"'],
        ("mx.fwd.example", "A"): ["198.51.100.10"],
        ("relay1._domainkey.fwd.example", "TXT"): [f'"{other}"'],
        ("_dmarc.fwd.example", "TXT"): ['"v=DMARC1; p=none"', '"v=DMARC1; p=reject"'],
        ("5.113.0.203.in-addr.arpa", "PTR"): ["host.isp.test."],
        ("_smtp._tls.fwd.example", "TXT"): ['"v=TLSRPTv1; rua=tls@fwd.example"'],
        ("_25._tcp.mx.fwd.example", "TLSA"): ["3 1 1 " + "00" * 32],
        ("5.113.0.203.zen.spamhaus.org", "A"): ["127.0.0.3"],
        ("5.113.0.203.zen.spamhaus.org", "TXT"): ['"https://check.spamhaus.org/query/ip/203.0.113.5"'],
    }
    done = host.check("--json")
    assert done.returncode == 1
    faults = {(finding["check"], finding["level"]) for finding in found(done) if finding["level"] != "ok"}
    errors = {"spf", "dkim", "dmarc", "mx", "ptr", "address", "mta-sts", "dane", "dnsbl"}
    assert {check for check, level in faults if level == "error"} == errors
    assert ("tls-rpt", "warning") in faults
    assert all(finding["mend"] for finding in json.loads(done.stdout)["findings"] if finding["level"] != "ok")
    table = host.check()
    assert table.returncode == 1
    lines = table.stdout.splitlines()
    words = [line.split()[0] for line in lines if line and not line.startswith(" ")]
    assert words[:-1] == sorted(words[:-1], key=["error", "warning", "ok"].index), "errors first"
    assert '                      fwd.example. 3600 IN TXT "v=spf1 ip4:198.51.100.9 ip4:203.0.113.5 -all"' in lines


def test_a_zone_whose_signatures_are_wrong(host: Host) -> None:
    done = host.check("--json", forged=True)
    assert done.returncode == 1
    dnssec = [finding for finding in found(done) if finding["check"] == "dnssec"]
    assert {finding["level"] for finding in dnssec} == {"error"}
    assert all("signatures of the zone are wrong" in finding["text"] for finding in dnssec)
