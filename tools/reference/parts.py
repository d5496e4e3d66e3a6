"""Writes the parts of hand-written pages that the program says: between two comments that name the part."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from pathlib import Path

from relay.cli.init_files import SELECTOR, Site
from relay.cli.record_view import zone
from relay.cli.records import Group, Names, Record, groups
from tools.reference.examples import EXAMPLES

ROOT = Path(__file__).parents[2]
ADDRESS = "203.0.113.5"
PAGES = tuple(f"docs/{name}.md" for name in EXAMPLES)
_PART = re.compile(
    r"(<!-- records of (\S+): `make reference` writes them -->\n).*?(<!-- end of records -->)", re.DOTALL
)


def pages() -> dict[str, Callable[[], str]]:
    """The pages with such parts, each with the function that makes its text."""
    return {name: partial(_page, ROOT / name) for name in PAGES}


def _page(path: Path) -> str:
    """The text of a page, its parts as the program says them."""
    text, count = _PART.subn(lambda part: f"{part[1]}\n{records(EXAMPLES[part[2]])}\n\n{part[3]}", _text(path))
    if not count:
        raise ValueError(f"{path} has no part of the program: see {__name__}")
    return text


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def records(site: Site) -> str:
    """What `init` prints for a site, as code in Markdown; the key is shortened."""
    names = Names(site.hostname, site.srs_domain, (site.domain,), (site.domain,))
    keys = tuple(
        Record(f"{SELECTOR}._domainkey.{domain}", "TXT", "v=DKIM1; k=rsa; p=MIIB...") for domain in site.signing_domains
    )
    lines = zone(groups(names, [ADDRESS], Group("dkim", ("The public half of each DKIM key (RFC 6376).",), keys)))
    return "\n".join(f"    {line}" for line in lines)
