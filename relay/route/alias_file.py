"""The file of the alias table: a Postfix virtual(5) file, or TOML.

A line that is wrong is named, and costs nobody but whom it was for; `alias_table` is what the rest becomes.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import structlog

from relay.mail.address import (
    LOCAL_PART_OCTETS,
    QUOTED_STRING,
    BadAddress,
    domain_of,
    is_domain,
    is_local_part,
    lookup_key,
    normal_domain,
    parse,
    split,
    unquote,
)
from relay.route.alias_table import CHAIN_LIMIT, EXPANSION_LIMIT, NESTING_LIMIT, AliasLoop, AliasTable
from relay.route.bad_lines import BadLine, BadLines, is_utf8, readable_domain, shown

__all__ = [
    "CHAIN_LIMIT",
    "EXPANSION_LIMIT",
    "NESTING_LIMIT",
    "AliasError",
    "AliasLoop",
    "AliasTable",
    "parse_toml",
    "parse_virtual",
]

_ENTRY = re.compile(r'((?:"(?:\\.|[^"\\])*")?\S*)(.*)', re.DOTALL)
# What nearly every address of a large table looks like, recognised at one glance; `parse` judges the others.
_PLAIN = re.compile(
    r"[\w+=-]+(?:\.[\w+=-]+)*@(?:[a-z0-9](?:[a-z0-9-]*[a-z0-9])?\.)+[a-z]{2,}\Z", re.ASCII | re.IGNORECASE
)
_TARGET = re.compile(r'(?:"(?:\\.|[^"\\])*"|[^\s,"])+|"')
_MARKED = re.compile(r'["#|]')  # without any of them a right-hand side is words and commas
_OTHER = {  # what a target without a domain may open with that aliases(5) knows and virtual(5) does not
    "|": "a command is no address",
    "/": "a file is no address",
    ":include:": "a list in a file is no address",
    "#": "a comment has a line of its own",
}

log = structlog.get_logger()


class AliasError(ValueError):
    """The table, or one line of it, cannot be used; the text says why."""


def parse_virtual(text: str, source: str, local_domains: Sequence[str] = ()) -> AliasTable:
    """The table of a virtual(5) file. One liberty: the left-hand side may be quoted.

    A line that Postfix would skip with a warning, or a target that is no address, is one of `AliasTable.bad`, and the
    log names it. Of a pattern that stands twice the first with a good target counts, and the log says so of the other.

    Args:
        source: the file's name, for messages.
        local_domains: see `AliasTable`; normal domains. The first of them is that of a target without a domain.

    Raises:
        AliasError: not one line can be read; the text names the first.
    """
    builder = _Builder(source, local_domains)
    for number, line, indented in _logical_lines(text):
        entry = _ENTRY.match(line)
        assert entry is not None  # it matches any text
        if indented:
            builder.add_orphan(f"{source}:{number}", entry[1], entry[2])
        else:
            builder.add(f"{source}:{number}", entry[1], entry[2])
    return builder.table()


def parse_toml(text: str, source: str, local_domains: Sequence[str] = ()) -> AliasTable:
    """The table of a TOML file: `"alice@fwd.example" = "x@y.example"`, or a list; `"fwd.example" = []` for a domain.

    A key with another value is a bad line, as in `parse_virtual`.

    Raises:
        AliasError: as `parse_virtual`, and for text that is not TOML.
    """
    builder = _Builder(source, local_domains)
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise AliasError(f"{source}: {error}") from None
    for path, value in _leaves(data):
        pattern = path[-1] if "@" in path[-1] else ".".join(path)
        where = f"{source}: {pattern}"
        if isinstance(value, str) and len(path) == 1:
            builder.add(where, pattern, value)
        elif isinstance(value, list) and len(path) == 1:
            others = [item for item in value if not isinstance(item, str)]
            targets = ", ".join(item for item in value if isinstance(item, str))
            builder.add(where, pattern, targets, [f"{item!r} is no address" for item in others])
        else:
            builder.add(
                where, pattern, "", [f'it is written as "{shown(pattern)}" = "address", or a list of addresses']
            )
    return builder.table()


def _leaves(table: Mapping[str, Any], path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every value with the keys that lead to it: a key with a dot in it and without quotes makes a table of its own."""
    for key, value in table.items():
        if isinstance(value, dict) and value:
            yield from _leaves(value, (*path, key))
        else:
            yield (*path, key), value


