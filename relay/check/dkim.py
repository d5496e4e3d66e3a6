"""DKIM: whether DNS has the record of each key that signs, is going to sign, or has signed mail still on its way."""

from __future__ import annotations

from datetime import UTC, datetime

from relay.authenticate import public_key
from relay.authenticate.public_key import Records
from relay.check.finding import Finding, Level
from relay.check.look_ups import unanswered
from relay.check.site import Site
from relay.dns import DnsFailure
from relay.mail.tag_list import Unverified
from relay.sign.keys import SigningKey, zone_line
from relay.sign.published_key import Published, compare
from relay.sign.rotation import record_needed_until
from relay.sign.signing_table import AUTHORS_DOMAIN

RSA_BITS = 2048  # RFC 8301 section 3.2: signers should use 2048 at least
OLD = 366 * 86400.0  # seconds; M3AAWG asks for a new key twice a year, and one that is never changed gets stolen unseen


async def check(site: Site) -> list[Finding]:
    """What DNS has of our keys."""
    keys = site.files.signer.keys
    if not keys:
        text = "there is no DKIM key, so that mail leaves unsigned"
        mend = "`srs-relay keys new` makes one"
        return [Finding("dkim", site.config.srs.domain, "warning", text, mend)]
    named = [key for key in keys if key.domain != AUTHORS_DOMAIN]
    needed = [key for key in named if site.now < record_needed_until(key, site.config.queue.retry_for)]
    records = await public_key.look_up(site.resolver, [key.record_name for key in needed])
    findings = [finding for key in needed for finding in _findings(site, key, records[key.record_name])]
    if not any(key.state(site.now) == "active" for key in keys):
        text = "no DKIM key is active, so that mail leaves unsigned"
        findings.append(Finding("dkim", site.config.srs.domain, "warning", text, "see `srs-relay keys list`"))
    for key in keys:
        if key.domain == AUTHORS_DOMAIN:
            text = "its record is in the domain of each author, and is not looked at"
            findings.append(Finding("dkim", key.record_name, "ok", text))
    return findings


def _findings(site: Site, key: SigningKey, records: Records) -> list[Finding]:
    state, published = key.state(site.now), compare(key, records)
    line = zone_line(key.record_name, key.public_record())
    if isinstance(records, DnsFailure):
        return [unanswered("dkim", key.record_name, records)]
    if published.state != "matches":
        level: Level = "error" if state == "active" else "warning"
        verb = "publish" if published.state == "missing" else "let there be this record alone"
        return [Finding("dkim", key.record_name, level, _difference(site, key, published), f"{verb}\n{line}")]
    found = []
    if "y" in _flags(key, records[0]):
        text = "the record has t=y, which says that DKIM is only tested here"
        found.append(Finding("dkim", key.record_name, "warning", text, f"put in its place\n{line}"))
    if key.algorithm == "rsa-sha256" and key.bits < RSA_BITS:
        text = f"the key has {key.bits} bits; some receivers ignore RSA keys under {RSA_BITS}"
        mend = f"`srs-relay keys rotate --domain {key.domain}` makes a longer one"
        found.append(Finding("dkim", key.record_name, "warning", text, mend))
    if state == "active" and (age := site.now - _made(site, key)) > OLD:
        text = f"the key is {age / 86400:.0f} days old"
        mend = f"`srs-relay keys rotate --domain {key.domain}` makes the next one"
        found.append(Finding("dkim", key.record_name, "warning", text, mend))
    return found or [Finding("dkim", key.record_name, "ok", "DNS has the key")]


def _difference(site: Site, key: SigningKey, published: Published) -> str:
    problem = f": {published.problem}" if published.problem else ""
    what = {
        "missing": "DNS has no record of it",
        "differs": f"the record in DNS does not fit the key{problem}",
        "revoked": "the record in DNS says that the key is revoked (p= is empty)",
    }.get(published.state, published.state)
    state = key.state(site.now)
    if state == "waiting":
        return f"{what}; the key signs from {datetime.fromtimestamp(key.active_from, UTC):%Y-%m-%d %H:%M} UTC on"
    return what if state == "active" else f"{what}, and mail that it signed may still be on its way"


def _flags(key: SigningKey, record: str) -> frozenset[str]:
    try:
        return public_key.parse_record(record, key.algorithm).flags
    except Unverified:
        return frozenset()


def _made(site: Site, key: SigningKey) -> float:
    """When the key began to sign, in seconds since 1970, as far as the configuration or its file say; else now."""
    for entry in site.config.dkim:
        if (entry.domain, entry.selector) == (key.domain, key.selector):
            if entry.active_from is not None:
                return entry.active_from.timestamp()
            try:
                return entry.private_key.stat().st_mtime
            except OSError:
                break
    return site.now
