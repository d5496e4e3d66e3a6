"""Options that take two values and may be repeated, such as `--alias FROM TO`; typer has no such options.

A command of this class declares one as a list of texts, with two words as its metavar. Each text is then both values,
which `split_pair` takes apart.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import typer
from typer.core import TyperCommand

_BETWEEN = "\0"  # no argument has it


class PairsCommand(TyperCommand):
    """A command that joins the two values of such an option before its arguments are read."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if ctx.resilient_parsing:  # words are completed, and the second value may not be there yet
            return super().parse_args(ctx, args)
        names = {
            name
            for parameter in self.params
            if parameter.metavar and len(parameter.metavar.split()) == 2
            for name in parameter.opts
        }
        return super().parse_args(ctx, list(_joined(args, names, ctx)))


def split_pair(text: str) -> tuple[str, str]:
    """The two values of an option."""
    first, _, second = text.partition(_BETWEEN)
    return first, second


def _joined(args: list[str], names: set[str], ctx: Any) -> Iterator[str]:
    rest = iter(args)
    for arg in rest:
        name, equals, value = arg.partition("=")
        if arg == "--":
            yield arg
            yield from rest
        elif name in names:
            first = value if equals else next(rest, "--")
            second = next(rest, "--")
            if first.startswith("--") or second.startswith("--"):
                raise typer.BadParameter("it takes two values, with a blank between them", ctx=ctx, param_hint=name)
            yield f"{name}={first}{_BETWEEN}{second}"
        else:
            yield arg
