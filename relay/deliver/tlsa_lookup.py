"""Finds the TLSA records of mail hosts (RFC 7672 section 2.2), where DNSSEC proves every answer on the way to them.

The answers that led to a host are asked for once more: the resolver has them in its cache.
"""

from __future__ import annotations

from relay.deliver.mx import Host, literal
from relay.deliver.tls_policy import TlsaAnswer, Untrusted
from relay.dns import DnsFailure, Resolver
from relay.mail.address import DOMAIN, normal_domain
from relay.mail.outcome import deferral
from relay.transport_security.tlsa import is_usable

_NONE = TlsaAnswer()


class TlsaLookup:
    """The TLSA records of hosts that mail reaches by MX. `resolver` decides whom it believes about DNSSEC."""

    def __init__(self, resolver: Resolver) -> None:
        self._resolver = resolver

    async def records(self, host: Host) -> TlsaAnswer:
        """The TLSA records of a host; none for a configured one.

        Raises:
            Untrusted: one of the questions has no answer, or DNSSEC proves that it is wrong. Without it nobody can
                tell whether there are records, so the host is passed over (RFC 7672 section 2.1.3).
        """
        if not host.domain or literal(host.domain):
            return _NONE
        try:
            return await self._records(host)
        except DnsFailure as problem:
            text = f"DANE: whether {host.name} has TLSA records cannot be told now: {problem}"
            raise Untrusted(deferral("4.7.5", text), "dnssec-invalid") from problem

    async def _records(self, host: Host) -> TlsaAnswer:
        domain = normal_domain(host.domain)
        mx = await self._resolver.query(domain, "MX")
        if not mx.secure:
            return _NONE
        for base in await self._bases(host):
            answer = await self._resolver.query(f"_{host.port}._tcp.{base}", "TLSA")
            if answer.secure and answer.records:
                usable = tuple(record for record in answer.records if is_usable(record))
                # RFC 7672 section 3.2.2, and RFC 7671 section 7 for the name of the host before its CNAMEs
                names = dict.fromkeys((base, host.name, domain, mx.canonical or domain))
                return TlsaAnswer(usable, base, tuple(names), encrypts=not usable, proven=True)
        return TlsaAnswer(proven=True)

    async def _bases(self, host: Host) -> tuple[str, ...]:
        """The domains that records may be under, in their order (RFC 7672 section 2.2.3).

        Where the addresses are not secure there are none. That spares the question to name servers that are known to
        answer it wrongly, and whose hosts would be lost to us.
        """
        addresses = await self._resolver.query(host.name, "AAAA" if ":" in host.address else "A")
        if addresses.secure:
            return (addresses.canonical, host.name) if DOMAIN.match(addresses.canonical) else (host.name,)
        if addresses.canonical and (await self._resolver.query(host.name, "CNAME")).secure:
            return (host.name,)  # only its CNAME leads out of the signed zone
        return ()
