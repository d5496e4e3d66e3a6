"""SPF (RFC 7208) of the domains that we send for, and of the host name, which stands for the null sender."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from relay.authenticate.spf import SpfVerdict
from relay.authenticate.spf_evaluation import FOUND_NOTHING
from relay.check.domains import sending_domains
from relay.check.finding import Finding
from relay.check.leaving import smarthosts
from relay.check.look_ups import addresses, for_each, unanswered
from relay.check.seen_addresses import SeenAddress, SeenAddresses, seen_addresses, smarthost
from relay.check.site import Site
from relay.check.spf_mend import NOBODY, record_to_publish, too_wide
from relay.check.spf_name import SpfName
from relay.check.spf_record import asks_others, is_spf, passes_everyone, resembles_spf
from relay.dns import DnsFailure
from relay.mail.reply import printable


async def check(site: Site) -> list[Finding]:
    """What SPF says of the addresses that we send from."""
    host = site.config.hostname
    seen = await seen_addresses(site)
    names = [SpfName(site, domain) for domain in sending_domains(site)]
    if site.config.takes_mail:
        says_host = smarthost(site) or site.config.delivery.smarthost is None
        in_ehlo = dict.fromkeys([*([host] if says_host else []), *(address.helo for address in seen.known)])
        names += [SpfName(site, name, is_host=True) for name in in_ehlo if name not in sending_domains(site)]

    async def look(name: SpfName) -> list[Finding]:
        return await _Judge(name, seen).findings()

    return await for_each("spf", names, look)


@dataclass(frozen=True, slots=True)
class _Judge:
    """Judges the record of a name.

    Attributes:
        seen: the addresses that we send from.
    """

    name: SpfName
    seen: SeenAddresses

    async def findings(self) -> list[Finding]:
        site, is_host = self.name.site, self.name.is_host
        if is_host and (host := smarthost(site)):
            return [Finding("spf", str(self.name), "ok", f"does not count: mail leaves by the smarthost {host}")]
        answer = await site.resolver.query(self.name.name, "TXT")
        texts = [b"".join(strings).decode("latin-1") for strings in answer.records]
        records = list(filter(is_spf, texts))
        if not records:
            text = "no SPF record"
            if is_host:
                text += "; receivers look for it where the sender is null, as in bounces"
            if meant := list(filter(resembles_spf, texts)):
                text += f"; a record has to begin with v=spf1 and a space, and this does not: {printable(meant[0], 80)}"
            mend = await self._publish("publish", [])
            return [Finding("spf", str(self.name), "warning" if is_host else "error", text, mend)]
        if len(records) > 1:
            text = f"{len(records)} SPF records, and a name with more than one has none that counts"
            return [
                Finding("spf", str(self.name), "error", text, await self._publish("put one in their place", records))
            ]
        findings = await self._faults(records[0])
        if any(finding.level == "error" for finding in findings):
            return findings
        covered = [] if smarthost(site) else await self._coverage(records[0])
        for host in () if is_host else smarthosts(site.config):
            covered += await self._by_smarthost(host, records[0])
        return [*findings, *(finding for finding in covered if finding.level != "ok" or not findings)]

    async def _faults(self, record: str) -> list[Finding]:
        """What is wrong with the record, whatever addresses we have."""
        name = str(self.name)
        verdicts = await asyncio.gather(*(self.name.verdict(ip) for ip in NOBODY))
        for verdict in verdicts:
            if verdict.result == "temperror":
                return [unanswered("spf", name, DnsFailure(verdict.problem))]
        if wrong := _is_wrong(verdicts):
            problem, mend = wrong.problem, "mend that term, or take it out"
            if "Too many DNS lookups" in problem:
                problem = "more than 10 of its terms ask DNS (RFC 7208 section 4.6.4)"
                mend = "put ip4: and ip6: terms in the place of include:, a and mx"
            return [Finding("spf", name, "error", f"the record is wrong: {problem}", mend)]
        if any(verdict.result == "pass" for verdict in verdicts):
            terms = ["+all"] if passes_everyone(record) else []
            terms += await too_wide(self.name, record)
            text = f"everyone, or nearly everyone, may send for the name: the record has {' '.join(terms)}"
            return [Finding("spf", name, "error", text, await self._publish("put in its place", [record]))]
        if any(verdict.result in ("neutral", "none") for verdict in verdicts):
            text = "the record says nothing of other hosts (it ends in ?all, or has no end), so that it stops no forger"
            return [Finding("spf", name, "warning", text, await self._publish("put in its place", [record]))]
        return []

    async def _coverage(self, record: str) -> list[Finding]:
        """Whether the record lets our addresses pass."""
        name = str(self.name)
        seen = self._addresses()
        verdicts = await asyncio.gather(*(self.name.verdict(address.ip) for address in seen))
        groups: dict[tuple[str, str], list[str]] = {}
        judged = list(zip(seen, verdicts, strict=True))
        for address, verdict in judged:
            groups.setdefault((verdict.result, verdict.problem), []).append(str(address))
        passing = groups.pop(("pass", ""), [])
        mend = await self._publish("put in its place", [record]) if groups else ""
        mend += _other_family({address.ip: verdict.result == "pass" for address, verdict in judged})
        findings = [
            Finding("spf", name, "error", f"{result} for {', '.join(ips)}{problem and ': '}{problem}", mend)
            for (result, problem), ips in groups.items()
        ]
        if self.seen.unknown:
            mend = "publish the addresses of the host name, or set delivery.families or delivery.source_ipv4 (…ipv6)"
            findings.append(Finding("spf", name, "warning", self.seen.unknown, mend))
        return findings or [Finding("spf", name, "ok", f"pass for {', '.join(passing)}")]

    def _addresses(self) -> list[SeenAddress]:
        """The addresses that the name sends from, each once; a name in EHLO has its own."""
        own = [address for address in self.seen.known if not self.name.is_host or address.helo == self.name.name]
        return list({address.ip: address for address in own}.values())

    async def _by_smarthost(self, host: str, record: str) -> list[Finding]:
        """Whether the record may let the addresses of a smarthost pass, which nobody but its provider knows."""
        name = str(self.name)
        verdicts = [await self.name.verdict(ip) for ip in await addresses(self.name.site.resolver, host)]
        text = f"mail leaves by the smarthost {host}, and which addresses that sends from is not seen from here"
        hint = f"the record needs the include: that the provider of {host} names"
        if any(verdict.result == "pass" for verdict in verdicts):
            return [Finding("spf", name, "ok", f"pass for the smarthost {host}", hint)]
        return [Finding("spf", name, "ok" if asks_others(record) else "warning", text, hint)]

    async def _publish(self, verb: str, records: Sequence[str]) -> str:
        ips = [address.ip for address in self._addresses()]
        return await record_to_publish(self.name, ips, verb, records)


def _is_wrong(verdicts: Sequence[SpfVerdict]) -> SpfVerdict | None:
    """The verdict that says that a record cannot be evaluated; None where it can.

    Names that have no AAAA record are void for a client with IPv6, and no fault of the record (RFC 7208 section 4.6.4).
    Void terms are a fault only where they are void for all.
    """
    wrong = [verdict for verdict in verdicts if verdict.result == "permerror"]
    if len(wrong) < len(verdicts):
        wrong = [verdict for verdict in wrong if FOUND_NOTHING not in verdict.problem]
    return wrong[0] if wrong else None


def _other_family(passing: Mapping[str, bool]) -> str:
    """How to stop using a family of which no address passes, where all addresses of the other one do.

    Args:
        passing: whether an address passes.
    """
    passes = {
        family: [passed for ip, passed in passing.items() if (":" in ip) == (family == "IPv6")]
        for family in ("IPv4", "IPv6")
    }
    for good, bad in (("IPv4", "IPv6"), ("IPv6", "IPv4")):
        if passes[good] and all(passes[good]) and passes[bad] and not any(passes[bad]):
            return f'\nor, if mail is not to leave by {bad}, set delivery.families = ["{good.lower()}"]'
    return ""
