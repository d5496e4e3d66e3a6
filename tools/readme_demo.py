"""`python -m tools.readme_demo` puts the output of a real `srs-relay demo` into README.md; `--check` compares them.

Hashes, times, queue ids and sizes differ with every run, so they do not count in the comparison.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from difflib import unified_diff
from pathlib import Path

README = Path(__file__).parents[1] / "README.md"

_BLOCK = re.compile(r"(It prints:\n\n```\n)(.*?)(```\n)", re.DOTALL)
_DAYS, _MONTHS = "Mon|Tue|Wed|Thu|Fri|Sat|Sun", "Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec"
_CHANGING = (
    (re.compile(r"SRS0=[\w+/-]{8}=[A-Z2-7]{2}="), "SRS0=HHHHHHHH=TT="),
    (re.compile(r"\b(bh?)=\"?[\w+/]+=*\"?"), r"\1=VALUE"),
    (re.compile(r"\b[0-9a-f]{32}\b"), "HOST-HASH"),
    (re.compile(r"\b[0-9A-Z]{12}\b"), "QUEUE-ID"),
    (re.compile(rf"\b(?:{_DAYS})\b"), "DAY"),
    (re.compile(rf"\b(?:{_MONTHS})\b"), "MONTH"),
    (re.compile(r"\d"), "0"),
)


def main(arguments: list[str]) -> int:
    """Writes or checks the block; the exit status."""
    text, output = README.read_text(encoding="utf-8"), run()
    differences = list(unified_diff(comparable(block(text)), comparable(output), "README.md", "demo", lineterm=""))
    if not differences:
        return 0
    if arguments:
        print("README.md does not show what `srs-relay demo` prints: `python -m tools.readme_demo` writes it")
        print(*differences, sep="\n")
        return 1
    README.write_text(_BLOCK.sub(lambda match: match[1] + output + match[3], text), encoding="utf-8")
    print("written: README.md")
    return 0


def run() -> str:
    """The output of a demo on a terminal of 80 columns, without the spaces at the ends of lines."""
    command = [sys.executable, "-m", "relay", "demo"]
    environ = os.environ | {"COLUMNS": "80"}
    output = subprocess.run(command, env=environ, capture_output=True, check=True, encoding="utf-8", timeout=60).stdout
    return "".join(f"{line.rstrip()}\n" for line in output.splitlines())


def block(readme: str) -> str:
    """The output of the demo as README has it.

    Raises:
        ValueError: there is none.
    """
    match = _BLOCK.search(readme)
    if match is None:
        raise ValueError("README.md has no output of the demo")
    return match[2]


def comparable(output: str) -> list[str]:
    """Its lines, with each row of a table in one, and without what differs with every run."""
    text = "\n".join(_rows(output))
    for pattern, constant in _CHANGING:
        text = pattern.sub(constant, text)
    return text.splitlines()


def _rows(output: str) -> Iterator[str]:
    """The lines, where those of one row are joined: a value that is quoted is wrapped otherwise."""
    row: list[str] = []
    for line in output.splitlines():
        cells = [" ".join(cell.split()) for cell in line.split("│")[1:-1]]
        if row and cells and not cells[0]:
            row = [f"{cell} {more}".strip() for cell, more in zip(row, cells, strict=True)]
            continue
        if row:
            yield " │ ".join(row)
        row = cells
        if not cells:
            yield line
    if row:
        yield " │ ".join(row)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
