"""Running the checks: side by side, in their order, and whatever happens in one of them."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import get_args

import pytest

from relay.check import run as runner
from relay.check.finding import CheckName, Finding
from relay.check.run import CHECKS, Check, run
from relay.check.site import Site
from relay.dns import DnsFailure
from tests.check.sites import HOST, IPV4, green, site

NAMES = list(get_args(CheckName))
# The checks that look at the configuration and `Site.resolver` alone; `resolver` asks the name servers themselves.
OF_DNS: list[CheckName] = [
    *("spf", "dkim", "dmarc", "mx", "ptr", "address"),
    *("mta-sts", "tls-rpt", "dane", "dnssec", "dnsbl"),
]


def checks(monkeypatch: pytest.MonkeyPatch, **given: Check) -> None:
    monkeypatch.setattr(runner, "CHECKS", given)


async def fine(site: Site) -> list[Finding]:
    return [Finding("mx", "fwd.example", "ok", "fine")]


async def test_checks_are_in_the_order_in_which_they_are_shown() -> None:
    assert [*CHECKS] == [name for name in NAMES if name in CHECKS]


async def test_the_checks_of_those_names_alone_run_in_their_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    turn = asyncio.Event()

    async def late(site: Site) -> list[Finding]:
        await turn.wait()
        return [Finding("spf", "fwd.example", "ok", "late")]

    async def early(site: Site) -> list[Finding]:
        turn.set()
        return await fine(site)

    checks(monkeypatch, spf=late, mx=early, ptr=fine)
    assert [finding.text for finding in await run(site(tmp_path, {}), ["mx", "spf"])] == ["late", "fine"]


async def test_a_check_that_fails_is_a_finding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def broken(site: Site) -> list[Finding]:
        raise ZeroDivisionError("division by zero\nand more")

    async def unanswered(site: Site) -> list[Finding]:
        raise DnsFailure("fwd.example MX: SERVFAIL")

    checks(monkeypatch, spf=broken, dmarc=unanswered, mx=fine)
    first, second, third = await run(site(tmp_path, {}), ["spf", "dmarc", "mx"])
    assert (first.check, first.subject, first.level) == ("spf", HOST, "error")
    assert first.text == "the check itself failed: ZeroDivisionError: division by zero"
    assert (second.check, second.level, second.text) == (
        "dmarc",
        "error",
        "DNS has no answer: fwd.example MX: SERVFAIL",
    )
    assert third.level == "ok"


async def test_a_check_that_takes_too_long_is_a_finding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def endless(site: Site) -> list[Finding]:
        await asyncio.Event().wait()
        return []

    monkeypatch.setattr(runner, "SECONDS", 0.05)
    checks(monkeypatch, spf=endless, mx=fine)
    first, second = await run(site(tmp_path, {}), ["spf", "mx"])
    assert (first.level, "not finished within 0.05 s" in first.text, second.level) == ("error", True, "ok")


async def test_where_nothing_is_configured_in_dns_every_check_says_something(tmp_path: Path) -> None:
    here = site(tmp_path, {}, dns={"nameservers": ["127.0.0.1:1"], "timeout": "100ms"})
    findings = await run(here, [*OF_DNS, "resolver"])
    assert {finding.check for finding in findings} == {*OF_DNS, "resolver"}
    assert not [finding for finding in findings if "the check itself failed" in finding.text]


async def test_where_all_is_well_every_check_is_green(tmp_path: Path) -> None:
    findings = await run(site(tmp_path, green()), OF_DNS)
    assert {finding.level for finding in findings} == {"ok"}, [each for each in findings if each.level != "ok"]


@pytest.mark.parametrize("fault", [(), ("fwd.example", "MX"), ("fwd.example", "TXT")])
async def test_with_tables_alone_nothing_is_said_of_a_mail_host(tmp_path: Path, fault: tuple[str, ...]) -> None:
    """Postfix has its own name, keys and listeners. The SRS domain has to have SPF for this host, and an MX."""
    zone = {name: records for name, records in green().items() if name[0] in ("fwd.example", "_dmarc.fwd.example")}
    zone["fwd.example", "MX"] = [(10, "postfix.example")]
    zone["postfix.example", "A"] = [IPV4]
    here = site(
        tmp_path,
        {name: records for name, records in zone.items() if name != fault},
        sends_from=[IPV4],
        hostname="hostname.invalid",
        listen=None,
        dkim=None,
        routes=None,
        tables=[{"address": "127.0.0.1:10003"}],
    )
    findings = await run(here, OF_DNS)
    assert {finding.check for finding in findings} == {*OF_DNS}
    assert all(finding.level == "ok" for finding in findings) is not bool(fault), findings
    assert "hostname.invalid" not in str(findings)
