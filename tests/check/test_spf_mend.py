"""The SPF record to publish: what it keeps, and what it leaves out."""

from __future__ import annotations

from pathlib import Path

import pytest

from relay.check.seen_addresses import seen_addresses
from relay.check.spf_mend import record_to_publish, too_wide
from relay.check.spf_name import SpfName
from tests.check.sites import IPV4, IPV6, Zone, green, site, txt

ZONE: Zone = green() | {
    ("open.example", "TXT"): txt("v=spf1 +all"),
    ("good.example", "TXT"): txt("v=spf1 ip4:198.51.100.1 -all"),
}


@pytest.mark.parametrize(
    ("record", "published"),
    [
        ("v=spf1 include:good.example -all", f"v=spf1 include:good.example ip4:{IPV4} ip6:{IPV6} -all"),
        ("v=spf1 include:open.example mx -all", "v=spf1 mx ~all"),
        ("v=spf1 mx ip4:0.0.0.0/0 ?include:good.example -all", "v=spf1 mx ?include:good.example ~all"),
        ("v=spf1 redirect=open.example", f"v=spf1 ip4:{IPV4} ip6:{IPV6} ~all"),
    ],
)
async def test_terms_that_let_everyone_pass_go_and_others_stay(tmp_path: Path, record: str, published: str) -> None:
    here = site(tmp_path, ZONE)
    mend = await record_to_publish(SpfName(here, "fwd.example"), (await seen_addresses(here)).ips, "publish", [record])
    assert mend.splitlines()[1] == f'fwd.example. 3600 IN TXT "{published}"'


async def test_terms_that_are_too_wide_are_named(tmp_path: Path) -> None:
    name = SpfName(site(tmp_path, ZONE), "fwd.example")
    record = "v=spf1 mx include:open.example include:good.example ip4:198.51.100.0/24 ip6:2000::/3 ip4:0.0.0.0/2 +all"
    assert await too_wide(name, record) == ["include:open.example", "ip6:2000::/3", "ip4:0.0.0.0/2"]
