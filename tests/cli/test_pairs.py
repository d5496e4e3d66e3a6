"""Options that take two values and may be repeated."""

from __future__ import annotations

from typing import Annotated

import pytest
import typer

from relay.cli.pairs import PairsCommand, split_pair

ARGUMENTS = [
    (["DIR", "--to", "a", "b", "--to", "c d", "e", "--force"], ("DIR", [("a", "b"), ("c d", "e")], "", True)),
    (["--to=a", "b", "DIR", "--name", "n"], ("DIR", [("a", "b")], "n", False)),
    (["--to", "-a", "b", "DIR"], ("DIR", [("-a", "b")], "", False)),
    (["--", "--to"], ("--to", [], "", False)),
    (["DIR"], ("DIR", [], "", False)),
]
SEEN: list[object] = []


def command(
    place: str,
    to: Annotated[list[str] | None, typer.Option(metavar="FROM TO")] = None,
    name: Annotated[str, typer.Option(metavar="NAME")] = "",
    force: Annotated[bool, typer.Option("--force")] = False,
) -> None:
    """Take the arguments."""
    SEEN[:] = [(place, [split_pair(text) for text in to or ()], name, force)]


app = typer.Typer(add_completion=False, rich_markup_mode=None)
app.command(cls=PairsCommand)(command)


@pytest.mark.parametrize(("args", "seen"), ARGUMENTS)
def test_both_values_are_taken_each_time(args: list[str], seen: object) -> None:
    app(args, standalone_mode=False)
    assert [seen] == SEEN


@pytest.mark.parametrize("args", [["DIR", "--to"], ["DIR", "--to", "a"], ["--to", "a", "--force"], ["--to=a"]])
def test_one_value_is_not_enough(args: list[str]) -> None:
    with pytest.raises(typer.BadParameter) as caught:
        app(args, standalone_mode=False)
    assert "two values" in caught.value.format_message() and "--to" in caught.value.format_message()
