"""docs/check.md: its example is what the program prints, and each check has its section."""

from __future__ import annotations

import io
import re
import textwrap
from pathlib import Path

from rich.console import Console

from relay.check.run import CHECKS, run
from relay.cli.check_view import show
from tests.check.sites import IPV6, green, pointer, site, txt

PAGE = (Path(__file__).parents[2] / "docs" / "check.md").read_text()


def test_each_check_has_its_section() -> None:
    assert set(CHECKS) <= set(re.findall(r"^### ([\w-]+)$", PAGE, re.MULTILINE))


async def test_the_example_is_what_is_printed(tmp_path: Path) -> None:
    zone = green() | {
        ("fwd.example", "TXT"): txt("v=spf1 ip4:198.51.100.7 -all"),
        (pointer(IPV6), "PTR"): ["host5.isp.test"],
        ("host5.isp.test", "AAAA"): [IPV6],
    }
    findings = await run(site(tmp_path, zone), ["spf", "dkim", "dmarc", "mx", "ptr", "address"])
    out = io.StringIO()
    show(findings, Console(file=out))
    assert textwrap.indent(out.getvalue(), "    ") in PAGE
