"""The published SPF suite against `check`, its zones served over UDP and TCP to the relay's own resolver."""

from __future__ import annotations

import asyncio

import pytest

from relay.authenticate.spf import SpfVerdict, check
from relay.dns import CachingResolver
from tests.rfc.spf_suite import Case, Scenario, load

DNS_TIMEOUT = 2.0  # seconds: what a scenario's silent names cost, and many times what all its answers take
AT_ONCE = 4  # scenarios: their waiting overlaps, their answers stay quick


async def verdicts(scenario: Scenario) -> dict[Case, SpfVerdict]:
    """All cases of a scenario, at once as on a busy server."""
    server = scenario.server()
    host, port = await server.start()
    resolver = CachingResolver([f"{host}:{port}"], timeout=DNS_TIMEOUT)

    async def verdict(case: Case) -> SpfVerdict:
        return await check(resolver, ip=case.host, helo=case.helo, sender=case.mailfrom, receiver="unknown")

    try:
        return dict(zip(scenario.cases, await asyncio.gather(*map(verdict, scenario.cases)), strict=True))
    finally:
        await resolver.close()
        await server.close()


def agrees(case: Case, verdict: SpfVerdict) -> bool:
    return verdict.result in case.results and case.explanation in (None, verdict.explanation)


@pytest.mark.slow
async def test_every_published_case_agrees() -> None:
    scenarios = load()
    assert sum(len(scenario.cases) for scenario in scenarios) == 203
    turns = asyncio.Semaphore(AT_ONCE)

    async def in_turn(scenario: Scenario) -> dict[Case, SpfVerdict]:
        async with turns:
            return await verdicts(scenario)

    found = await asyncio.gather(*map(in_turn, scenarios))
    disagreements = [
        f"{scenario.description}: {case.name}: {verdict} instead of {case.results} {case.explanation or ''}"
        for scenario, results in zip(scenarios, found, strict=True)
        for case, verdict in results.items()
        if not agrees(case, verdict)
    ]
    assert not disagreements, "\n".join(disagreements)
