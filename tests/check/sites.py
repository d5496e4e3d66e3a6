"""A site whose DNS is right, and the same with one fault: what the tests of the checks are about.

fwd.example      the SRS domain, and local; its MX is mx.fwd.example
mx.fwd.example   this host: 203.0.113.5 and 2001:db8::5
brand.example    a domain of the alias table
"""

from __future__ import annotations

import ipaddress
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from relay.check.finding import Finding
from relay.check.site import Site
from relay.config.file import parse
from relay.dns import StaticResolver
from relay.process.files import read_files
from relay.sending_addresses import SendingAddress
from tests import corpus
from tests.journeys.relay_process import toml

HOST, IPV4, IPV6 = "mx.fwd.example", "203.0.113.5", "2001:db8::5"
OTHER = "198.51.100.9"  # an address of nobody here
KEY_RECORD = corpus.ED25519.public_record()

Zone = dict[tuple[str, str], Sequence[Any] | Exception]


def txt(*texts: str) -> list[tuple[bytes, ...]]:
    """TXT records."""
    return [(text.encode("latin-1"),) for text in texts]


def pointer(ip: str) -> str:
    """The name of the PTR record of an address."""
    return ipaddress.ip_address(ip).reverse_pointer


def green() -> Zone:
    """What DNS has where all is well."""
    zone: Zone = {
        ("fwd.example", "MX"): [(10, HOST)],
        ("brand.example", "MX"): [(10, HOST)],
        (HOST, "A"): [IPV4],
        (HOST, "AAAA"): [IPV6],
        ("fwd.example", "TXT"): txt("some-verification=1", "v=spf1 mx -all"),
        (HOST, "TXT"): txt("v=spf1 a -all"),
        ("relay1._domainkey.fwd.example", "TXT"): txt(KEY_RECORD),
        ("_dmarc.fwd.example", "TXT"): txt("v=DMARC1; p=reject; rua=mailto:dmarc@fwd.example"),
    }
    for ip in (IPV4, IPV6):
        zone[pointer(ip), "PTR"] = [HOST]
    return zone


def site(
    folder: Path,
    zone: Mapping[tuple[str, str], Sequence[Any] | Exception],
    *,
    sends_from: Sequence[str] = (IPV4, IPV6),
    secure: bool = True,
    aliases: str = "info@brand.example someone@mailbox.example\n",
    **tables: Any,
) -> Site:
    """The site with this DNS.

    Args:
        sends_from: the addresses that the kernel chooses.
        secure: DNSSEC proves every answer.
        tables: take the place of tables of the configuration; None leaves one out.
    """
    (folder / "srs.secret").write_text("tops3cr3t\n")
    (folder / "relay1.pem").write_bytes(corpus.ED25519_PEM)
    (folder / "aliases").write_text(aliases)
    settings = {
        "hostname": HOST,
        "listen": [{"address": "0.0.0.0:25"}, {"address": "[::]:25"}],
        "srs": {"domain": "fwd.example", "secrets_file": "srs.secret"},
        "senders": {"local_domains": ["fwd.example"]},
        "dkim": [{"domain": "fwd.example", "selector": "relay1", "private_key": "relay1.pem"}],
        "routes": {"aliases": "aliases"},
        **tables,
    }
    config = parse(
        toml({key: value for key, value in settings.items() if value is not None}), folder / "relay.toml", {}
    )
    hidden = config.delivery.smarthost is not None
    addresses = tuple(SendingAddress(ip, "ipv6" if ":" in ip else "ipv4", to_smarthost=hidden) for ip in sends_from)
    return Site(config, read_files(config), StaticResolver(zone, secure), addresses, time.time())


def levels(findings: Sequence[Finding]) -> list[tuple[str, str]]:
    """What was found: subject and level of each."""
    return [(finding.subject, finding.level) for finding in findings]


def only(findings: Sequence[Finding], subject: str) -> Finding:
    """The one finding about a subject."""
    [finding] = [finding for finding in findings if finding.subject == subject]
    return finding
