"""DANE (RFC 7672): the TLSA records of our mail hosts against the certificate that the listeners show."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from dataclasses import dataclass

from cryptography import x509

from relay.check.domains import receiving_domains
from relay.check.finding import Finding
from relay.check.here import find_places, reached_from_outside
from relay.check.look_ups import for_each, results
from relay.check.mail_hosts import mail_hosts
from relay.check.site import Site
from relay.dns import Answer, DnsFailure, Tlsa
from relay.transport_security.dane import match
from relay.transport_security.tlsa import data, is_usable, text


async def check(site: Site) -> list[Finding]:
    """Whether senders that follow DANE can deliver to us."""
    if site.config.tls is None and not reached_from_outside(site):
        text = "not looked at: only this host reaches us, and senders see the certificate of the server in front"
        return [Finding("dane", site.config.hostname, "ok", text)]
    chain: tuple[x509.Certificate, ...] = ()
    problem = ""
    if site.config.tls is not None:
        certificate = site.config.tls.pairs[0].certificate
        try:
            chain = tuple(x509.load_pem_x509_certificates(certificate.read_bytes()))
        except (OSError, ValueError) as error:
            problem = f"{certificate} cannot be read: {error}"

    async def look(host: str) -> list[Finding]:
        return await _Host(site, host, chain, problem).findings()

    return await for_each("dane", await _own_hosts(site), look)


async def _own_hosts(site: Site) -> list[str]:
    """The host name, and every other name by which MX records lead here, as far as DNS answers."""
    hosts = [site.config.hostname]
    try:
        places = await find_places(site)
    except DnsFailure:
        return hosts

    async def names(domain: str) -> list[str]:
        try:
            found = await mail_hosts(site.resolver, places, domain)
        except DnsFailure:
            return []
        return [host.name for host in found.hosts if host.place == "here"]

    hosts += [name for found in await results(receiving_domains(site), names) for name in found]
    return list(dict.fromkeys(hosts))


@dataclass(frozen=True, slots=True)
class _Host:
    """A name of this host, and the certificate that is shown there."""

    site: Site
    host: str
    chain: Sequence[x509.Certificate]
    problem: str

    async def findings(self) -> list[Finding]:
        answer = await self.site.resolver.query(self._name, "TLSA")
        if not answer.records:
            return [Finding("dane", self.host, "ok", "no TLSA record", self._hint(answer))]
        if self.problem or not self.chain:
            text = f"there are TLSA records, and no certificate: {self.problem or 'there is no [tls]'}"
            mend = f"configure the certificate in [tls], or remove the TLSA records of {self._name}"
            return [Finding("dane", self.host, "error", text, mend)]
        return self._judged(answer)

    @property
    def _name(self) -> str:
        return f"_25._tcp.{self.host}"

    def _judged(self, answer: Answer) -> list[Finding]:
        records: list[Tlsa] = list(answer.records)
        now = datetime.datetime.fromtimestamp(self.site.now, datetime.UTC)
        matching = [record for record in records if match(record, self.chain, self.host, now) == "matches"]
        useless = [record for record in records if not is_usable(record)]
        found = []
        if not matching and len(useless) < len(records):
            differing = ", ".join(_short(record) for record in records if record not in useless)
            what = "no TLSA record fits our certificate, so that senders that follow DANE do not deliver"
            found.append(Finding("dane", self.host, "error", f"{what}: {differing}", f"publish\n{self._line()}"))
        if useless:
            which = ", ".join(map(_short, useless))
            what = f"useless for mail (RFC 7672 section 3.1.3 has usages 2 and 3 only): {which}"
            mend = f"put in their place\n{self._line()}" if not matching else "remove it"
            found.append(Finding("dane", self.host, "warning", what, mend))
        if not answer.secure:
            what = "the TLSA records are not signed, or the resolver does not validate: unsigned ones count for nobody"
            mend = "sign the zone with DNSSEC; `srs-relay check --only dnssec,resolver` says more"
            found.append(Finding("dane", self.host, "warning", what, mend))
        return found or [Finding("dane", self.host, "ok", f"{', '.join(map(_short, matching))} fits our certificate")]

    def _hint(self, answer: Answer) -> str:
        if not self.chain:
            return "with a certificate in [tls] and DNSSEC, senders can verify it by a TLSA record"
        needs = "" if answer.secure else "once the zone is signed with DNSSEC, "
        return f"{needs}senders verify our certificate by this record, which changes with its key\n{self._line()}"

    def _line(self) -> str:
        return f"{self._name}. 3600 IN TLSA {text(Tlsa(3, 1, 1, data(self.chain[0], 1, 1)))}"


def _short(record: Tlsa) -> str:
    """A record for a sentence: its numbers, and the beginning of its data."""
    return f"{record.usage} {record.selector} {record.matching} {record.data.hex()[:12]}…"
