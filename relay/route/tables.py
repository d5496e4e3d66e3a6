"""The tables of [routes]: read before any worker starts, and read again by every process when a file changes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from relay.config.sections import RoutesSection
from relay.route.alias_file import parse_toml, parse_virtual
from relay.route.alias_table import AliasTable
from relay.route.domain_routes import DomainUsers, parse_recipients
from relay.table_files.reloaded_file import ReloadedFile


@dataclass(frozen=True, slots=True)
class Tables:
    """The content of the files.

    Attributes:
        aliases: from `routes.aliases`; None without that key.
        recipients: the users by domain, where a route names a file of them.
    """

    aliases: ReloadedFile[AliasTable] | None
    recipients: Mapping[str, ReloadedFile[DomainUsers]]

    @property
    def files(self) -> tuple[ReloadedFile[Any], ...]:
        """All files, for `relay.table_files.reloaded_file.follow`."""
        return (*([self.aliases] if self.aliases is not None else ()), *self.recipients.values())

    @property
    def bad_lines(self) -> Mapping[str, int]:
        """How many lines of each file cannot be used, by its path."""
        counts = dict[str, int]()
        for file in self.files:
            path = str(file.path)
            counts[path] = max(counts.get(path, 0), len(file.value.bad.lines))  # domains may share a file
        return counts


def read_tables(routes: RoutesSection, local_domains: Sequence[str]) -> Tables:
    """Read the tables; the aliases are TOML where the name ends in `.toml`, otherwise virtual(5).

    Args:
        local_domains: see `parse_virtual`.

    Raises:
        OSError: a file cannot be read.
        ValueError: not one line of a file can be read; the text names file and line.
    """
    path = routes.aliases
    aliases = None
    if path is not None:
        parse = parse_toml if path.suffix == ".toml" else parse_virtual
        aliases = ReloadedFile(path, partial(parse, local_domains=local_domains))
    recipients = {
        domain: ReloadedFile(Path(route.recipients), partial(parse_recipients, domain=domain))
        for domain, route in routes.domains.items()
        if route.recipients not in ("callout", "any")
    }
    return Tables(aliases, recipients)
