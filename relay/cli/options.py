"""Options that several commands share, so that they are called and explained the same everywhere."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from relay.config.search import find_config

_HELP = (
    "The configuration. Without it: the RELAY_… variables of the environment; if there are none, "
    "/etc/srs-relay/relay.toml; or else /var/lib/srs-relay/relay.toml."
)
_OPTION: dict[str, Any] = {
    "metavar": "FILE",
    "envvar": "SRS_RELAY_CONFIG",
    "dir_okay": False,
    "readable": False,
    "help": _HELP,
}


def _found(context: typer.Context, given: Path | None) -> Path | None:
    """The file that a command works with, as `find_config` has it."""
    return given if context.resilient_parsing else find_config(given)  # completion of words reads no configuration


ConfigFile = Annotated[Path | None, typer.Option("--config", "-c", callback=_found, **_OPTION)]
GivenConfigFile = Annotated[Path | None, typer.Option("--config", "-c", **_OPTION)]
"""The file that was named, for a command that may do without one; `find_config` finds it where it may not."""