def _logical_lines(text: str) -> Iterator[tuple[int, str, bool]]:
    """Each entry with the number of its first line, and whether that one is indented already, which is an error: an
    indented line continues an entry, past comments and empty lines."""
    first, parts, indented = 0, list[str](), False
    for number, line in enumerate(text.split("\n"), 1):
        words = line.strip()
        if not words or words.startswith("#"):
            continue
        if line[0].isspace() and parts:
            parts.append(words)
            continue
        if parts:
            yield first, " ".join(parts), indented
        first, parts, indented = number, [words], line[0].isspace()
    if parts:
        yield first, " ".join(parts), indented


class _Builder:
    """Takes the entries one by one, checks them, and knows where each stood."""

    def __init__(self, source: str, local_domains: Sequence[str]) -> None:
        self._source = source
        self._local_domains = frozenset(local_domains)
        self._origin = local_domains[0] if local_domains else ""
        self._entries: dict[str, tuple[str, ...]] = {}
        self._origins: dict[str, str] = {}
        self._domains: set[str] = set()
        self._bad: list[BadLine] = []
        self._hidden: set[str] = set()
        self._partial: set[str] = set()

    def table(self) -> AliasTable:
        """Raises AliasError: as `parse_virtual`."""
        if self._bad and not self._entries and not self._domains and self._hidden <= {""}:
            raise AliasError(f"{self._bad[0].where}: {self._bad[0].problem}")
        bad = BadLines(tuple(self._bad), frozenset(self._hidden))
        bad.report(self._source)
        return AliasTable(self._entries, frozenset(self._domains), self._local_domains, bad, frozenset(self._partial))

    def add(self, where: str, pattern: str, value: str, problems: Sequence[str] = ()) -> None:
        """One entry.

        Args:
            where: file and line.
            problems: of targets that are not in `value`.
        """
        if "@" not in pattern and "." in pattern[:-1] and is_domain(pattern) and is_utf8(pattern):
            # Postfix looks up a domain and a `user` of that shape alike; what marks a domain may say anything.
            self._domains.add(normal_domain(pattern))
            targets, found = self._targets(pattern, value)
            self._enter(where, pattern, () if found else targets)
            if problems:
                self._name(where, problems, "none of its addresses is affected")
            return
        try:
            domain = _served(pattern)
        except AliasError as error:
            self._hide(where, pattern, str(error))
            return
        targets, found = self._targets(pattern, value) if value or not problems else ((), [])
        if domain is not None and targets:
            self._domains.add(domain)  # what stands here without any may be a target of the line above
        self._enter(where, pattern, targets)
        if targets and (problems or found) and self._entries[_key(pattern)] is targets:
            self._partial.add(_key(pattern))
        effect = "its other targets get mail" if targets else f"{pattern} answers 451 4.3.5"
        self._name(where, [*problems, *found], effect)

    def add_orphan(self, where: str, first: str, rest: str) -> None:
        """An indented line without one above that it could continue. It may be an entry all the same, whose address
        is then known; or what is left of one that is gone: so it makes no domain ours."""
        problem = "an indented line continues the one above, and there is none"
        try:
            entry = rest and not first.endswith(",") and _served(first) is not None
        except AliasError:
            entry = False
        if entry:
            self._enter(where, first, ())
            self._name(where, [problem], f"{first} answers 451 4.3.5")
        else:
            self._hide(where, "", problem)

    def _hide(self, where: str, pattern: str, problem: str) -> None:
        domain = readable_domain(pattern)
        self._hidden.add(domain)
        whose = domain or "every domain of the table"
        self._name(where, [problem], f"unknown users and the catch-all of {whose} answer 451 4.3.5")

    def _name(self, where: str, problems: Sequence[str], effect: str) -> None:
        if problems:
            self._bad.append(BadLine(where, "; ".join(problems), effect))

    def _enter(self, where: str, pattern: str, targets: tuple[str, ...]) -> None:
        key = _key(pattern)
        if self._entries.get(key):
            if targets:
                because = f"it stands at {self._origins[key]} already"
                log.warning("alias_ignored", alias=pattern, at=where, because=because)
            return
        self._entries[key] = targets
        self._origins[key] = where

    def _targets(self, pattern: str, value: str) -> tuple[tuple[str, ...], list[str]]:
        """The good targets, and what is wrong with the others."""
        found = list(_words(value))
        if not found:
            return (), [f"{pattern} has no target"]
        targets, problems = list[str](), list[str]()
        for position, target in enumerate(found):
            try:
                targets.append(self._target(target, position))
            except AliasError as error:
                problems.append(str(error))
        return tuple(targets), problems

    def _target(self, target: str, position: int) -> str:
        if target.startswith("@"):
            _check_domain(target)
            if position:
                raise AliasError(f"{target}: the same user at another domain can only be the first target")
            return target.removesuffix(".")
        try:
            if self._origin and not (split(target).domain or target.endswith("@") or _other(target)):
                target = f"{target}@{self._origin}"
            return _checked(target)
        except AliasError as error:
            other = _other(target)
            raise AliasError(f"{shown(target)}: {other}" if other else str(error)) from None


