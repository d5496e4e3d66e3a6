"""Writes man/relay.toml.5, the manual page of the configuration file."""

from __future__ import annotations

from collections.abc import Iterator

from tools.reference import roff
from tools.reference.settings import Setting, Table, tables

DESCRIPTION = """\
`srs-relay serve --config FILE` reads a configuration in TOML. `srs-relay init` writes one for a new host.

An unknown key or a bad value stops the relay before it starts. On SIGHUP it keeps the old configuration and says so in
the log.

Durations carry their unit: "500ms", "30s", "5m", "4h", "5d", "2w". Sizes are written like "25MB" (10^6 octets) or
"64KiB" (2^10). Paths are relative to the folder of the file."""
ENVIRONMENT = """\
Every key can be set by an environment variable as well, which then wins over the file: `RELAY_HOSTNAME`, or
`RELAY_SRS__DOMAIN`, with two underscores between table and key. Arrays and tables are JSON:
`RELAY_LISTEN='[{"address": "0.0.0.0:25"}]'`. Without a file the environment alone is the configuration."""


def file_manual() -> str:
    """The text of relay.toml(5)."""
    lines = roff.heading("relay.toml", 5, "configuration of srs-relay")
    lines += [".SH DESCRIPTION", *roff.paragraphs(DESCRIPTION)]
    for table in tables():
        lines += _table(table)
    lines += [".SH ENVIRONMENT", *roff.paragraphs(ENVIRONMENT)]
    lines += [".SH SEE ALSO", "\\fBsrs\\-relay\\fR(1)"]
    return "\n".join(lines) + "\n"


def _table(table: Table) -> Iterator[str]:
    if title := table.title or ("" if table.header else "General"):
        yield f".SH {roff.escape(title.upper())}"
    if table.header:
        yield f".SS {roff.escape(table.header)}"
        yield from roff.paragraphs(table.text)
    for setting in table.settings:
        yield ".TP"
        yield f"{roff.bold(setting.name)} ({roff.escape(_facts(setting))})"
        yield from roff.paragraphs(setting.text)


def _facts(setting: Setting) -> str:
    """The type and the default; a default in words is a part of the description."""
    if setting.required:
        return f"{setting.kind}; required"
    return f"{setting.kind}; default {setting.default}" if setting.default else setting.kind
