"""Unbound as a validating resolver: signed zones whose keys it knows, unsigned names beside them, and no others."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import dns.dnssec
import dns.exception
import dns.message
import dns.name
import dns.query
import dns.rdata
import dns.rdataclass
import dns.rdataset
import dns.rdatatype
import dns.zone
from cryptography.hazmat.primitives.asymmetric import ec

from tests.peers import free_port, program, wait_until

ORIGIN = "fwd.example"
_CONFIG = """\
server:
    do-daemonize: no
    username: ""
    chroot: ""
    directory: "{folder}"
    pidfile: "{folder}/pid"
    use-syslog: no
{interfaces}
    module-config: "validator iterator"
{anchors}
    local-zone: "." static
    local-zone: "in-addr.arpa." static
    local-zone: "113.0.203.in-addr.arpa." static
{records}
{zones}
remote-control:
    control-enable: no
"""
_ZONE = """\
auth-zone:
    name: "{origin}."
    zonefile: "{file}"
    for-downstream: no
    for-upstream: yes
    fallback-enabled: no
"""

Zone = Mapping[tuple[str, str], list[str]]


class ValidatingUnbound:
    """One instance.

    Args:
        zone: {(name, type): [rdata]}; rdata may be `\\# LENGTH HEX` (RFC 3597), whatever the octets are worth.
        signed: the zones that are signed. Names outside of these and of `unsigned` are answered as they stand.
        unsigned: zones that are not, in which CNAMEs are followed.
        forged: the signed zones are signed with another key than the one that Unbound knows.
        bogus: records whose signature is wrong.
        address: where it listens on port 53 too, for programs that know no other port; empty for nowhere.
    """

    def __init__(
        self,
        folder: Path,
        zone: Zone,
        forged: bool = False,
        *,
        signed: Sequence[str] = (ORIGIN,),
        unsigned: Sequence[str] = (),
        bogus: Sequence[tuple[str, str]] = (),
        address: str = "",
    ) -> None:
        self._folder = folder
        self._zone = zone
        self._forged = forged
        self._signed = signed
        self._unsigned = unsigned
        self._bogus = bogus
        self._address = address
        self._port = free_port()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def endpoint(self) -> str:
        return f"127.0.0.1:{self._port}"

    def start(self) -> None:
        """Sign the zones, start, and return when a question is answered."""
        self._folder.mkdir()
        anchors = [self._write(origin) for origin in self._signed]
        for origin in self._unsigned:
            self._plain(origin).to_file(str(self._folder / origin), relativize=False)
        origins = [*self._signed, *self._unsigned]
        outside = {key: each for key, each in self._zone.items() if not any(_is_in(key[0], o) for o in origins)}
        interfaces = [f"127.0.0.1@{self._port}", *([f"{self._address}@53"] if self._address else [])]
        config = self._folder / "unbound.conf"
        config.write_text(
            _CONFIG.format(
                folder=self._folder,
                interfaces=_lines("    interface: {}", interfaces),
                anchors=_lines('    trust-anchor: "{}"', anchors),
                records=_lines('    local-zone: "{}." transparent', origins)
                + "\n"
                + _lines("    local-data: '{}'", (f"{n} {t} {r}" for (n, t), each in outside.items() for r in each)),
                zones="".join(_ZONE.format(origin=o, file=self._folder / o) for o in origins),
            )
        )
        with (self._folder / "log").open("wb") as log:
            self._process = subprocess.Popen([program("unbound"), "-d", "-c", str(config)], stderr=log)
        wait_until(self._answers, "unbound")

    def _plain(self, origin: str) -> dns.zone.Zone:
        zone = dns.zone.Zone(dns.name.from_text(origin), relativize=False)
        soa = f"ns.{origin}. hostmaster.{origin}. 1 3600 900 86400 60"
        records = {(origin, "SOA"): [soa], (origin, "NS"): [f"ns.{origin}."], **self._zone}
        for (name, rdtype), each in records.items():
            if _is_in(name, origin):
                rdataset = zone.find_rdataset(dns.name.from_text(name), rdtype, create=True)
                for text in each:
                    rdataset.add(_rdata(rdtype, text), 60)
        return zone

    def _write(self, origin: str) -> str:
        """Write a signed zone; returns the key that Unbound is to know."""
        zone = self._plain(origin)
        key, other = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
        known, used = (
            dns.dnssec.make_dnskey(each.public_key(), "ECDSAP256SHA256")
            for each in (key, other if self._forged else key)
        )
        dns.dnssec.sign_zone(zone, keys=[(other if self._forged else key, used)], lifetime=86400)
        for name, rdtype in self._bogus:
            if _is_in(name, origin):
                owner = dns.name.from_text(name)
                [right] = zone.find_rdataset(owner, "RRSIG", covers=rdtype)
                zone.replace_rdataset(owner, dns.rdataset.from_rdata(60, right.replace(signature=bytes(64))))
        zone.to_file(str(self._folder / origin), relativize=False)
        return f"{origin}. DNSKEY {known.to_text()}"

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


def _is_in(name: str, origin: str) -> bool:
    return f".{name}".endswith(f".{origin}")


def _lines(form: str, values: Iterator[str] | Sequence[str]) -> str:
    return "\n".join(form.format(value) for value in values)


def _rdata(rdtype: str, text: str) -> dns.rdata.Rdata:
    if text.startswith("\\# "):
        octets = bytes.fromhex(text.split()[2])
        return dns.rdata.GenericRdata(dns.rdataclass.IN, dns.rdatatype.from_text(rdtype), octets)
    return dns.rdata.from_text("IN", rdtype, text, origin=dns.name.root, relativize=False)
