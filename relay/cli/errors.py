"""The exception of a command that cannot do what was asked; `relay.cli.run` prints its text on stderr."""

from __future__ import annotations


class CommandFailed(Exception):
    """The command failed for a reason that its text says in one line; the exit status is 1."""
