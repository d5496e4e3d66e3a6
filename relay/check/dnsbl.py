"""DNS lists: those that name the addresses that we send from, or the SRS domain, and those that we ask ourselves."""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from relay.check import configured_lists
from relay.check.dns_lists import ADDRESS_LISTS, DOMAIN_LISTS, DnsList
from relay.check.finding import Finding
from relay.check.seen_addresses import seen_addresses, smarthost
from relay.check.site import Site
from relay.dns import DnsFailure, Resolver
from relay.dns_lists.answers import is_answer, is_refusal, is_wrong_question, question
from relay.mail.reply import printable
from relay.sending_addresses import is_private


async def check(site: Site) -> list[Finding]:
    """What the lists say."""
    found = []
    subjects: dict[str, Sequence[DnsList]] = {site.config.srs.domain: DOMAIN_LISTS}
    if host := smarthost(site):
        text = f"does not count: mail leaves by the smarthost {host}"
        found.append(Finding("dnsbl", site.machine, "ok", text))
    else:
        seen = await seen_addresses(site)
        public = (ip for ip in (ipaddress.ip_address(ip) for ip in seen.ips) if not is_private(ip))
        subjects |= {str(ip): [each for each in ADDRESS_LISTS if ip.version == 4 or each.ipv6] for ip in public}
    words = await asyncio.gather(*(_words(site.resolver, subject, lists) for subject, lists in subjects.items()))
    for subject, said in zip(subjects, words, strict=True):
        found += _findings(subject, said)
    refusing = {word.dns_list.zone: None for said in words for word in said if word.state == "refuses"}
    if refusing:
        text = f"{', '.join(refusing)} refuses to answer our resolver, so that nothing is known from there"
        mend = "let dns.nameservers be a resolver of your own: public and large ones are refused"
        found.append(Finding("dnsbl", site.machine, "warning", text, mend))
    return found + await configured_lists.findings(site)


@dataclass(frozen=True, slots=True)
class _Word:
    """What a list says of a subject.

    Attributes:
        state: `silent`: it gives no answer, or one that means nothing; `refuses`: it does not answer our resolver.
        text: what the listing means, and the reason that the list gives.
    """

    dns_list: DnsList
    state: Literal["listed", "clean", "silent", "refuses"]
    text: str = ""


async def _words(resolver: Resolver, subject: str, lists: Sequence[DnsList]) -> list[_Word]:
    return await asyncio.gather(*(_word(resolver, subject, dns_list) for dns_list in lists))


async def _word(resolver: Resolver, subject: str, dns_list: DnsList) -> _Word:
    name = question(dns_list.zone, subject)
    try:
        answers = [str(record) for record in (await resolver.query(name, "A")).records]
        if any(is_refusal(answer) or is_wrong_question(answer) for answer in answers):
            return _Word(dns_list, "refuses")
        meanings = list(dict.fromkeys(dns_list.meaning(answer) for answer in answers if is_answer(answer)))
        if not meanings:
            return _Word(dns_list, "silent" if answers else "clean")
        if (await resolver.query(question(dns_list.zone, dns_list.never), "A")).records:
            return _Word(dns_list, "silent")
    except DnsFailure:
        return _Word(dns_list, "silent")
    reason = await _reason(resolver, name)
    return _Word(dns_list, "listed", "; ".join(meanings) + f" at {dns_list.zone}" + (f": {reason}" if reason else ""))


async def _reason(resolver: Resolver, name: str) -> str:
    """The words of the list about a listing (RFC 5782 section 2.1)."""
    try:
        records = (await resolver.query(name, "TXT")).records
    except DnsFailure:
        return ""
    return printable(" ".join(b"".join(strings).decode("latin-1") for strings in records[:2]), 300)


def _findings(subject: str, words: Sequence[_Word]) -> list[Finding]:
    listings = [
        Finding("dnsbl", subject, word.dns_list.level, word.text, _removal(word.dns_list))
        for word in words
        if word.state == "listed"
    ]
    if listings:
        return listings
    zones = {state: [word.dns_list.zone for word in words if word.state == state] for state in ("clean", "silent")}
    text = f"not listed at {', '.join(zones['clean'])}" if zones["clean"] else "no list says anything"
    if zones["silent"]:
        text += f"; no answer that counts from {', '.join(zones['silent'])}"
    return [Finding("dnsbl", subject, "ok", text)]


def _removal(dns_list: DnsList) -> str:
    return f"find out why, end it, and then ask for removal: {dns_list.delist}"
