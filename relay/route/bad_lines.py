"""Lines of a table that cannot be used: each is named and counted, and costs nobody but whom it was for.

What such a line says is not known, so nothing is made of it: neither that its address does not exist (a bounce, for
good) nor that the catch-all has it (somebody else's mail). Whoever writes to it is asked to come again, until the line
is mended.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import structlog

from relay.mail.address import is_domain, normal_domain
from relay.mail.reply import Refused

log = structlog.get_logger()

NAMED = 20  # lines of one file that the log names; of a file that is no table at all the number says enough


class BadLine(NamedTuple):
    """One line: where it stands (file and number, in TOML file and key), what is wrong, what becomes of its mail."""

    where: str
    problem: str
    effect: str


@dataclass(frozen=True, slots=True)
class BadLines:
    """Those of one file.

    Attributes:
        lines: all of them, in their order.
        domains: for addresses of which there are lines whose address cannot be read; empty text for a line whose domain
            cannot be read either.
    """

    lines: Sequence[BadLine] = ()
    domains: frozenset[str] = frozenset()

    def hide(self, domain: str) -> bool:
        """Whether one of them may have been for an unknown user of this domain."""
        return domain in self.domains or "" in self.domains

    def report(self, source: str) -> None:
        """Name them in the log."""
        for line in self.lines[:NAMED]:
            log.warning("table_line_bad", at=line.where, problem=line.problem, effect=line.effect)
        if len(self.lines) > NAMED:
            log.warning("table_lines_bad", path=source, lines=len(self.lines), named=NAMED)


NONE = BadLines()


def readable_domain(entry: str) -> str:
    """The normal domain at the end of an address that cannot be read itself; empty where there is none."""
    _, at, domain = entry.rpartition("@")
    return normal_domain(domain) if at and is_domain(domain) and is_utf8(domain) else ""


def is_utf8(text: str) -> bool:
    """Whether the text of a file was UTF-8: `ReloadedFile` keeps other octets as lone surrogates (PEP 383)."""
    return text.isascii() or text == text.encode(errors="ignore").decode()


def shown(text: str) -> str:
    """Such text for a person: octets that are no UTF-8 as `\\xe9`."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


class TryLater(Refused):
    """The refusal of an address that a bad line is for, or may be for: 451 4.3.5 (RFC 3463 section 3.4)."""

    def __init__(self, address: str) -> None:
        super().__init__(451, "4.3.5", f"<{address}>: the table of addresses here has a bad line, try again later")
