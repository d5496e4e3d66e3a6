"""The aliases of `[routes]`: files, which are whole in memory, and tables that are asked for one key at a time.

The router decides on an `AliasTable`. That of files is there already; what databases and regexp tables say is collected
first, as far as one address and all that it leads to need it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

import structlog

from relay.lookup.regexp import RegexpFile
from relay.lookup.source import KEY_CHARACTERS, Found, Source, SourceUnavailable
from relay.mail.address import domain_of, lookup_key
from relay.route.alias_entries import AliasEntries, AliasError
from relay.route.alias_table import EXPANSION_LIMIT, NESTING_LIMIT, AliasLoop, AliasTable
from relay.table_files.bad_lines import BadLines
from relay.table_files.reloaded_file import ReloadedFile

TIME_LIMIT = 30.0  # seconds for all questions about one address, however many aliases it goes through
ADDRESSES = EXPANSION_LIMIT + NESTING_LIMIT  # that are looked up for one address

log = structlog.get_logger()

AliasSource = ReloadedFile[AliasTable] | Source


@dataclass(frozen=True, slots=True)
class CollectedTable(AliasTable):
    """What several tables say about some addresses.

    Attributes:
        places: the table or line that has a pattern, for those that are in no file of aliases.
        unlisted: the addresses that a regular expression matches, which names nobody, as a catch-all.
    """

    places: Mapping[str, str] = field(default_factory=dict)
    unlisted: Collection[str] = frozenset()

    def lists(self, address: str) -> bool:
        return AliasTable.lists(self, address) and lookup_key(address) not in self.unlisted


class Aliases:
    """The aliases.

    Args:
        sources: where several have a pattern, the first of them counts.
        domains: that are served besides those in the files.
        local_domains: see `AliasTable`.

    Attributes:
        files: those of the sources that are files of aliases.
        are_listed: whether all of them are, so that nobody has to be asked.
    """

    def __init__(self, sources: Sequence[AliasSource], domains: frozenset[str], local_domains: Sequence[str]) -> None:
        self._sources = sources
        self._domains = domains
        self._local_domains = tuple(local_domains)
        self.files = tuple([source for source in sources if isinstance(source, ReloadedFile)])
        self.are_listed = len(self.files) == len(sources)
        self._is_one_file = len(sources) == 1 and self.are_listed and not domains
        self._read: Sequence[AliasTable] = ()
        self._together = AliasTable({}, domains, frozenset(local_domains))

    @property
    def listed(self) -> AliasTable:
        """What all the files say together, as of now."""
        if self._is_one_file:
            return self.files[0].value
        read = [file.value for file in self.files]
        if len(read) != len(self._read) or any(now is not old for now, old in zip(read, self._read, strict=True)):
            self._together, self._read = _together(read, self._domains, self._local_domains), read
        return self._together

    async def around(self, address: str) -> AliasTable:
        """A table that knows all about an address and the addresses that it leads to.

        Raises:
            SourceUnavailable: one of the tables that may have it cannot be asked now.
            AliasLoop: it leads to too many addresses.
        """
        if self.are_listed:
            return self.listed
        try:
            async with asyncio.timeout(TIME_LIMIT):
                return await self._collected(address)
        except TimeoutError:
            raise SourceUnavailable(f"more than {TIME_LIMIT:.0f} s for the aliases of one address") from None

    async def _collected(self, address: str) -> CollectedTable:
        collecting = _Collecting(self.listed, self._sources, self._local_domains)
        pending, seen = [address], {lookup_key(address)}
        while pending:
            if len(seen) > ADDRESSES:
                raise AliasLoop(f"{address}: aliases lead to each other, or to more than {ADDRESSES} addresses")
            if len(seen) > 1 and any(len(each) > KEY_CHARACTERS for each in pending):
                raise AliasLoop(f"{address}: aliases lead to longer and longer addresses")
            await asyncio.gather(*[collecting.look_up(each) for each in pending])
            targets = [target for each in pending for target in collecting.table.targets(each) or ()]
            pending = list({lookup_key(each): each for each in targets if lookup_key(each) not in seen}.values())
            seen.update(map(lookup_key, pending))
        return collecting.table


class _Collecting:
    """Collects what all sources say about some addresses. `table` has what is known so far."""

    def __init__(self, listed: AliasTable, sources: Sequence[AliasSource], local_domains: tuple[str, ...]) -> None:
        self._sources = sources
        self._local_domains = local_domains
        self._entries = dict[str, tuple[str, ...]]()
        self._partial, self._unlisted = set[str](), set[str]()
        self._closed, self._places = dict[str, str](), dict[str, str]()
        self.table = CollectedTable(
            self._entries,
            listed.domains,
            listed.local_domains,
            listed.bad,
            self._partial,
            self._closed,
            self._places,
            self._unlisted,
        )

    async def look_up(self, address: str) -> None:
        """Look for the patterns of an address, down to the first that a source has. Raises SourceUnavailable.

        Only files are asked about domains that are not served: an expression that matches every address, or a row that
        was left over, takes no mail of other hosts.
        """
        is_served = domain_of(address) in self.table.domains
        for number, (pattern, _) in enumerate(self.table.patterns(address)):
            for source in self._sources:
                if pattern in self._entries:
                    return
                if isinstance(source, ReloadedFile):
                    if pattern in source.value.entries:
                        self._take(pattern, source.value)
                elif not is_served:
                    continue
                elif not isinstance(source, RegexpFile):
                    self._enter(pattern, await source.get(pattern))
                elif number == 0 and (found := await source.get(address)) is not None:
                    self._enter(pattern, found)  # a part of an address is none, though it looks like one: virtual(5)
                    self._unlisted.add(pattern)

    def _enter(self, pattern: str, found: Found | None) -> None:
        if found is not None:
            self._places[pattern] = found.where
            self._take(pattern, _entry(pattern, found, self._local_domains))

    def _take(self, pattern: str, source: AliasTable) -> None:
        self._entries[pattern] = source.entries.get(pattern, ())
        if pattern in source.partial:
            self._partial.add(pattern)
        if pattern in source.closed:
            self._closed[pattern] = source.closed[pattern]


@lru_cache(maxsize=1024)
def _entry(pattern: str, found: Found, local_domains: Sequence[str]) -> AliasTable:
    """The table of one entry, which may be bad; that is named once."""
    entries = AliasEntries(found.where, local_domains)
    entries.add(found.where, pattern, found.value)
    try:
        return entries.table()
    except AliasError as error:
        log.warning("table_line_bad", at=found.where, problem=str(error), effect=f"{pattern} hears 451 4.3.5")
        return AliasTable({pattern: ()}, frozenset(), frozenset())


def _together(tables: Sequence[AliasTable], domains: frozenset[str], local_domains: Sequence[str]) -> AliasTable:
    """Several tables as one: where more than one has a pattern, the first counts."""
    entries, partial, closed = dict[str, tuple[str, ...]](), set[str](), dict[str, str]()
    for table in tables:
        new = [pattern for pattern in table.entries if pattern not in entries] if entries else table.entries
        closed.update({pattern: text for pattern, text in table.closed.items() if pattern not in entries})
        partial.update(pattern for pattern in table.partial if pattern not in entries)
        entries.update({pattern: table.entries[pattern] for pattern in new})
    bad = BadLines(
        tuple([line for table in tables for line in table.bad.lines]),
        frozenset().union(*[table.bad.domains for table in tables]),
    )
    served = domains.union(*[table.domains for table in tables])
    return AliasTable(entries, served, frozenset(local_domains), bad, frozenset(partial), closed)
