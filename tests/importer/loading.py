"""Fills in an imported configuration, and loads it as the relay would."""

from __future__ import annotations

import re
from pathlib import Path

from relay.config.file import load
from relay.config.model import Config
from relay.importer.draft import Draft
from relay.importer.folder import ask_for_missing
from relay.importer.text import config_text

_OFF = re.compile(r"^#(?=\[|[a-z_0-9]+ = |\]| {4}\")", re.MULTILINE)


def everything(text: str) -> str:
    """The text with every key that is to fill in, or may be, by its example."""
    return _OFF.sub("", text)


def required(text: str) -> str:
    """The text with the keys that have to be filled in, by their examples; those that may be stay away."""
    parts = []
    for part in text.split("\n\n"):  # a table, or a key of the top
        lines, wanted = list[str](), False
        for line in part.split("\n"):
            if line.startswith(("# To fill in:", "# If wanted:", "# From ")):
                wanted = line.startswith("# To fill in:")
            lines.append(_OFF.sub("", line) if wanted else line)
        if lines and any(wanted_key(line) for line in lines):
            lines = [re.sub(r"^#(?=\[)", "", line) for line in lines]
        parts.append("\n".join(lines))
    return "\n\n".join(parts)


def wanted_key(line: str) -> bool:
    """Whether a line sets a key."""
    return re.match(r"[a-z_]+ = ", line) is not None


def loaded(folder: Path, draft: Draft, *, wanted: bool = False) -> Config:
    """The configuration of a draft, filled in, in a folder with the files that it makes.

    Args:
        wanted: also with the keys that may be filled in.
    """
    ask_for_missing(draft)
    for file in draft.new_files:
        (folder / file.name).write_text(file.content)
    return load_text(folder, config_text(draft), wanted=wanted)


def load_text(folder: Path, text: str, *, wanted: bool = False) -> Config:
    """The configuration in a text, filled in."""
    text = everything(text) if wanted else required(text)
    if "hostname = " not in re.sub(r"^#.*", "", text, flags=re.MULTILINE):
        text = f'hostname = "mx.fwd.example"\n{text}'
    if not re.search(r"^\[\[(?:listen|tables)\]\]", text, re.MULTILINE):
        text += '\n[[listen]]\naddress = "127.0.0.1:2525"\n'
    path = folder / "imported.toml"
    path.write_text(text, encoding="utf-8")
    return load(path, {})


def meanings(draft: Draft) -> dict[str, str]:
    """What the draft says of each setting without a counterpart."""
    found: dict[str, str] = {}
    for setting in draft.unmapped:
        found[setting.name] = f"{found.get(setting.name, '')} {setting.meaning}".strip()
    return found
