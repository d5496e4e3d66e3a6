"""DMARC (RFC 9989) of the domains that are ours, and whether their reports reach somebody (RFC 9990)."""

from __future__ import annotations

from collections.abc import Sequence

from relay.authenticate.dmarc_policy_discovery import DiscoveredPolicy, discover_policy
from relay.authenticate.dmarc_record import (
    POLICIES,
    RECORD_OCTETS,
    PolicyRecord,
    policy_record,
    policy_tags,
    report_uris,
)
from relay.authenticate.dmarc_tree_walk import Lookups, conclude
from relay.authenticate.organization import same_organization
from relay.check.dmarc_mend import mended, resembles_dmarc
from relay.check.domains import own_domains
from relay.check.finding import Finding
from relay.check.look_ups import for_each
from relay.check.site import Site
from relay.dns import DnsFailure
from relay.mail.reply import printable
from relay.sign.keys import zone_line


async def check(site: Site) -> list[Finding]:
    """What DMARC records say of our domains."""

    async def look(domain: str) -> list[Finding]:
        return await _Domain(site, domain).findings()

    return await for_each("dmarc", own_domains(site), look)


class _Domain:
    """One of our domains."""

    def __init__(self, site: Site, domain: str) -> None:
        self._resolver = site.resolver
        self._domain = domain

    async def findings(self) -> list[Finding]:
        discovered = await conclude(lambda lookups: discover_policy(self._domain, lookups), Lookups(), self._resolver)
        record = discovered.record
        if void := await self._void_records(discovered.record_domain):
            text = (
                f"the record is void (it has to begin with v=DMARC1; and must have no tag twice): {printable(void[0])}"
            )
            if len(void) > 1:
                text = f"{len(void)} DMARC records, and a name with more than one has none that counts"
            return [self._error(text, void)]
        if record is None:
            text = "no DMARC record, so that anybody may use the domain in From"
            mend = "publish (where others send for the domain, begin with p=none)\n"
            return [Finding("dmarc", self._domain, "warning", text, mend + self._line("v=DMARC1; p=reject"))]
        tags = policy_tags(record.text) or {}
        stated = [tags[name].lower() for name in ("p", "sp", "np") if name in tags]
        if "p" not in tags or not set(stated).issubset(POLICIES):
            text = f"the record {self._place(discovered)} has no valid policy (p=, sp=, np=): {record.text}"
            return [self._error(text, [record.text], discovered.record_domain)]
        valid, invalid = report_uris(tags.get("rua", ""))
        found = [self._no_address(uri) for uri in invalid]
        for uri in valid:
            found += await self._reports_to(uri, discovered.record_domain)
        return found or [self._fine(discovered, record, bool(valid))]

    async def _void_records(self, record_domain: str) -> list[str]:
        """The records of the domain itself where none of them counts; empty where one does."""
        if record_domain == self._domain:
            return []
        answer = await self._resolver.query(f"_dmarc.{self._domain}", "TXT")
        records = [b"".join(strings).decode("latin-1") for strings in answer.records]
        return list(filter(resembles_dmarc, records))

    async def _reports_to(self, uri: str, record_domain: str) -> list[Finding]:
        """What keeps aggregate reports from an address of the record."""
        scheme, _, address = uri.partition(":")
        host = address.partition("?")[0].rpartition("@")[2].lower()
        if scheme.lower() != "mailto" or "@" not in address:
            return [self._no_address(uri)]
        try:
            if await self._is_authorised(record_domain, host):
                return []
            text = f"{host} does not say that it takes reports on {record_domain}, so that none are sent"
        except DnsFailure as failure:
            text = f"whether {host} takes reports on {record_domain} is not known: DNS has no answer: {failure}"
        line = zone_line(f"{record_domain}._report._dmarc.{host}", "v=DMARC1")
        return [Finding("dmarc", self._domain, "warning", text, f"whoever has {host} has to publish\n{line}")]

    def _no_address(self, uri: str) -> Finding:
        text = f"rua={uri} is no address that reports are sent to"
        return Finding("dmarc", self._domain, "warning", text, "an address is written rua=mailto:NAME@DOMAIN")

    async def _is_authorised(self, record_domain: str, host: str) -> bool:
        """Whether a host takes the reports on a domain of another organization (RFC 9990 section 4)."""
        if await same_organization(self._resolver, record_domain, host):
            return True
        answer = await self._resolver.query(f"{record_domain}._report._dmarc.{host}", "TXT")
        return policy_record(answer.records) is not None

    def _fine(self, discovered: DiscoveredPolicy, record: PolicyRecord, has_reports: bool) -> Finding:
        policy = discovered.policies[0] if discovered.policies else record.p
        hints = []
        if policy == "none":
            hints.append(
                "p=none stops no forger: go on to quarantine or reject once reports show that your mail passes"
            )
        if record.testing:
            hints.append("t=y: receivers treat forgeries one step milder")
        if not has_reports:
            hints.append("with rua=mailto:NAME@DOMAIN receivers report who sends for the domain")
        return Finding("dmarc", self._domain, "ok", f"p={policy} {self._place(discovered)}", "; ".join(hints))

    def _place(self, discovered: DiscoveredPolicy) -> str:
        return f"at _dmarc.{discovered.record_domain}"

    def _error(self, text: str, records: Sequence[str], record_domain: str = "") -> Finding:
        line = self._line(printable(mended(records), RECORD_OCTETS), record_domain)
        return Finding("dmarc", self._domain, "error", text, f"let there be this record alone\n{line}")

    def _line(self, text: str, record_domain: str = "") -> str:
        return zone_line(f"_dmarc.{record_domain or self._domain}", text)
