"""Writes docs/configuration.md: a page with every key, its type, default, environment variable and description."""

from __future__ import annotations

import re
from collections.abc import Iterator

from tools.reference.settings import Setting, Table, tables

PREAMBLE = """\
<!-- Generated from the program: `make reference` writes it. -->

# Configuration

The relay reads one TOML file, `srs-relay serve --config FILE`. [config/relay.toml](../config/relay.toml) is such a file
with every key and its description; relay.toml(5) is this page as a manual page. `srs-relay init` writes a file for a
new host.

An unknown key or a bad value stops the relay before it starts. On SIGHUP it keeps the old configuration and says so in
the log.

| a value | is written |
|---|---|
| duration | with its unit: `"500ms"`, `"30s"`, `"5m"`, `"4h"`, `"5d"`, `"2w"` |
| size | `"25MB"` (10^6 octets), `"64KiB"` (2^10), or a number of octets |
| date | `2026-07-01`, or `2026-07-01T12:00:00Z` where a time is allowed, in UTC |
| path | relative to the folder of the file |
| URL of a host | `"smtp://host:25"`, `"smtps://host:465"` or `"lmtp://host:24"` |

Every key can be set by an environment variable as well, which then wins over the file: `RELAY_HOSTNAME`, or
`RELAY_SRS__DOMAIN`, with two underscores between table and key. Arrays and tables are JSON:
`RELAY_LISTEN='[{"address": "0.0.0.0:25"}]'`. Without a file the environment alone is the configuration.
"""


def page() -> str:
    """The text of docs/configuration.md."""
    every = tables()
    known = {setting.path for table in every for setting in table.settings}
    blocks = [PREAMBLE.rstrip()]
    for table in every:
        blocks += _table(table, known)
    return "\n\n".join(blocks) + "\n"


def _table(table: Table, known: set[str]) -> Iterator[str]:
    if not table.header:
        yield "## General"
    if table.title:
        yield f"## {table.title}"
    if table.header:
        yield f"### `{table.header}`"
        yield markdown(table.text, known)
    for setting in table.settings:
        yield f"#### `{setting.path}`"
        yield _facts(setting, known)
        yield markdown(setting.description, known)


def _facts(setting: Setting, known: set[str]) -> str:
    if setting.required:
        default = "Required"
    elif setting.default:
        default = f"Default: `{setting.default}`"
    else:
        default = f"Default: {markdown(setting.default_in_words, known - {setting.path})}"
    place = f"in `{setting.variable}`" if setting.in_json else f"`{setting.variable}`"
    kind = markdown(setting.kind[0].upper() + setting.kind[1:], known)
    example = f" Example: `{setting.examples[0]}`." if setting.examples else ""
    return f"{kind}. {default}.{example} Environment: {place}."


def markdown(text: str, known: set[str]) -> str:
    """A description as Markdown, with links to the keys and pages that it names."""
    paragraphs = []
    for paragraph in text.split("\n\n"):
        if paragraph.startswith("    "):
            paragraphs.append(paragraph)
        else:
            pieces = re.split(r"""(`[^`]+`|"[^"\s]+")""", paragraph)
            paragraphs.append("".join(_piece(piece, known) for piece in pieces))
    return "\n\n".join(paragraphs)


def _piece(piece: str, known: set[str]) -> str:
    if piece.startswith("`"):
        return f"[{piece}](#{anchor(piece)})" if piece.strip("`") in known else piece
    if piece.startswith('"') and piece.endswith('"') and " " not in piece:
        return f"`{piece}`"
    escaped = re.sub(r"([<*])", r"\\\1", piece)
    return re.sub(r"docs/([a-z-]+)\.md(#[a-z-]+)?", _page_link, escaped)


def _page_link(match: re.Match[str]) -> str:
    name = match[1].replace("-", " ")
    return f"[{name}]({match[1]}.md{match[2] or ''})"


def anchor(heading: str) -> str:
    """The anchor of a heading, as GitHub and MkDocs make it."""
    return re.sub(r"[^\w -]", "", heading).strip().lower().replace(" ", "-")
