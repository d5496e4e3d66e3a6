"""DANE (RFC 7672): the TLSA records of our mail hosts against the certificates that the listeners show."""

from __future__ import annotations

import asyncio
import datetime
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from relay.check.domains import receiving_domains
from relay.check.finding import Finding
from relay.check.here import find_places, reached_from_outside
from relay.check.listener_certificates import ListenerCertificate, read_certificates
from relay.check.look_ups import for_each, results
from relay.check.mail_hosts import mail_hosts
from relay.check.site import Site
from relay.dns import Answer, DnsFailure, Tlsa
from relay.transport_security.dane import match
from relay.transport_security.tlsa import data, is_usable, strongest, text

_HIDDEN = "\nand remove those with SHA-512 that do not fit: beside them SHA-256 does not count (RFC 7671 section 9)"


async def check(site: Site) -> list[Finding]:
    """Whether senders that follow DANE can deliver to us."""
    if site.config.tls is None and not reached_from_outside(site):
        text = "not looked at: only this host reaches us, and senders see the certificate of the server in front"
        return [Finding("dane", site.config.hostname, "ok", text)]
    tls = site.config.tls
    certificates = await asyncio.to_thread(read_certificates, tls) if tls is not None else None

    async def look(host: str) -> list[Finding]:
        shown = certificates.of(host) if certificates is not None else []
        default = certificates.of() if certificates is not None else []
        return await _Host(site, host, shown, [other for other in default if other not in shown]).findings()

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
    """A name of this host.

    Attributes:
        shown: the certificates that a sender may see who asks for the host, one for each kind of key.
        default: those that others see, who do not send the name as RFC 7672 section 8.1 demands.
    """

    site: Site
    host: str
    shown: Sequence[ListenerCertificate]
    default: Sequence[ListenerCertificate]

    async def findings(self) -> list[Finding]:
        answer = await self.site.resolver.query(self._name, "TLSA")
        if not answer.records:
            return [Finding("dane", self.host, "ok", "no TLSA record", self._hint(answer))]
        unread = [f"{certificate.path} cannot be read: {certificate.problem}" for certificate in self._unread()]
        if unread or not self.shown:
            text = f"there are TLSA records, and no certificate: {', '.join(unread) or 'there is no [tls]'}"
            mend = f"configure the certificate in [tls], or remove the TLSA records of {self._name}"
            return [Finding("dane", self.host, "error", text, mend)]
        return self._judged(answer)

    @property
    def _name(self) -> str:
        return f"_25._tcp.{self.host}"

    def _unread(self) -> list[ListenerCertificate]:
        return [certificate for certificate in self.shown if not certificate.chain]

    def _matching(self, certificate: ListenerCertificate, records: Iterable[Tlsa]) -> list[Tlsa]:
        chain = certificate.chain
        now = datetime.datetime.fromtimestamp(self.site.now, datetime.UTC)
        # Senders do not look at a digest beside a stronger one of the same thing, be that right or not.
        return [each for each in strongest(records) if chain and match(each, chain, self.host, now) == "matches"]

    def _judged(self, answer: Answer) -> list[Finding]:
        records: list[Tlsa] = list(answer.records)
        useless = [record for record in records if not is_usable(record)]
        without = [certificate for certificate in self.shown if not self._matching(certificate, records)]
        found = []
        if without and len(useless) < len(records):
            differing = ", ".join(_short(record) for record in strongest(records))
            which = "our certificate" if len(self.shown) == 1 else f"the certificate {without[0].path}"
            what = f"no TLSA record fits {which}, so that senders that follow DANE do not deliver"
            hidden = "" if len(strongest(records)) + len(useless) == len(records) else _HIDDEN
            mend = f"publish\n{self._lines(without)}{hidden}"
            found.append(Finding("dane", self.host, "error", f"{what}: {differing}", mend))
        if useless:
            which = ", ".join(map(_short, useless))
            what = f"useless for mail (RFC 7672 section 3.1.3 has usages 2 and 3 only): {which}"
            mend = f"put in their place\n{self._lines(without)}" if without else "remove it"
            found.append(Finding("dane", self.host, "warning", what, mend))
        if not answer.secure:
            what = "the TLSA records are not signed, or the resolver does not validate: unsigned ones count for nobody"
            mend = "sign the zone with DNSSEC; `srs-relay check --only dnssec,resolver` says more"
            found.append(Finding("dane", self.host, "warning", what, mend))
        others = [certificate for certificate in self.default if not self._matching(certificate, records)]
        if others and not without and len(useless) < len(records):
            what = f"no TLSA record fits {others[0].path}, which senders see that do not name the host (SNI)"
            mend = f"publish also\n{self._lines(others)}" if others[0].chain else "mend that certificate"
            found.append(Finding("dane", self.host, "warning", what, mend))
        if found:
            return found
        fitting = dict.fromkeys(record for each in self.shown for record in self._matching(each, records))
        return [Finding("dane", self.host, "ok", f"{', '.join(map(_short, fitting))} fits our certificate")]

    def _hint(self, answer: Answer) -> str:
        shown = [certificate for certificate in self.shown if certificate.chain]
        if not shown:
            return "with a certificate in [tls] and DNSSEC, senders can verify it by a TLSA record"
        needs = "" if answer.secure else "once the zone is signed with DNSSEC, "
        return f"{needs}senders verify our certificate by this record, which changes with its key\n{self._lines(shown)}"

    def _lines(self, certificates: Iterable[ListenerCertificate]) -> str:
        """The records to publish for certificates."""
        records = (Tlsa(3, 1, 1, data(certificate.chain[0], 1, 1)) for certificate in certificates if certificate.chain)
        return "\n".join(f"{self._name}. 3600 IN TLSA {text(record)}" for record in records)


def _short(record: Tlsa) -> str:
    """A record for a sentence: its numbers, and the beginning of its data."""
    return f"{record.usage} {record.selector} {record.matching} {record.data.hex()[:12]}…"
