"""Questions that checks have in common."""

from __future__ import annotations

import asyncio

import pytest

from relay.check import look_ups
from relay.check.finding import Finding
from relay.check.look_ups import addresses, for_each, texts
from relay.dns import DnsFailure, StaticResolver


async def test_findings_come_in_the_order_of_their_subjects() -> None:
    async def look(subject: int) -> list[Finding]:
        await asyncio.sleep(0.01 if subject == 1 else 0)
        if subject == 2:
            raise DnsFailure("SERVFAIL")
        return [Finding("mx", str(subject), "ok", "")] * subject

    findings = await for_each("mx", [1, 2, 3], look)
    assert [finding.subject for finding in findings] == ["1", "2", "3", "3", "3"]
    assert (findings[1].level, "SERVFAIL" in findings[1].text) == ("error", True)


async def test_a_thousand_domains_do_not_take_a_thousand_sockets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(look_ups, "AT_A_TIME", 3)
    busy, most = 0, 0

    async def look(subject: int) -> list[Finding]:
        nonlocal busy, most
        busy += 1
        most = max(most, busy)
        await asyncio.sleep(0)
        busy -= 1
        return []

    await for_each("mx", range(20), look)
    assert most == 3


async def test_texts_of_one_kind() -> None:
    zone = {("x.example", "TXT"): [(b"v=DM", b"ARC1; p=none"), (b"v=dmarc1",), (b"v=DMARC1\xff",)]}
    assert await texts(StaticResolver(zone), "x.example", "v=DMARC1") == ["v=DMARC1; p=none", "v=DMARC1\xff"]


async def test_addresses_of_both_families() -> None:
    zone = {("x.example", "A"): ["192.0.2.1"], ("x.example", "AAAA"): ["2001:db8::1"]}
    assert await addresses(StaticResolver(zone), "x.example") == ["192.0.2.1", "2001:db8::1"]
