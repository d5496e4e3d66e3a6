"""DNSSEC of our zones: whether the resolver could validate them, and whether they are wrong."""

from __future__ import annotations

from relay.check.domains import sending_domains
from relay.check.finding import Finding
from relay.check.look_ups import for_each, unanswered
from relay.check.site import Site
from relay.dns import CachingResolver, DnsFailure


async def check(site: Site) -> list[Finding]:
    """Whether answers about our names are proven by DNSSEC (RFC 4035)."""

    async def look(name: str) -> list[Finding]:
        return [await _finding(site, name)]

    host = (site.config.hostname,) if site.config.takes_mail else ()
    return await for_each("dnssec", dict.fromkeys((*sending_domains(site), *host)), look)


async def _finding(site: Site, name: str) -> Finding:
    rdtype = "A" if name == site.config.hostname else "MX"
    try:
        answer = await site.resolver.query(name, rdtype)
    except DnsFailure as failure:
        if not await _answers_unvalidated(site, name, rdtype):
            return unanswered("dnssec", name, failure)
        text = "the signatures of the zone are wrong, so that for validating resolvers the name does not exist"
        mend = (
            "sign the zone again, and let the DS record in the zone above fit its key; https://dnsviz.net shows where"
        )
        return Finding("dnssec", name, "error", text, mend)
    if answer.secure:
        return Finding("dnssec", name, "ok", "signed, and the resolver says that the signatures are right")
    hint = "DNSSEC keeps others from forging our records, and DANE needs it"
    return Finding("dnssec", name, "ok", "not signed, or the resolver does not validate", hint)


async def _answers_unvalidated(site: Site, name: str, rdtype: str) -> bool:
    """Whether DNS answers where nothing is validated."""
    resolver = CachingResolver(site.config.dns.nameservers, site.config.dns.timeout, 0, validated=False)
    try:
        await resolver.query(name, rdtype)
    except DnsFailure:
        return False
    finally:
        await resolver.close()
    return True
