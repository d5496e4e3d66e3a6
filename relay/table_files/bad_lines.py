"""Lines of a table that cannot be used: each is named and counted, and affects only the addresses that it is for.

The address of a bad line counts neither as unknown (its mail would bounce) nor as one of the catch-all (its mail would
go to somebody else). Its mail is deferred until the line is corrected.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from typing import NamedTuple

import structlog

from relay.mail.address import is_domain, normal_domain
from relay.mail.reply import Refused

log = structlog.get_logger()

unsaid: ContextVar[bool] = ContextVar("unsaid", default=False)
"""Whether lines are not named, because another process that reads the same file names them."""

NAMED = 20  # lines of one file that the log names; of the others it gives the number


class BadLine(NamedTuple):
    """One line: its place (file and number, or file and key in TOML), the problem, and the effect on its mail."""

    where: str
    problem: str
    effect: str


@dataclass(frozen=True, slots=True)
class BadLines:
    """The bad lines of one file.

    Attributes:
        lines: in the order of the file.
        domains: the domains of lines whose address cannot be read; empty text where the domain cannot be read either.
    """

    lines: Sequence[BadLine] = ()
    domains: frozenset[str] = frozenset()

    def hide(self, domain: str) -> bool:
        """Whether one of them may be for an unknown user of this domain."""
        return domain in self.domains or "" in self.domains

    def report(self, source: str) -> None:
        """Name the lines in the log, unless they are `unsaid`."""
        if unsaid.get():
            return
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
    """The text for a person: octets that are no UTF-8 as `\\xe9`."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


class TryLater(Refused):
    """The refusal of an address that a bad line is for, or may be for: 451 4.3.5 (RFC 3463 section 3.4)."""

    def __init__(self, address: str) -> None:
        super().__init__(451, "4.3.5", f"<{address}>: the table of addresses here has a bad line, try again later")
