"""A folder of `init` and what can be read from it; `test_init` and `test_init_uses` share it."""

from __future__ import annotations

import socket
from pathlib import Path

import dns.rdatatype
import dns.zone
import pytest

from relay.cli import host_addresses, init_site, site_records
from relay.cli.host_addresses import Host
from relay.sending_addresses import SendingAddress
from relay.sign import keys

PEM = keys.generate("rsa2048")
V4, V6 = "203.0.113.5", "2001:db8:5::5"
FILES = ["aliases", "dkim/relay1.pem", "relay.toml", "srs.secret"]
NO_ADDRESSES = Host({"ipv4": None, "ipv6": None}, lambda ip: False)


def a_host(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make this host mx.fwd.example, with root's ports and without addresses, and its keys quickly made."""
    monkeypatch.setattr(socket, "getfqdn", lambda: "mx.fwd.example")
    monkeypatch.setattr(init_site, "may_bind", lambda port: True)
    monkeypatch.setattr(site_records, "sending_addresses", lambda *_: (SendingAddress(V4, "ipv4"),))
    monkeypatch.setattr(host_addresses, "look", lambda: NO_ADDRESSES)
    monkeypatch.setattr(keys, "generate", lambda kind: PEM)  # a fresh one takes half a second


def files(folder: Path) -> list[str]:
    """The files in a folder, by their paths in it."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def zone(text: str, origin: str = "fwd.example") -> dns.zone.Zone:
    """The records that were printed."""
    return dns.zone.from_text(text, origin=origin, relativize=False, check_origin=False)


def answers(published: dns.zone.Zone, name: str, kind: str) -> list[str]:
    """The values of a name and a type; a text is whole."""
    rdataset = published.get_rdataset(f"{name}.", dns.rdatatype.from_text(kind))
    if rdataset is None:
        return []
    if kind == "TXT":
        return [b"".join(record.strings).decode() for record in rdataset]
    return [record.to_text() for record in rdataset]
