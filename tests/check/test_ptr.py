"""The names of the addresses that we send from."""

from __future__ import annotations

import ipaddress
from pathlib import Path

import pytest

from relay.check import ptr
from relay.check.ptr import names_its_address
from relay.dns import DnsFailure
from tests.check.sites import HOST, IPV4, IPV6, Zone, green, levels, only, pointer, site

MORE: Zone = {
    ("other.fwd.example", "A"): [IPV4],
    ("wrong.fwd.example", "A"): ["203.0.113.99"],
}


async def test_all_is_well(tmp_path: Path) -> None:
    assert levels(await ptr.check(site(tmp_path, green()))) == [(IPV4, "ok"), (IPV6, "ok")]


@pytest.mark.parametrize(
    ("names", "level", "said"),
    [
        ([], "error", "no PTR record"),
        (["wrong.fwd.example"], "error", "wrong.fwd.example"),
        (["nowhere.fwd.example"], "error", "does not lead back"),
        (["other.fwd.example"], "warning", "not to the name in our EHLO"),
        (["other.fwd.example", HOST], "ok", HOST),
    ],
)
async def test_a_fault_is_found(tmp_path: Path, names: list[str], level: str, said: str) -> None:
    zone = green() | MORE | {(pointer(IPV4), "PTR"): names}
    findings = await ptr.check(site(tmp_path, zone))
    finding = only(findings, IPV4)
    assert (finding.level, said in finding.text) == (level, True), finding
    assert only(findings, IPV6).level == "ok"
    if level != "ok":
        assert f"5.113.0.203.in-addr.arpa. 3600 IN PTR {HOST}." in finding.mend.split("\n")


async def test_a_host_name_without_the_address(tmp_path: Path) -> None:
    zone = green() | {(HOST, "A"): ["203.0.113.99"]}
    finding = only(await ptr.check(site(tmp_path, zone)), IPV4)
    assert finding.level == "error" and f"{HOST}. 3600 IN A {IPV4}" in finding.mend


async def test_a_name_of_a_line(tmp_path: Path) -> None:
    name = "host-203-0-113-5.isp.test"
    zone: Zone = {(name, "A"): [IPV4], (pointer(IPV4), "PTR"): [name]}
    findings = await ptr.check(site(tmp_path, zone, hostname=name, sends_from=[IPV4]))
    assert levels(findings) == [(IPV4, "warning")]
    assert "customer" in findings[0].text


@pytest.mark.parametrize(
    ("name", "ip", "named"),
    [
        ("203-0-113-5.isp.test", IPV4, True),
        ("5.113.0.203.dyn.isp.test", IPV4, True),
        ("ip203.000.113.005.isp.test", IPV4, True),
        ("cb007105.isp.test", IPV4, True),
        ("mx5.fwd.example", IPV4, False),
        ("mx.203.fwd.example", IPV4, False),
        ("20010db8000000000000000000000005.isp.test", IPV6, True),
        ("2001-0db8-0000-0000-0000-0000-0000-0005.isp.test", IPV6, True),
        ("5.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.isp.test", IPV6, True),
        ("mx.fwd.example", IPV6, False),
    ],
)
def test_names_with_their_address_in_them(name: str, ip: str, named: bool) -> None:
    assert names_its_address(name, ipaddress.ip_address(ip)) == named


async def test_behind_a_nat_and_behind_a_smarthost(tmp_path: Path) -> None:
    assert levels(await ptr.check(site(tmp_path, green(), sends_from=["10.0.0.5"]))) == [(IPV4, "ok")]
    zone = {key: value for key, value in green().items() if key[1] != "A"}
    assert levels(await ptr.check(site(tmp_path, zone, sends_from=["10.0.0.5"]))) == [(HOST, "warning")]
    smarthost = {"smarthost": {"url": "smtp://smtp.provider.example:587"}}
    assert levels(await ptr.check(site(tmp_path, {}, delivery=smarthost))) == [(HOST, "ok")]


async def test_no_answer(tmp_path: Path) -> None:
    zone: Zone = green() | {(pointer(IPV4), "PTR"): DnsFailure("SERVFAIL")}
    assert levels(await ptr.check(site(tmp_path, zone))) == [(IPV4, "error"), (IPV6, "ok")]
