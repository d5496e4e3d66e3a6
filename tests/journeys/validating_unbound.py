"""Unbound as a validating resolver: one signed zone whose key it knows, unsigned names beside it, and no others."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from pathlib import Path

import dns.dnssec
import dns.exception
import dns.message
import dns.query
import dns.zone
from cryptography.hazmat.primitives.asymmetric import ec

from tests.peers import free_port, program, wait_until

ORIGIN = "fwd.example"
_SOA = "ns.fwd.example. hostmaster.fwd.example. 1 3600 900 86400 60"
_CONFIG = """\
server:
    do-daemonize: no
    username: ""
    chroot: ""
    directory: "{folder}"
    pidfile: "{folder}/pid"
    use-syslog: no
    interface: 127.0.0.1
    port: {port}
    module-config: "validator iterator"
    trust-anchor: "{anchor}"
    local-zone: "." static
    local-zone: "{origin}." transparent
    local-zone: "in-addr.arpa." static
    local-zone: "113.0.203.in-addr.arpa." static
{records}
auth-zone:
    name: "{origin}."
    zonefile: "{folder}/zone"
    for-downstream: no
    for-upstream: yes
    fallback-enabled: no
remote-control:
    control-enable: no
"""

Zone = Mapping[tuple[str, str], list[str]]


class ValidatingUnbound:
    """One instance.

    Args:
        zone: {(name, type): [rdata]}; names below `ORIGIN` are in the signed zone.
        forged: the zone is signed with another key than the one that Unbound knows.
    """

    def __init__(self, folder: Path, zone: Zone, forged: bool = False) -> None:
        self._folder = folder
        self._zone = zone
        self._forged = forged
        self._port = free_port()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def endpoint(self) -> str:
        return f"127.0.0.1:{self._port}"

    def start(self) -> None:
        """Sign the zone, start, and return when a question is answered."""
        self._folder.mkdir()
        inside = {key: rdata for key, rdata in self._zone.items() if f".{key[0]}".endswith(f".{ORIGIN}")}
        anchor = self._sign(inside)
        records = "\n".join(
            f"    local-data: '{name}. {rdtype} {rdata}'"
            for (name, rdtype), records in self._zone.items()
            if (name, rdtype) not in inside
            for rdata in records
        )
        config = self._folder / "unbound.conf"
        config.write_text(
            _CONFIG.format(folder=self._folder, port=self._port, anchor=anchor, origin=ORIGIN, records=records)
        )
        with (self._folder / "log").open("wb") as log:
            self._process = subprocess.Popen([program("unbound"), "-d", "-c", str(config)], stderr=log)
        wait_until(self._answers, "unbound")

    def _sign(self, records: Zone) -> str:
        """Write the signed zone; returns the key that Unbound is to know."""
        lines = [f"{name}. 60 IN {rdtype} {rdata}" for (name, rdtype), each in records.items() for rdata in each]
        text = "\n".join([f"{ORIGIN}. 60 IN SOA {_SOA}", f"{ORIGIN}. 60 IN NS ns.{ORIGIN}.", *lines, ""])
        zone = dns.zone.from_text(text, origin=ORIGIN, relativize=False)
        key, other = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
        known, used = (
            dns.dnssec.make_dnskey(each.public_key(), "ECDSAP256SHA256")
            for each in (key, other if self._forged else key)
        )
        dns.dnssec.sign_zone(zone, keys=[(other if self._forged else key, used)], lifetime=86400)
        zone.to_file(str(self._folder / "zone"), relativize=False)
        return f"{ORIGIN}. DNSKEY {known.to_text()}"

    def _answers(self) -> bool:
        question = dns.message.make_query("nowhere.invalid.", "A")
        try:
            return bool(dns.query.udp(question, "127.0.0.1", timeout=0.5, port=self._port).id)
        except (dns.exception.Timeout, OSError):
            return False

    def stop(self) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait(10)
