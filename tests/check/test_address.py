"""The address records of the host name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from relay.check.finding import Finding
from relay.check.run import run
from relay.dns import DnsFailure
from tests.check.sites import HOST, IPV4, IPV6, OTHER, Zone, green, levels, site

ONLY_IPV4 = [{"address": "0.0.0.0:25"}]


async def findings_with(folder: Path, changes: Zone, **options: Any) -> list[Finding]:
    return await run(site(folder, green() | changes, **options), ["address"])


async def test_all_is_well(tmp_path: Path) -> None:
    assert levels(await findings_with(tmp_path, {})) == [(HOST, "ok")]


@pytest.mark.parametrize(
    ("changes", "options", "level", "said"),
    [
        ({(HOST, "A"): [], (HOST, "AAAA"): []}, {}, "error", "no address"),
        ({(HOST, "A"): [OTHER]}, {}, "error", f"DNS has {OTHER}"),
        ({(HOST, "A"): [IPV4, OTHER]}, {}, "warning", f"DNS has {OTHER}"),
        ({(HOST, "AAAA"): []}, {}, "warning", f"mail leaves from {IPV6}"),
        ({}, {"listen": ONLY_IPV4}, "warning", "nothing listens"),
        ({(HOST, "CNAME"): ["host.isp.test"]}, {}, "warning", "CNAME of host.isp.test"),
        ({(HOST, "A"): DnsFailure("SERVFAIL")}, {}, "error", "SERVFAIL"),
        # on loopback and in a private network nothing is replaced on the way
        ({(HOST, "A"): ["127.0.0.14"]}, {"sends_from": ["127.0.0.12"]}, "error", "DNS has 127.0.0.14"),
        ({(HOST, "A"): ["10.0.0.7"]}, {"sends_from": ["10.0.0.5"]}, "error", "DNS has 10.0.0.7"),
    ],
)
async def test_a_fault_is_found(tmp_path: Path, changes: Zone, options: dict[str, Any], level: str, said: str) -> None:
    findings = await findings_with(tmp_path, changes, **options)
    assert {finding.subject for finding in findings} == {HOST}
    assert any((finding.level, said in finding.text) == (level, True) and finding.mend for finding in findings), (
        findings
    )


async def test_the_records_to_publish_have_the_addresses_of_the_host(tmp_path: Path) -> None:
    [finding] = await findings_with(tmp_path, {(HOST, "A"): [], (HOST, "AAAA"): []})
    assert finding.mend.split("\n")[1:] == [f"{HOST}. 3600 IN A {IPV4}", f"{HOST}. 3600 IN AAAA {IPV6}"]


@pytest.mark.parametrize(
    ("changes", "options"),
    [
        # behind a NAT, and behind a proxy, the world sees addresses that this host does not have
        ({(HOST, "A"): [OTHER], (HOST, "AAAA"): []}, {"sends_from": ["10.0.0.5"]}),
        ({(HOST, "A"): [OTHER], (HOST, "AAAA"): []}, {"sends_from": []}),
        ({(HOST, "A"): [OTHER]}, {"sends_from": ["10.0.0.5"]}),
        (
            {(HOST, "A"): [OTHER, IPV4], (HOST, "AAAA"): []},
            {"listen": [{"address": "10.0.0.5:25", "proxy_protocol": True}], "sends_from": [IPV4]},
        ),
        # mail comes in at another address than it leaves from
        (
            {(HOST, "A"): [IPV4, "203.0.113.6"], (HOST, "AAAA"): []},
            {"sends_from": [IPV4], "listen": [{"address": "203.0.113.6:25"}]},
        ),
        # a relayhost for the own network takes no mail from outside
        ({}, {"listen": [{"address": "127.0.0.1:2525"}]}),
        # the smarthost, not this host, is seen by others
        ({(HOST, "AAAA"): []}, {"delivery": {"smarthost": {"url": "smtp://smtp.provider.example"}}}),
        ({(HOST, "AAAA"): []}, {"sends_from": [IPV4], "listen": ONLY_IPV4}),
    ],
)
async def test_honest_hosts_are_left_alone(tmp_path: Path, changes: Zone, options: dict[str, Any]) -> None:
    assert levels(await findings_with(tmp_path, changes, **options)) == [(HOST, "ok")]
