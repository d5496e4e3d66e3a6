"""SPF of a name, with the record of DNS and with another one."""

from __future__ import annotations

from pathlib import Path

from relay.check.spf_name import SpfName
from tests.check.sites import HOST, IPV4, OTHER, green, site


async def test_another_record_takes_the_place_of_those_in_dns(tmp_path: Path) -> None:
    name = SpfName(site(tmp_path, green()), "fwd.example")
    assert [(await name.verdict(ip)).result for ip in (IPV4, OTHER)] == ["pass", "fail"]
    record = f"v=spf1 ip4:{OTHER} ?all"
    assert [(await name.verdict(ip, record)).result for ip in (IPV4, OTHER)] == ["neutral", "pass"]


async def test_the_host_name_stands_for_the_null_sender(tmp_path: Path) -> None:
    verdict = await SpfName(site(tmp_path, green()), HOST, is_host=True).verdict(IPV4)
    assert (verdict.result, verdict.identity, verdict.domain) == ("pass", "helo", HOST)
    verdict = await SpfName(site(tmp_path, green()), "fwd.example").verdict(IPV4)
    assert (verdict.result, verdict.identity, verdict.domain) == ("pass", "mailfrom", "fwd.example")
