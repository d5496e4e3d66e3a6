"""The tables of [routes]: read before any worker starts; files are read again by every process when they change."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from relay.config.sections import RoutesSection
from relay.lookup.opened import Opened
from relay.route.alias_file import parse_toml, parse_virtual
from relay.route.alias_table import AliasTable
from relay.route.aliases import Aliases
from relay.route.domain_users import DomainUsers, Users, parse_recipients
from relay.table_files.reloaded_file import ReloadedFile


@dataclass(frozen=True, slots=True)
class Tables:
    """The tables.

    Attributes:
        aliases: from `routes.aliases`; without that key there are none in it.
        recipients: the users by domain, where a route names a table of them.
        opened: the regexp tables and databases among them.
    """

    aliases: Aliases
    recipients: Mapping[str, Users]
    opened: Opened = field(default_factory=Opened)

    @property
    def files(self) -> tuple[ReloadedFile[Any], ...]:
        """The files, for `relay.table_files.reloaded_file.follow`; regexp tables are in `Opened.files`."""
        return (*self.aliases.files, *(file for users in self.recipients.values() for file in users.files))

    @property
    def bad_lines(self) -> Mapping[str, int]:
        """How many lines of each file cannot be used, by its path."""
        counts = dict[str, int]()
        for file in self.files:
            path = str(file.path)
            counts[path] = max(counts.get(path, 0), len(file.value.bad.lines))  # domains may share a file
        return counts


def read_tables(routes: RoutesSection, local_domains: Sequence[str], opened: Opened | None = None) -> Tables:
    """Read the tables.

    Args:
        local_domains: see `parse_virtual`.
        opened: has the regexp tables and databases that are open already.

    Raises:
        OSError: a file cannot be read.
        ValueError: not one line of a file can be read; the text names file and line.
    """
    opened = opened or Opened()
    aliases = Aliases(
        opened.open_all(routes.aliases, partial(_read_aliases, local_domains)),
        frozenset(routes.alias_domains),
        local_domains,
    )
    recipients = {
        domain: Users(opened.open_all(route.recipients, partial(_read_users, domain)))
        for domain, route in routes.domains.items()
        if not isinstance(route.recipients, str)
    }
    return Tables(aliases, recipients, opened)


def _read_aliases(local_domains: Sequence[str], path: Path) -> ReloadedFile[AliasTable]:
    """The aliases of a file, which are TOML where its name ends in `.toml`, otherwise virtual(5)."""
    parse = parse_toml if path.suffix == ".toml" else parse_virtual
    return ReloadedFile(path, partial(parse, local_domains=local_domains))


def _read_users(domain: str, path: Path) -> ReloadedFile[DomainUsers]:
    return ReloadedFile(path, partial(parse_recipients, domain=domain))
