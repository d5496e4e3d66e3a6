"""Writes config/relay.toml: every key with its description, its default or an example."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator

from tools.reference.settings import Setting, Table, tables

WIDTH = 120
PREAMBLE = """\
# The configuration of srs-relay: every key there is.
#
# A line that begins with "#" and no space is a setting that is off: it shows the key's default, or an example where
# there is none or the text above it names another. Settings that are on are those you have to look at first.
#
# Paths are relative to the folder of this file. Durations carry their unit: "500ms", "30s", "5m", "4h", "5d", "2w".
# Sizes: "25MB" (10^6 octets), "64KiB" (2^10). An unknown key or a bad value stops the relay before it starts; on SIGHUP
# it keeps the old configuration and says so in the log.
#
# Every key can be set by an environment variable as well, which then wins over this file: RELAY_HOSTNAME,
# RELAY_SRS__DOMAIN (two underscores between table and key), RELAY_LISTEN='[{"address": "0.0.0.0:25"}]' (arrays and
# tables as JSON). Without a file the environment alone is the configuration.
#
# This file is generated from the program: `make reference` writes it.
"""


def commented_file() -> str:
    """The text of config/relay.toml."""
    return PREAMBLE + "\n" + "\n\n".join("\n".join(_table(table)) for table in tables()) + "\n"


def _table(table: Table) -> Iterator[str]:
    if table.title:
        yield f"# --- {table.title} ".ljust(WIDTH, "-")
        yield ""
    if table.header:
        yield from _comment(table.text)
        yield ("" if table.on else "#") + table.header
    for number, setting in enumerate(table.settings):
        if number and not table.header:
            yield ""
        yield from _comment(setting.text)
        yield _line(setting, setting.shown, on=table.on and not setting.default and _is_needed(setting))
    if table.header.startswith("[["):
        for setting in table.settings:
            for example in setting.examples[1:]:
                yield ""
                yield f"#{table.header}"
                yield _line(setting, example, on=False)


def _is_needed(setting: Setting) -> bool:
    return setting.required or setting.path == "hostname"


def _line(setting: Setting, value: str, on: bool) -> str:
    return f"{'' if on else '#'}{setting.name} = {value}"


def _comment(text: str) -> Iterator[str]:
    for number, paragraph in enumerate(text.split("\n\n")):
        if paragraph.startswith("    "):
            yield from (f"# {line}" for line in paragraph.split("\n"))
            continue
        if number and not text.split("\n\n")[number - 1].startswith("    "):
            yield "#"
        yield from textwrap.wrap(
            paragraph,
            WIDTH,
            initial_indent="# ",
            subsequent_indent="# ",
            break_long_words=False,
            break_on_hyphens=False,
        )
