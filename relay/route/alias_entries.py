"""The entries of an alias table: each is checked as it is added, and a bad one is named with its place in the file."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

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
from relay.route.alias_table import AliasTable
from relay.table_files.bad_lines import BadLine, BadLines, is_utf8, readable_domain, shown, unsaid

# The form of nearly every address of a large table, which this regular expression accepts fast; `parse` checks others.
_PLAIN = re.compile(
    r"[\w+=-]+(?:\.[\w+=-]+)*@(?:[a-z0-9](?:[a-z0-9-]*[a-z0-9])?\.)+[a-z]{2,}\Z", re.ASCII | re.IGNORECASE
)
_BETWEEN_SLASHES = re.compile(r"!?/.+/[AEUXimsx]*")
_REGULAR = frozenset("^$*+[(|\\")
_TARGET = re.compile(r'(?:"(?:\\.|[^"\\])*"|[^\s,"])+|"')
_MARKED = re.compile(r'["#|]')  # without any of them a right-hand side is split at blanks and commas
_LINE_BREAK = re.compile(r"[^\S ]+")  # with tabs; in TOML a text may have several lines
_REJECT = "REJECT"  # in the place of a target, with a text behind it, as in Postfix's access(5)
_FOREIGN_KINDS = {  # by its first characters, a target that aliases(5) knows and virtual(5) does not
    "|": "a command is no address",
    "/": "a file is no address",
    ":include:": "a list in a file is no address",
    "#": "a comment has a line of its own",
}

log = structlog.get_logger()


class AliasError(ValueError):
    """The table, or one line of it, cannot be used; the text says why."""


class AliasEntries:
    """Collects the entries of one file.

    Args:
        source: the file's name, for messages.
        local_domains: see `AliasTable`; normal domains. The first of them is that of a target without a domain.
    """

    def __init__(self, source: str, local_domains: Sequence[str]) -> None:
        self._source = source
        self._local_domains = frozenset(local_domains)
        self._origin = local_domains[0] if local_domains else ""
        self._entries: dict[str, tuple[str, ...]] = {}
        self._closed: dict[str, str] = {}
        self._origins: dict[str, str] = {}
        self._domains: set[str] = set()
        self._bad: list[BadLine] = []
        self._hidden: set[str] = set()
        self._partial: set[str] = set()

    def table(self) -> AliasTable:
        """The table of the entries.

        Raises:
            AliasError: not one line can be read; the text names the first.
        """
        if self._bad and not self._entries and not self._domains and self._hidden <= {""}:
            raise AliasError(f"{self._bad[0].where}: {self._bad[0].problem}")
        bad = BadLines(tuple(self._bad), frozenset(self._hidden))
        bad.report(self._source)
        domains, partial = frozenset(self._domains), frozenset(self._partial)
        return AliasTable(self._entries, domains, self._local_domains, bad, partial, self._closed)

    @property
    def bad(self) -> Sequence[BadLine]:
        """What cannot be used of the entries so far."""
        return self._bad

    def entered(self, pattern: str) -> tuple[tuple[str, ...], str | None]:
        """The good targets of a pattern, and the text of its REJECT; None where it has none."""
        key = entry_key(pattern)
        return self._entries.get(key, ()), self._closed.get(key)

    def add(self, where: str, pattern: str, value: str, problems: Sequence[str] = ()) -> None:
        """Add one entry.

        Args:
            where: file and line.
            value: the right-hand side, as virtual(5) writes it.
            problems: those of targets that are not in `value`.
        """
        if "@" not in pattern and "." in pattern[:-1] and is_domain(pattern) and is_utf8(pattern):
            # Postfix looks up a domain and a `user` of that shape alike; the value behind a domain may be any text.
            self._domains.add(normal_domain(pattern))
            rejection = _rejection(value)
            targets, bad_targets = self._targets(pattern, value) if rejection is None else ((), [])
            self._enter(where, pattern, () if bad_targets else targets, rejection)
            if problems:
                self._name(where, problems, "none of its addresses is affected")
            return
        try:
            domain = _served_domain(pattern)
        except AliasError as error:
            self._hide(where, pattern, str(error))
            return
        rejection = _rejection(value)
        if rejection is not None and not problems:
            self._enter(where, pattern, (), rejection)
            return
        targets, bad_targets = self._targets(pattern, value) if value or not problems else ((), [])
        if domain is not None and targets:
            self._domains.add(domain)  # a pattern without targets may be a target of the line above
        self._enter(where, pattern, targets)
        if targets and (problems or bad_targets) and self._entries[entry_key(pattern)] is targets:
            self._partial.add(entry_key(pattern))
        effect = "its other targets get mail" if targets else f"{pattern} answers 451 4.3.5"
        self._name(where, [*problems, *bad_targets], effect)

    def add_orphan(self, where: str, first: str, rest: str) -> None:
        """Add an indented line without a line above that it could continue.

        It may be an entry, whose address is then known, or the rest of an entry that is gone: so it makes no domain
        ours.
        """
        problem = "an indented line continues the one above, and there is none"
        try:
            is_entry = rest and not first.endswith(",") and _served_domain(first) is not None
        except AliasError:
            is_entry = False
        if is_entry:
            self._enter(where, first, ())
            self._name(where, [problem], f"{first} answers 451 4.3.5")
        else:
            self._hide(where, "", problem)

    def _hide(self, where: str, pattern: str, problem: str) -> None:
        """Note a line whose address cannot be read: any unknown user of its domain may be meant."""
        domain = readable_domain(pattern)
        self._hidden.add(domain)
        whose = domain or "every domain of the table"
        self._name(where, [problem], f"unknown users and the catch-all of {whose} answer 451 4.3.5")

    def _name(self, where: str, problems: Sequence[str], effect: str) -> None:
        if problems:
            self._bad.append(BadLine(where, "; ".join(problems), effect))

    def _enter(self, where: str, pattern: str, targets: tuple[str, ...], rejection: str | None = None) -> None:
        key = entry_key(pattern)
        if self._entries.get(key) or key in self._closed:
            if (targets or rejection is not None) and not unsaid.get():
                because = f"it stands at {self._origins[key]} already"
                log.warning("alias_ignored", alias=pattern, at=where, because=because)
            return
        self._entries[key] = targets
        if rejection is not None:
            self._closed[key] = rejection
        self._origins[key] = where

    def _targets(self, pattern: str, value: str) -> tuple[tuple[str, ...], list[str]]:
        """The good targets, and what is wrong with the others."""
        written = list(_split_targets(value))
        if not written:
            return (), [f"{pattern} has no target"]
        if _REJECT in written:
            return (), [f"{_REJECT} stands alone: only its text may follow, and no other target"]
        targets, problems = list[str](), list[str]()
        for position, target in enumerate(written):
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
            if self._origin and not (split(target).domain or target.endswith("@") or _foreign_kind(target)):
                target = f"{target}@{self._origin}"
            return _checked(target)
        except AliasError as error:
            foreign = _foreign_kind(target)
            raise AliasError(f"{shown(target)}: {foreign}" if foreign else str(error)) from None


def is_rejection(target: str) -> bool:
    """Whether a target closes its address."""
    return _rejection(target) is not None


def _rejection(value: str) -> str | None:
    """The text behind REJECT, as one line; None for a right-hand side that begins with another word."""
    first, *text = value.split(None, 1) or [""]
    return _LINE_BREAK.sub(" ", "".join(text)).strip() if first == _REJECT else None


def entry_key(pattern: str) -> str:
    """The key of a left-hand side in `AliasTable.entries`, and the same for all ways to write it."""
    return f"@{normal_domain(pattern[1:])}" if pattern.startswith("@") else lookup_key(pattern)


def _split_targets(value: str) -> Iterator[str]:
    """The targets of a right-hand side, each as it was written.

    A part of something that is no address does not become a target: a command goes up to the next comma, a comment or
    an open quote up to the end.
    """
    if not _MARKED.search(value):
        yield from value.replace(",", " ").split()
        return
    position = 0
    while (match := _TARGET.search(value, position)) is not None:
        target, position = match[0], match.end()
        if target == '"' or (target.startswith("#") and not split(target).domain):
            target, position = value[match.start() :], len(value)
        elif target.startswith("|") and not split(target).domain:
            end = value.find(",", position)
            position = len(value) if end < 0 else end
            target = value[match.start() : position]
        yield target.strip()


def _foreign_kind(target: str) -> str:
    """Why a target without a domain is no address; empty where it may be a user of ours."""
    local = split(target).local
    if local.startswith('"') and not QUOTED_STRING.match(local):
        return "its quotes do not end"
    content = unquote(local)
    return next((problem for opening, problem in _FOREIGN_KINDS.items() if content.startswith(opening)), "")


def _served_domain(pattern: str) -> str | None:
    """The domain that a pattern with `@` makes ours; None for a `user` pattern.

    Raises:
        AliasError: the pattern cannot be read.
    """
    if not is_utf8(pattern):
        raise AliasError(f"{shown(pattern)}: not UTF-8")
    if pattern.startswith("@"):
        _check_domain(pattern)
        return normal_domain(pattern[1:])
    if pattern.startswith(("/", "!/")) and _is_regular_expression(pattern):
        mend = "write the addresses, or @domain for all users of a domain"
        raise AliasError(f"{pattern}: regular expressions, as in regexp_table(5), are not read here: {mend}")
    if split(pattern).domain:
        return domain_of(_checked(pattern))
    if not is_local_part(pattern):
        raise AliasError(f"{pattern} is neither an address nor a local part")
    return None


def _is_regular_expression(pattern: str) -> bool:
    """Whether this is one of Postfix's, between slashes with flags behind. X.400 puts `/S=Smith/` into a local part."""
    is_enclosed = _BETWEEN_SLASHES.fullmatch(pattern) is not None
    return is_enclosed and ("=" not in pattern or not _REGULAR.isdisjoint(pattern))


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
