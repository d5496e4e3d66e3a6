"""The alias table and the users of a domain, as far as one RCPT asks for them, where some of it is not in a file.

The router decides at once, without waiting. So it works on views that know what was looked up for this RCPT; at a key
that was not, it stops with `NotYet`, and begins again when the answer is there.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Container, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import structlog

from relay.lookup.opened import RegexpFile
from relay.lookup.source import BadTable, Source, SourceUnavailable
from relay.mail.address import lookup_key, split
from relay.mail.reply import Refused
from relay.route.alias_entries import AliasEntries
from relay.route.alias_table import EXPANSION_LIMIT, NESTING_LIMIT, AliasTable
from relay.route.domain_users import DomainUsers
from relay.table_files.bad_lines import BadLines, TryLater
from relay.table_files.reloaded_file import ReloadedFile

T = TypeVar("T")

log = structlog.get_logger()

Questions = list[tuple[Source, str]]


class NotYet(Exception):
    """A key was not looked up yet."""

    def __init__(self, source: Source, key: str) -> None:
        self.question = source, key


class Whole(str):
    """The lookup key of an address that is asked for itself, and the address as it was `written`.

    A regexp table is asked for these alone: it would match a part of an address as if it were another address, see
    virtual(5).
    """

    __slots__ = ("written",)
    written: str

    def __new__(cls, address: str) -> Whole:
        key = super().__new__(cls, lookup_key(address))
        key.written = address
        return key


class Answers:
    """What was looked up for one RCPT."""

    def __init__(self) -> None:
        self._found: dict[tuple[Source, str], str | None] = {}
        self._ahead: dict[tuple[Source, str], None] = {}

    def value(self, source: Source, key: str) -> str | None:
        """The value of a key. Raises NotYet."""
        if isinstance(source, RegexpFile):
            if not isinstance(key, Whole):
                return None
            key = key.written
        try:
            return self._found[source, str(key)]
        except KeyError:
            raise NotYet(source, str(key)) from None

    def want(self, source: Source, key: str) -> None:
        """A key that will be asked soon, to be looked up with the next one."""
        if len(self._found) + len(self._ahead) > 4 * EXPANSION_LIMIT or isinstance(source, RegexpFile):
            return
        if (source, key) not in self._found:
            self._ahead[source, key] = None

    async def look_up(self, question: tuple[Source, str]) -> None:
        """Raises SourceUnavailable."""
        questions = [question, *(other for other in self._ahead if other != question)]
        self._ahead.clear()
        values = await asyncio.gather(*[source.get(key) for source, key in questions], return_exceptions=True)
        for asked, value in zip(questions, values, strict=True):
            if not isinstance(value, BaseException):
                self._found[asked] = value
            elif asked == question:
                raise value  # what is asked ahead is asked again when it is needed


async def decided(recipient: str, decide: Callable[[Answers], Awaitable[T]]) -> T:
    """What `decide` makes of the tables; it is called again for each key that it finds missing.

    Raises:
        Refused: 451 4.3.0, a table cannot be asked now; as `decide`.
    """
    answers = Answers()
    for _ in range(4 * NESTING_LIMIT):
        try:
            return await decide(answers)
        except NotYet as missing:
            try:
                await answers.look_up(missing.question)
            except BadTable:
                raise TryLater(recipient) from None
            except SourceUnavailable:
                raise Refused(451, "4.3.0", f"<{recipient}>: a table cannot be asked now, try again later") from None
    raise Refused(451, "4.4.6", f"<{recipient}>: it leads to too many addresses, try later")


@dataclass(frozen=True)
class AskedAliases(AliasTable):
    """The alias table of one RCPT; its `entries` are `AskedEntries`."""

    def lists(self, address: str) -> bool:
        assert isinstance(self.entries, AskedEntries)
        if self.entries.lists(lookup_key(address)):
            return True
        mailbox = split(address)
        return mailbox.domain.lower() in self.local_domains and self.entries.lists(lookup_key(mailbox.local))

    def _remembered(self, memory: dict[str, T], address: str, look_up: Callable[[str], T]) -> T:  # type: ignore[override]
        return look_up(address)

    def _targets(self, address: str) -> tuple[str, ...] | None:
        targets = AliasTable._targets(self, address)
        assert isinstance(self.entries, AskedEntries)
        for target in targets or ():
            for pattern, _ in AliasTable._patterns(self, target):
                self.entries.want(pattern)
        return targets

    def _patterns(self, address: str) -> Iterator[tuple[str, str]]:
        patterns = AliasTable._patterns(self, address)
        next(patterns)
        yield Whole(address), ""
        yield from patterns


class AskedEntries(Mapping[str, tuple[str, ...]]):
    """The targets by pattern: of the first source that has the pattern."""

    def __init__(
        self, sources: Sequence[ReloadedFile[AliasTable] | Source], local_domains: Sequence[str], answers: Answers
    ) -> None:
        self._sources = [source.value if isinstance(source, ReloadedFile) else source for source in sources]
        self._local_domains = local_domains
        self._answers = answers
        self._read: dict[tuple[Source, str, str], AliasTable] = {}

    def __getitem__(self, pattern: str) -> tuple[str, ...]:
        return self._table(pattern).entries[str(pattern)]

    def __iter__(self) -> Iterator[str]:
        raise TypeError("a table that is looked up cannot be listed")

    def __len__(self) -> int:
        raise TypeError("a table that is looked up has no size")

    def __bool__(self) -> bool:
        return True

    def lists(self, key: str) -> bool:
        """Whether a file or a database has this key itself. A regexp table is like a catch-all: it lists nobody."""
        return key in self

    def want(self, key: str) -> None:
        for source in self._sources:
            if not isinstance(source, AliasTable):
                self._answers.want(source, key)

    def is_partial(self, pattern: str) -> bool:
        """Whether some targets cannot be read."""
        return str(pattern) in self._table(pattern).partial

    def rejection(self, pattern: str) -> str | None:
        """The text of REJECT; None where it is not closed."""
        return self._table(pattern).closed.get(str(pattern))

    def _table(self, pattern: str) -> AliasTable:
        """The table of the first source that has the pattern, or what it says as a table. Raises KeyError, NotYet."""
        for source in self._sources:
            if isinstance(source, AliasTable):
                if pattern in source.entries:
                    return source
                continue
            value = self._answers.value(source, pattern)
            if value is not None:
                return self._parsed(source, str(pattern), value)
        raise KeyError(pattern)

    def _parsed(self, source: Source, pattern: str, value: str) -> AliasTable:
        known = self._read.get((source, pattern, value))
        if known is None:
            known = _entry(pattern, value, self._local_domains)
            self._read[source, pattern, value] = known
        return known


def _entry(pattern: str, value: str, local_domains: Sequence[str]) -> AliasTable:
    """A table with one entry, whose value may be bad."""
    entries = AliasEntries("a table", local_domains)
    entries.add(pattern, pattern, value)
    targets, rejection = entries.entered(pattern)
    for line in entries.bad:
        log.warning("table_line_bad", at=line.where, problem=line.problem, effect=line.effect)
    partial = frozenset([pattern] if entries.bad and targets else [])
    closed = {pattern: rejection} if rejection is not None else {}
    return AliasTable({pattern: targets}, frozenset(), frozenset(), partial=partial, closed=closed)


class _Partial(Container[str]):
    def __init__(self, entries: AskedEntries) -> None:
        self._entries = entries

    def __contains__(self, pattern: object) -> bool:
        return isinstance(pattern, str) and pattern in self._entries and self._entries.is_partial(pattern)


class _Closed(Mapping[str, str]):
    def __init__(self, entries: AskedEntries) -> None:
        self._entries = entries

    def __getitem__(self, pattern: str) -> str:
        text = self._entries.rejection(pattern)
        if text is None:
            raise KeyError(pattern)
        return text

    def __iter__(self) -> Iterator[str]:
        raise TypeError("a table that is looked up cannot be listed")

    def __len__(self) -> int:
        raise TypeError("a table that is looked up has no size")

    def __bool__(self) -> bool:
        return True


def asked_aliases(
    files: AliasTable,
    sources: Sequence[ReloadedFile[AliasTable] | Source],
    local_domains: Sequence[str],
    answers: Answers,
) -> AliasTable:
    """The view of the alias table for one RCPT.

    Args:
        files: what all files of it say together.
    """
    entries = AskedEntries(sources, local_domains, answers)
    return AskedAliases(
        entries,
        files.domains,
        files.local_domains,
        files.bad,
        _Partial(entries),
        _Closed(entries),
    )


class AskedUsers(Container[str]):
    """The users of one domain: a key with any value is one."""

    def __init__(self, sources: Sequence[ReloadedFile[DomainUsers] | Source], answers: Answers) -> None:
        self._sources = sources
        self._answers = answers

    def __contains__(self, key: object) -> bool:
        assert isinstance(key, str)
        return any(
            key in source.value.users
            if isinstance(source, ReloadedFile)
            else self._answers.value(source, key) is not None
            for source in self._sources
        )
