"""`python -m tools.reference` writes the generated files; `--check` only names those that differ."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

from tools.reference.command_manual import command_manual, command_page
from tools.reference.commented_file import commented_file
from tools.reference.examples import example_files
from tools.reference.file_manual import file_manual
from tools.reference.page import page
from tools.reference.parts import pages

ROOT = Path(__file__).parents[2]
FILES: dict[str, Callable[[], str]] = {
    "config/relay.toml": commented_file,
    "docs/configuration.md": page,
    "docs/commands.md": command_page,
    "man/relay.toml.5": file_manual,
    "man/srs-relay.1": command_manual,
    **example_files(),
    **pages(),
}


def main(arguments: list[str]) -> int:
    """Writes or checks the files; the exit status."""
    stale = [name for name, text in FILES.items() if not _holds(ROOT / name, text())]
    for name in stale:
        print(f"{name} differs from the program: `make reference` writes it" if arguments else f"written: {name}")
        if not arguments:
            (ROOT / name).parent.mkdir(exist_ok=True)
            (ROOT / name).write_text(FILES[name](), encoding="utf-8")
    return 1 if stale and arguments else 0


def _holds(path: Path, text: str) -> bool:
    return path.exists() and path.read_text(encoding="utf-8") == text


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
