"""What the filter hands to the intake."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Scanned:
    """What the filter makes of a message that it does not refuse. Each text is empty where there is nothing.

    Attributes:
        fields: header fields to put on top.
        held: why it is to be held.
        discarded: why it is to be taken and not delivered.
        doubt: why it is doubtful.
    """

    fields: bytes = b""
    held: str = ""
    discarded: str = ""
    doubt: str = ""


class NoOpinion(Exception):
    """A filter has said nothing that can be used; the text says why."""


class Unreachable(NoOpinion):
    """No connection to a filter came about in time: its host is off, or has too many connections."""