def _key(pattern: str) -> str:
    return f"@{normal_domain(pattern[1:])}" if pattern.startswith("@") else lookup_key(pattern)


def _words(value: str) -> Iterator[str]:
    """The targets of a right-hand side, each as it was written. What belongs to one that is none is not taken for
    another: the words of a command go up to the next comma, a comment or an open quote up to the end."""
    if not _MARKED.search(value):
        yield from value.replace(",", " ").split()
        return
    position = 0
    while (found := _TARGET.search(value, position)) is not None:
        word, position = found[0], found.end()
        if word == '"' or (word.startswith("#") and not split(word).domain):
            word, position = value[found.start() :], len(value)
        elif word.startswith("|") and not split(word).domain:
            end = value.find(",", position)
            position = len(value) if end < 0 else end
            word = value[found.start() : position]
        yield word.strip()


def _other(target: str) -> str:
    """Why a target that is no whole address is none at all; empty where it may be a user of ours."""
    local = split(target).local
    if local.startswith('"') and not QUOTED_STRING.match(local):
        return "its quotes do not end"
    content = unquote(local)
    return next((problem for opening, problem in _OTHER.items() if content.startswith(opening)), "")


def _served(pattern: str) -> str | None:
    """The domain that a pattern with `@` makes ours; a `user` pattern belongs to no domain.

    Raises:
        AliasError: the pattern cannot be read.
    """
    if not is_utf8(pattern):
        raise AliasError(f"{shown(pattern)}: not UTF-8")
    if pattern.startswith("@"):
        _check_domain(pattern)
        return normal_domain(pattern[1:])
    if split(pattern).domain:
        return domain_of(_checked(pattern))
    if not is_local_part(pattern):
        raise AliasError(f"{pattern} is neither an address nor a local part")
    return None


def _checked(address: str) -> str:
    """An address in normal form."""
    if len(address) <= LOCAL_PART_OCTETS and _PLAIN.match(address):
        return address  # too short to pass any limit of RFC 5321
    if not is_utf8(address):
        raise AliasError(f"{shown(address)}: not UTF-8")
    try:
        return str(parse(address))
    except BadAddress as error:
        raise AliasError(f"{address}: {error}") from None


def _check_domain(pattern: str) -> None:
    if not is_utf8(pattern):
        raise AliasError(f"{shown(pattern)}: not UTF-8")
    if not is_domain(pattern[1:]):
        raise AliasError(f"{pattern} is not @ and a domain")
