"""A page of the documentation as its reader follows it: commands and files, section by section."""

from __future__ import annotations

import re
from pathlib import Path

DOCS = Path(__file__).parents[2] / "docs"


def blocks(page: str, *headings: str) -> list[str]:
    """The indented blocks below a heading, given with those above it, up to the next heading of any depth.

    Raises:
        ValueError: there is no such heading.
    """
    text = (DOCS / page).read_text(encoding="utf-8")
    for depth, heading in enumerate(headings, 2):
        _, found, text = text.partition(f"\n{'#' * depth} {heading}\n")
        if not found:
            raise ValueError(f"{page} has no heading {heading}")
        text = re.split(rf"\n#{{2,{depth}}} ", text)[0]
    return _blocks(re.split(r"\n#+ ", text)[0])


def all_blocks(page: str, before: str = "") -> list[str]:
    """The indented blocks of a page: of all of it, or of what stands before a section."""
    text = (DOCS / page).read_text(encoding="utf-8")
    return _blocks(text.partition(f"\n## {before}\n")[0] if before else text)


def _blocks(text: str) -> list[str]:
    found = re.findall(r"(?:^|\n\n)((?:    .*\n|\n(?=    ))+)", text + "\n")
    return ["\n".join(line[4:] for line in block.strip("\n").split("\n")) + "\n" for block in found]


def file_of(block: str) -> str:
    """The path of the file that a block shows, from the comment on top; empty for commands."""
    match = re.match(r"# (/\S+)\n", block)
    return match[1] if match else ""
