"""Reads the commands of the command line, with the words of `--help`."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from relay.cli import PROGRAM, application


@dataclass(frozen=True)
class Command:
    """A command.

    Attributes:
        usage: the command with its arguments, as `--help` shows it.
        is_group: it has commands of its own, which follow.
        parameters: each argument and option, with its help.
    """

    name: str
    usage: str
    is_group: bool
    text: str
    parameters: list[tuple[str, str]]


def commands() -> list[Command]:
    """The program itself, and each command and subcommand in the order of the help."""
    return list(_commands(application(), PROGRAM, None))


def _commands(command: Any, name: str, parent: Any) -> Iterator[Command]:
    # Not for a call: nothing is demanded, and no default is read from the environment.
    context = command.make_context(name.rpartition(" ")[2], [], parent=parent, resilient_parsing=True)
    names = command.list_commands(context) if hasattr(command, "list_commands") else []
    records = [record for parameter in command.get_params(context) if (record := parameter.get_help_record(context))]
    usage = " ".join([name, *command.collect_usage_pieces(context)])
    yield Command(name, usage, bool(names), inspect.cleandoc(command.help or ""), records)
    for child in names:
        _, found, _ = command.resolve_command(context, [child])
        yield from _commands(found, f"{name} {child}", context)
