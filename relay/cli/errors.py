"""How a command says that it cannot do what was asked. `relay.cli.run` turns it into the line on stderr."""

from __future__ import annotations


class CommandFailed(Exception):
    """The command failed for a reason that its text says in one line; the exit status is 1."""
