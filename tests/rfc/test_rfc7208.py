"""The published SPF suite against `check`, its zones served over UDP and TCP to the relay's own resolver."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from relay.authenticate.examiner import Examiner
from relay.authenticate.spf import SpfVerdict, check
from relay.config.model import Config
from relay.dns import CachingResolver
from relay.mail.envelope import Client
from relay.metrics import Metrics
from tests.rfc.spf_suite import Case, Scenario, load

DNS_TIMEOUT = 2.0  # seconds: what a scenario's silent names cost, and many times what all its answers take
CONFIG = Config.model_validate(
    {
        "hostname": "mx.fwd.example",
        "listen": [{"address": "127.0.0.1:0"}],
        "srs": {"domain": "fwd.example", "secrets_file": "/dev/null"},
    }
)
AT_ONCE = 4  # scenarios: their waiting overlaps, their answers stay quick


@asynccontextmanager
async def resolving(scenario: Scenario) -> AsyncIterator[CachingResolver]:
    """A resolver that asks a server with the zone of a scenario."""
    server = scenario.server()
    host, port = await server.start()
    resolver = CachingResolver([f"{host}:{port}"], timeout=DNS_TIMEOUT)
    try:
        yield resolver
    finally:
        await resolver.close()
        await server.close()


async def verdicts(scenario: Scenario) -> dict[Case, SpfVerdict]:
    """All cases of a scenario, at once as on a busy server."""
    async with resolving(scenario) as resolver:

        async def verdict(case: Case) -> SpfVerdict:
            return await check(resolver, ip=case.host, helo=case.helo, sender=case.mailfrom, receiver="unknown")

        return dict(zip(scenario.cases, await asyncio.gather(*map(verdict, scenario.cases)), strict=True))


def agrees(case: Case, verdict: SpfVerdict) -> bool:
    return verdict.result in case.results and case.explanation in (None, verdict.explanation)


async def verdicts_from_memory(scenario: Scenario) -> list[tuple[Case, SpfVerdict, SpfVerdict]]:
    """For all cases, twice and beside each other: what a check finds, and what an examiner says that has seen them."""
    async with resolving(scenario) as resolver:
        examiner = Examiner(CONFIG, resolver, Metrics(), ())

        async def verdict(case: Case) -> tuple[Case, SpfVerdict, SpfVerdict]:
            ip, helo, sender = case.host, case.helo, case.mailfrom
            fresh = await check(resolver, ip=ip, helo=helo, sender=sender, receiver=CONFIG.hostname)
            return case, fresh, await examiner.spf(examiner.budget(), Client(ip, 25, helo=helo), sender)

        return [pair for _ in range(2) for pair in await asyncio.gather(*map(verdict, scenario.cases))]


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


@pytest.mark.slow
async def test_what_is_remembered_is_what_a_check_finds() -> None:
    turns = asyncio.Semaphore(AT_ONCE)

    async def in_turn(scenario: Scenario) -> list[tuple[Case, SpfVerdict, SpfVerdict]]:
        async with turns:
            return await verdicts_from_memory(scenario)

    found = await asyncio.gather(*map(in_turn, load()))
    differences = [(case.name, fresh, known) for pairs in found for case, fresh, known in pairs if fresh != known]
    assert not differences
