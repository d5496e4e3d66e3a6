"""DNSSEC of our names."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from relay.check import dnssec
from relay.check.finding import Finding
from relay.dns import CachingResolver
from tests.check.name_servers import Refusing, Validating, running
from tests.check.sites import HOST, green, levels, site


async def asked(folder: Path, server: str) -> list[Finding]:
    resolver = CachingResolver([server], timeout=1.0)
    here = site(folder, {}, dns={"nameservers": [server], "timeout": "1s"})
    try:
        return await dnssec.check(replace(here, resolver=resolver))
    finally:
        await resolver.close()


async def test_signed_and_unsigned_names_are_good(tmp_path: Path) -> None:
    signed = await dnssec.check(site(tmp_path, green()))
    assert levels(signed) == [("fwd.example", "ok"), (HOST, "ok")]
    assert not signed[0].mend
    unsigned = await dnssec.check(site(tmp_path, green(), secure=False))
    assert levels(unsigned) == levels(signed)
    assert unsigned[0].mend


async def test_wrong_signatures_are_told_from_no_answer(tmp_path: Path) -> None:
    async with running(Validating(bogus=("fwd.example",))) as server:
        findings = await asked(tmp_path, server)
    assert levels(findings) == [("fwd.example", "error"), (HOST, "ok")]
    assert "signatures of the zone are wrong" in findings[0].text
    async with running(Refusing()) as server:
        findings = await asked(tmp_path, server)
    assert levels(findings) == [("fwd.example", "error"), (HOST, "error")]
    assert "no answer" in findings[0].text
