"""Options that several commands share, so that they are called and explained the same everywhere."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

ConfigFile = Annotated[
    Path | None,
    typer.Option(
        "--config",
        "-c",
        metavar="FILE",
        envvar="SRS_RELAY_CONFIG",
        dir_okay=False,
        readable=False,
        help="The configuration; without it, the RELAY_… variables of the environment alone.",
    ),
]
