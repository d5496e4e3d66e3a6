"""The access tables of the configuration: those of `clients`, `senders` and `routes`, asked for one mail at a time.

Each table is one file or several sources, and answers for itself alone. What follows from an answer, and in which order
the tables are asked, is decided in `relay.intake.screening`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import structlog

from relay.access.access_file import AccessTable, Match, parse_access
from relay.access.action import BAD_LINE, UNAVAILABLE, Action, parse_action
from relay.access.keys import NULL_SENDER, keys_of_address, keys_of_ip, keys_of_name
from relay.authenticate.iprev import Iprev
from relay.lookup.regexp import RegexpFile
from relay.lookup.source import BadTable, Found, Source, SourceUnavailable
from relay.mail.address import lookup_key, normal_domain
from relay.mail.envelope import Client
from relay.table_files.reloaded_file import ReloadedFile

CLIENTS, SENDERS, RECIPIENTS = "clients.access", "senders.access", "routes.access"
TIME_LIMIT = 30.0  # seconds for all questions to one table about one mail
NO_NAME = "unknown"  # stands for the name of a client that has none, as in Postfix

log = structlog.get_logger()


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


AccessSource = ReloadedFile[AccessTable] | Source


@dataclass(frozen=True, slots=True)
class AccessTables:
    """All access tables; a method returns None where its table says nothing.

    Args:
        tables: by the key of the configuration. Of several sources the first that says something counts.
    """

    _tables: Mapping[str, Sequence[AccessSource]] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self._tables)

    @property
    def files(self) -> tuple[ReloadedFile[Any], ...]:
        """All files of access tables, for `relay.table_files.reloaded_file.follow`."""
        sources = (source for table in self._tables.values() for source in table)
        return tuple({source.path: source for source in sources if isinstance(source, ReloadedFile)}.values())

    @property
    def bad_lines(self) -> Mapping[str, int]:
        """How many lines of each file cannot be used, by its path."""
        return {str(file.path): len(file.value.bad.lines) for file in self.files}

    async def client(self, client: Client, reverse: Callable[[], Awaitable[Iprev | None]]) -> Decision | None:
        """What is said of a client.

        Args:
            reverse: looks for the name of its address; None where the address is not known. A line for names does not
                hold while DNS gives no answer, as in Postfix.
        """
        sources = self._tables.get(CLIENTS, ())
        if not sources or not client.known:
            return None
        asks = any(not isinstance(source, ReloadedFile) or source.value.asks_for_names for source in sources)
        known = await _name(reverse) if asks else ""
        whole = [text for text in (known, client.ip) if text]
        keys = [*keys_of_name(known), *keys_of_ip(client.ip)]
        return await _first(CLIENTS, sources, lambda table: table.client(client.ip, known), whole, keys)

    async def sender(self, sender: str) -> Decision | None:
        """What is said of a sender, which is empty for the null sender."""
        return await self._address(SENDERS, sender)

    async def recipient(self, recipient: str) -> Decision | None:
        """What is said of a recipient as the client has given it."""
        return await self._address(RECIPIENTS, recipient)

    async def _address(self, table: str, address: str) -> Decision | None:
        sources = self._tables.get(table, ())
        if not sources:
            return None
        whole = [lookup_key(address) or NULL_SENDER]
        return await _first(table, sources, lambda file: file.address(address), whole, keys_of_address(address))


async def _first(
    table: str,
    sources: Sequence[AccessSource],
    look_up: Callable[[AccessTable], Match | None],
    whole: Iterable[str],
    keys: Iterable[str],
) -> Decision | None:
    """What the first source says that says anything; each is asked all that it may know, as in Postfix.

    Args:
        look_up: asks a file.
        whole: what regexp tables are asked; parts of a name or an address are nothing to them.
        keys: what databases are asked, one after the other.
    """
    keys = list(keys)
    for source in sources:
        if isinstance(source, ReloadedFile):
            match = look_up(source.value)
        else:
            match = await _asked(source, whole if isinstance(source, RegexpFile) else keys)
        if match is not None and match.action.verb != "DUNNO":
            return Decision(match.action, table, match.key)
    return None


async def _asked(source: Source, keys: Iterable[str]) -> Match | None:
    """What a regexp table or a database says. One that cannot be asked defers the mail that it may be about."""
    try:
        async with asyncio.timeout(TIME_LIMIT):
            for key in keys:
                if (found := await source.get(key)) is not None:
                    return Match(_action(found, key), found.where)
    except BadTable:
        return Match(BAD_LINE, source.name)
    except (SourceUnavailable, TimeoutError):
        return Match(UNAVAILABLE, source.name)
    return None


def _action(found: Found, key: str) -> Action:
    """The action of a value; that of a bad line where it is none, which is named."""
    try:
        return parse_action(found.value)
    except ValueError as error:
        log.warning("table_line_bad", at=found.where, problem=f"{key}: {error}", effect=f"{key} hears 451 4.3.5")
        return BAD_LINE


async def _name(reverse: Callable[[], Awaitable[Iprev | None]]) -> str:
    iprev = await reverse()
    if iprev is None:
        return NO_NAME
    return normal_domain(iprev.name) if iprev.name else "" if iprev.result == "temperror" else NO_NAME


def read_access_file(path: Path) -> ReloadedFile[AccessTable]:
    """Read the file of a table.

    Raises:
        OSError: it cannot be read.
        ValueError: not one line of it can be used; the text names file and line.
    """
    return ReloadedFile(path, parse_access)
