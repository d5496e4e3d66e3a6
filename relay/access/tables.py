"""The access tables of the configuration: those of `clients`, `senders` and `routes`, asked for one mail at a time.

Each table answers for itself alone. What follows from an answer, and in which order the tables are asked, is decided in
`relay.intake.screening`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from relay.access.access_file import AccessTable, Match, parse_access
from relay.access.action import Action
from relay.authenticate.iprev import Iprev
from relay.mail.address import normal_domain, split
from relay.mail.envelope import Client
from relay.table_files.reloaded_file import ReloadedFile

CLIENTS, SENDERS, RECIPIENTS = "clients.access", "senders.access", "routes.access"
NO_NAME = "unknown"  # stands for the name of a client that has none, as in Postfix


@dataclass(frozen=True, slots=True)
class Decision:
    """What a table says of a client, a sender or a recipient.

    Attributes:
        table: the key of the configuration that names it.
        key: that of the line, as it is written.
    """

    action: Action
    table: str
    key: str


@dataclass(frozen=True, slots=True)
class AccessTables:
    """All access tables; a method returns None where its table says nothing.

    Args:
        hostname: where `postmaster` alone is a user.
        files: by the key of the configuration.
    """

    _hostname: str = ""
    _files: Mapping[str, ReloadedFile[AccessTable]] = field(default_factory=dict)

    @property
    def files(self) -> tuple[ReloadedFile[Any], ...]:
        """All files, for `relay.table_files.reloaded_file.follow`."""
        return tuple({file.path: file for file in self._files.values()}.values())

    @property
    def bad_lines(self) -> Mapping[str, int]:
        """How many lines of each file cannot be used, by its path."""
        return {str(file.path): len(file.value.bad.lines) for file in self.files}

    async def client(self, client: Client, name: Callable[[], Awaitable[Iprev]]) -> Decision | None:
        """What is said of a client.

        Args:
            name: looks for the confirmed name of its address. A line for names does not hold while DNS gives no
                answer, as in Postfix.
        """
        file = self._files.get(CLIENTS)
        if file is None or not client.known:
            return None
        return _decision(CLIENTS, file.value.client(client.ip, await _name(name) if file.value.asks_for_names else ""))

    async def sender(self, sender: str) -> Decision | None:
        """What is said of a sender, which is empty for the null sender."""
        file = self._files.get(SENDERS)
        return None if file is None else _decision(SENDERS, file.value.address(sender))

    async def recipient(self, recipient: str) -> Decision | None:
        """What is said of a recipient as the client has given it; `postmaster` may stand alone."""
        file = self._files.get(RECIPIENTS)
        if file is None:
            return None
        address = recipient if split(recipient).domain else f"{recipient}@{self._hostname}"
        return _decision(RECIPIENTS, file.value.address(address))


async def _name(look_up: Callable[[], Awaitable[Iprev]]) -> str:
    iprev = await look_up()
    return normal_domain(iprev.name) if iprev.name else "" if iprev.result == "temperror" else NO_NAME


def _decision(table: str, match: Match | None) -> Decision | None:
    """The decision of a match; None where there is none, or the line only ends the search."""
    return None if match is None or match.action.verb == "DUNNO" else Decision(match.action, table, match.key)


def read_access_file(path: Path) -> ReloadedFile[AccessTable]:
    """Read the file of a table.

    Raises:
        OSError: it cannot be read.
        ValueError: not one line of it can be used; the text names file and line.
    """
    return ReloadedFile(path, parse_access)
