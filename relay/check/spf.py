"""SPF (RFC 7208) of the domains that we send for, and of the host name, which stands for the null sender."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from relay.authenticate import spf
from relay.authenticate.spf import SpfVerdict
from relay.check.domains import sending_domains
from relay.check.finding import Finding
from relay.check.look_ups import addresses, for_each, unanswered
from relay.check.seen_addresses import SeenAddresses, seen_addresses, smarthost
from relay.check.site import Site
from relay.check.spf_record import asks_others, is_spf, merged, passes_everyone
from relay.dns import Answer, DnsFailure, Resolver
from relay.mail.address import normal_domain
from relay.mail.reply import printable
from relay.sign.keys import zone_line

# Addresses that nobody has (RFC 1112 section 4, RFC 6666): whoever lets them pass lets everyone pass, and a record is
# evaluated to its end for them.
NOBODY = {4: "240.0.0.1", 6: "100::1"}
_DOUBT = "whoever else sends for the name must be in it, too"


async def check(site: Site) -> list[Finding]:
    """What SPF says of the addresses that we send from."""
    host = site.config.hostname
    seen = await seen_addresses(site)
    names = [_Name(site, seen, domain) for domain in sending_domains(site)]
    if site.config.takes_mail and host not in sending_domains(site):
        names.append(_Name(site, seen, host, is_host=True))
    return await for_each("spf", names, _Name.findings)


@dataclass(frozen=True, slots=True)
class _Name:
    """A name with an SPF record, and how it is judged."""

    site: Site
    seen: SeenAddresses
    name: str
    is_host: bool = False

    def __str__(self) -> str:
        return self.name

    async def findings(self) -> list[Finding]:
        if self.is_host and (host := smarthost(self.site)):
            return [Finding("spf", self.name, "ok", f"does not count: mail leaves by the smarthost {host}")]
        answer = await self.site.resolver.query(self.name, "TXT")
        records = [text for text in (b"".join(strings).decode("latin-1") for strings in answer.records) if is_spf(text)]
        if not records:
            text = "no SPF record"
            if self.is_host:
                text += "; receivers look for it where the sender is null, as in bounces"
            mend = await self._publish("publish", [])
            return [Finding("spf", self.name, "warning" if self.is_host else "error", text, mend)]
        if len(records) > 1:
            text = f"{len(records)} SPF records, and a name with more than one has none that counts"
            return [Finding("spf", self.name, "error", text, await self._publish("put one in their place", records))]
        findings = await self._faults(records[0])
        if any(finding.level == "error" for finding in findings):
            return findings
        covered = await (self._by_smarthost if smarthost(self.site) else self._coverage)(records[0])
        return [*findings, *(finding for finding in covered if finding.level != "ok" or not findings)]

    async def _faults(self, record: str) -> list[Finding]:
        """What is wrong with the record, whatever addresses we have."""
        versions = {6 if ":" in address.ip else 4 for address in self.seen.known} or {4}
        verdicts = await asyncio.gather(*(self._verdict(NOBODY[version]) for version in sorted(versions)))
        for verdict in verdicts:
            if verdict.result == "temperror":
                return [unanswered("spf", self.name, DnsFailure(verdict.problem))]
            if verdict.result == "permerror":
                problem, mend = verdict.problem, "mend that term, or take it out"
                if "Too many DNS lookups" in problem:
                    problem = "more than 10 of its terms ask DNS (RFC 7208 section 4.6.4)"
                    mend = "put ip4: and ip6: terms in the place of include:, a and mx"
                return [Finding("spf", self.name, "error", f"the record is wrong: {problem}", mend)]
        if any(verdict.result == "pass" for verdict in verdicts):
            what = "+all" if passes_everyone(record) else "a network or an include: that covers every address"
            mend = await self._publish("put in its place", [record])
            return [Finding("spf", self.name, "error", f"everyone may send for the name: the record has {what}", mend)]
        if any(verdict.result in ("neutral", "none") for verdict in verdicts):
            text = "the record says nothing of other hosts (it ends in ?all, or has no end), so that it stops no forger"
            return [Finding("spf", self.name, "warning", text, await self._publish("put in its place", [record]))]
        return []

    async def _coverage(self, record: str) -> list[Finding]:
        """Whether the record lets our addresses pass."""
        verdicts = await asyncio.gather(*(self._verdict(address.ip) for address in self.seen.known))
        groups: dict[tuple[str, str], list[str]] = {}
        for address, verdict in zip(self.seen.known, verdicts, strict=True):
            groups.setdefault((verdict.result, verdict.problem), []).append(str(address))
        passing = groups.pop(("pass", ""), [])
        mend = await self._publish("put in its place", [record]) if groups else ""
        findings = [
            Finding("spf", self.name, "error", f"{result} for {', '.join(ips)}{problem and ': '}{problem}", mend)
            for (result, problem), ips in groups.items()
        ]
        if self.seen.unknown:
            mend = "publish the addresses of the host name, or set delivery.families or delivery.source_ipv4 (…ipv6)"
            findings.append(Finding("spf", self.name, "warning", self.seen.unknown, mend))
        return findings or [Finding("spf", self.name, "ok", f"pass for {', '.join(passing)}")]

    async def _by_smarthost(self, record: str) -> list[Finding]:
        """Whether the record may let the addresses of the smarthost pass, which nobody but its provider knows."""
        host = smarthost(self.site)
        verdicts = [await self._verdict(ip) for ip in await addresses(self.site.resolver, host)]
        text = f"mail leaves by the smarthost {host}, and which addresses that sends from is not seen from here"
        hint = f"the record needs the include: that the provider of {host} names"
        if any(verdict.result == "pass" for verdict in verdicts):
            return [Finding("spf", self.name, "ok", f"pass for the smarthost {host}", hint)]
        return [Finding("spf", self.name, "ok" if asks_others(record) else "warning", text, hint)]

    async def _verdict(self, ip: str, resolver: Resolver | None = None) -> SpfVerdict:
        sender = "" if self.is_host else f"postmaster@{self.name}"
        host = self.site.config.hostname
        helo = self.name if self.is_host else host
        return await spf.check(resolver or self.site.resolver, ip=ip, helo=helo, sender=sender, receiver=host)

    async def _publish(self, verb: str, records: Sequence[str]) -> str:
        """The mend: a record that covers our addresses, with all that the given ones say."""
        if smarthost(self.site) and not records:
            return f"publish an SPF record with the include: that the provider of {smarthost(self.site)} names"
        best = merged(records, await self._uncovered(merged(records, ())))
        if await self._uncovered(best):
            best = merged(records, [address.ip for address in self.seen.known], first=True)
        if not records and not self.seen.known:
            best = "v=spf1 a -all" if self.is_host else "v=spf1 mx -all"
        elif await self._uncovered(best) or await self._lets_everyone_pass(best):
            return "write the record anew, without the terms that do this"
        return f"{verb} ({_DOUBT}):\n{zone_line(self.name, printable(best, 8192))}"

    async def _uncovered(self, record: str) -> list[str]:
        if smarthost(self.site):
            return []
        return [address.ip for address in self.seen.known if (await self._instead(address.ip, record)).result != "pass"]

    async def _lets_everyone_pass(self, record: str) -> bool:
        return (await self._instead(NOBODY[4], record)).result in ("pass", "neutral")

    async def _instead(self, ip: str, record: str) -> SpfVerdict:
        return await self._verdict(ip, _Instead(self.site.resolver, self.name, record))


@dataclass(frozen=True, slots=True)
class _Instead:
    """DNS as it would be with another TXT record."""

    resolver: Resolver
    name: str
    record: str

    async def query(self, name: str, rdtype: str) -> Answer:
        if rdtype == "TXT" and normal_domain(name) == self.name:
            return Answer(((self.record.encode("latin-1"),),))
        return await self.resolver.query(name, rdtype)
