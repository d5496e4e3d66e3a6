"""Writes the samples into the pages, where these say anything else than the program."""

from __future__ import annotations

import sys

from tools.samples.aliases_run import run_aliases
from tools.samples.demo_run import run_demo
from tools.samples.pages import PAGES, ROOT, replaced, samples


def main() -> None:
    blocks = samples(*run_demo(), run_aliases())
    for name in PAGES:
        path = ROOT / name
        page = path.read_text(encoding="utf-8")
        if (fresh := replaced(page, blocks)) != page:
            path.write_text(fresh, encoding="utf-8")
            sys.stdout.write(f"written: {name}\n")


if __name__ == "__main__":
    main()
