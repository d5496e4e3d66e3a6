"""The DNS lists that the configuration asks, as `check` finds them."""

from __future__ import annotations

from pathlib import Path

import pytest

from relay.check import configured_lists
from relay.dns import DnsFailure
from tests.check.sites import Zone, green, only, site

LISTS = {
    "dnsbl": [{"zone": "bl.test"}, {"zone": "dbl.test", "names": True}, {"zone": "bl.test", "answers": ["127.0.0.2"]}],
    "dnswl": [{"zone": "wl.test"}],
}
WHOLE: Zone = {
    ("2.0.0.127.bl.test", "A"): ["127.0.0.2"],
    ("2.0.0.127.wl.test", "A"): ["127.0.10.1"],
    ("test.dbl.test", "A"): ["127.0.1.2"],
}


async def test_without_lists_nothing_is_found(tmp_path: Path) -> None:
    assert await configured_lists.findings(site(tmp_path, green())) == []


async def test_whole_lists_are_found_once_each(tmp_path: Path) -> None:
    findings = await configured_lists.findings(site(tmp_path, green() | WHOLE, clients=LISTS))
    assert [(each.subject, each.level) for each in findings] == [
        ("bl.test", "ok"),
        ("dbl.test", "ok"),
        ("wl.test", "ok"),
    ]


@pytest.mark.parametrize(
    ("more", "subject", "level", "words"),
    [
        ({("1.0.0.127.bl.test", "A"): ["127.0.0.2"]}, "bl.test", "error", "lists everything"),
        ({("2.0.0.127.bl.test", "A"): ["127.255.255.254"]}, "bl.test", "error", "refuses our resolver"),
        ({("1.0.0.127.wl.test", "A"): DnsFailure("timeout")}, "wl.test", "error", "no answer"),
        ({("invalid.dbl.test", "A"): ["127.0.1.2"]}, "dbl.test", "error", "lists everything"),
        ({("2.0.0.127.bl.test", "A"): ["203.0.113.9"]}, "bl.test", "error", "203.0.113.9"),
        ({("test.dbl.test", "A"): []}, "dbl.test", "warning", "does not list test"),
    ],
)
async def test_faults(tmp_path: Path, more: Zone, subject: str, level: str, words: str) -> None:
    finding = only(await configured_lists.findings(site(tmp_path, green() | WHOLE | more, clients=LISTS)), subject)
    assert finding.level == level and words in finding.text and finding.mend
