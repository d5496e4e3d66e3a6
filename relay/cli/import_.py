"""`srs-relay import`: prints the configuration of another program as one of ours, or writes it into a folder.

The configuration goes to stdout, what people should know of it to stderr. Nothing of the other program is changed.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Annotated

import typer

from relay import log as logging
from relay.cli.errors import CommandFailed
from relay.importer import folder, text
from relay.importer.draft import Draft, ImportFailed

READERS = {  # the modules that read a program's configuration
    "postsrsd": "relay.importer.postsrsd",
    "opendkim": "relay.importer.opendkim",
    "opendmarc": "relay.importer.opendmarc",
    "policyd-spf": "relay.importer.policyd_spf",
    "postfix": "relay.importer.postfix",
}


def import_(
    program: Annotated[str, typer.Argument(metavar="PROGRAM", help=f"{', '.join(READERS)}.")],
    path: Annotated[
        Path,
        typer.Argument(
            metavar="PATH", help="Its configuration: file or folder; for postfix also `postconf -n`, - for stdin."
        ),
    ],
    write: Annotated[
        Path | None,
        typer.Option("--write", metavar="DIR", file_okay=False, help="Write relay.toml and its files there."),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace relay.toml; the other files stay.")] = False,
) -> None:
    """Print the configuration of another program as one of ours.

    Each key has its origin above it; keys to fill in are comments; what has no counterpart is at the end.
    """
    logging.configure("json", "error", sys.stderr)  # what a table's reader warns of is in the draft
    if program not in READERS:
        raise typer.BadParameter(f"{program!r} is none of {', '.join(READERS)}", param_hint="PROGRAM")
    read: Callable[[Path], Draft] = import_module(READERS[program]).read
    try:
        draft = read(path if str(path) == "-" else path.absolute())
        folder.ask_for_missing(draft)
        written = folder.write(draft, write, force=force) if write is not None else None
    except ImportFailed as error:
        raise CommandFailed(str(error)) from None
    if written is None:
        print(text.config_text(draft), end="")
    else:
        print(f"wrote {', '.join(map(str, written.files))}", file=sys.stderr)
        for original, copy in written.copies:
            print(
                f"{copy} is a copy of {original}, which our user may not read: changes there do not reach it",
                file=sys.stderr,
            )
    for line in text.summary(draft):
        print(line, file=sys.stderr)
