"""Writes what users read about the commands: man/srs-relay.1 and docs/commands.md."""

from __future__ import annotations

import re

from tools.reference import roff
from tools.reference.commands import Command, commands

ENVIRONMENT = {
    "SRS_RELAY_CONFIG": "The configuration file, in place of `--config`.",
    "RELAY_…": "Keys of the configuration, see relay.toml(5). Without `--config` they are the whole configuration.",
    "PYTHONDEVMODE": "With the value 1 an unforeseen error shows where it happened.",
}
EXIT = {"0": "It worked.", "1": "It failed; the last lines on stderr say why.", "2": "The call was wrong."}


def command_manual() -> str:
    """The text of srs-relay(1)."""
    program, *others = commands()
    lines = roff.heading("srs-relay", 1, program.text.partition("\n")[0].rstrip(".").removeprefix("A "))
    lines += [".SH SYNOPSIS", roff.bold(program.name) + roff.escape(program.usage.removeprefix(program.name))]
    lines += [".SH DESCRIPTION", *roff.paragraphs(program.text), ".SH OPTIONS", *_parameters(program)]
    lines.append(".SH COMMANDS")
    for command in others:
        lines += [f".SS {roff.escape(command.usage)}", *roff.paragraphs(command.text), *_parameters(command)]
    for title, entries in (("ENVIRONMENT", ENVIRONMENT), ("EXIT STATUS", EXIT)):
        lines.append(f".SH {title}")
        for name, text in entries.items():
            lines += [".TP", roff.bold(name), roff.prose(text)]
    lines += [".SH SEE ALSO", "\\fBrelay.toml\\fR(5)"]
    return "\n".join(lines) + "\n"


def _parameters(command: Command) -> list[str]:
    lines = []
    for name, text in command.parameters:
        if "--help" not in name or " " not in command.name:
            lines += [".TP", roff.bold(name), roff.prose(text)]
    return lines


def command_page() -> str:
    """The text of docs/commands.md."""
    program, *others = commands()
    blocks = [
        "<!-- Generated from the program: `make reference` writes it. -->",
        "# Commands",
        "`--help` of each command prints what is here. srs-relay(1) is this page as a manual page.",
        _block(program),
    ]
    for command in others:
        depth = "##" if command.name.count(" ") == 1 else "###"
        blocks += [f"{depth} `{command.name}`", _block(command)]
    for title, entries in (("Environment", ENVIRONMENT), ("Exit status", EXIT)):
        rows = "\n".join(f"| `{name}` | {text} |" for name, text in entries.items())
        blocks += [f"## {title}", f"| | |\n|---|---|\n{rows}"]
    return "\n\n".join(blocks) + "\n"


def _block(command: Command) -> str:
    parts = [f"    {command.usage}", _escaped(command.text)]
    rows = [
        f"| `{_cell(name)}` | {_cell(_escaped(text))} |"
        for name, text in command.parameters
        if "--help" not in name or " " not in command.name
    ]
    if rows:
        parts.append("\n".join(["| option | meaning |", "|---|---|", *rows]))
    return "\n\n".join(parts)


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _escaped(text: str) -> str:
    """Text as Markdown; code between backticks stays as it is."""
    pieces = re.split(r"(`[^`]+`)", text)
    return "".join(piece if piece.startswith("`") else re.sub(r"([<*\[])", r"\\\1", piece) for piece in pieces)
