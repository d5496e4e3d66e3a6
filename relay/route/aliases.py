"""The alias table: which addresses are ours, and which addresses stand behind them.

It is read from a Postfix virtual(5) file, or from TOML, and keeps virtual(5)'s search order and meaning, so that a
site's table moves over as it is. `Router` decides what to do with the outcome; here is only the look-up.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import structlog

from relay.address import (
    DOMAIN,
    LOCAL_PART_OCTETS,
    BadAddress,
    domain_of,
    is_local_part,
    lookup_key,
    normal_domain,
    parse,
    quote,
    split,
    split_detail,
    unquote,
)

NESTING_LIMIT = 1000  # aliases of aliases, one below the other; Postfix virtual_alias_recursion_limit
EXPANSION_LIMIT = 1000  # addresses behind one alias; Postfix virtual_alias_expansion_limit
CHAIN_LIMIT = 10  # links of `chain`: nobody writes that many, and each costs every message a header field

_ENTRY = re.compile(r'((?:"(?:\\.|[^"\\])*")?\S*)(.*)', re.DOTALL)
# What nearly every address of a large table looks like, recognised at one glance; `parse` judges the others.
_PLAIN = re.compile(
    r"[\w+=-]+(?:\.[\w+=-]+)*@(?:[a-z0-9](?:[a-z0-9-]*[a-z0-9])?\.)+[a-z]{2,}\Z", re.ASCII | re.IGNORECASE
)
_OTHER = re.compile(r"[#|/]")  # opens a comment, a command, a file: none of them a target
_TARGET = re.compile(r'(?:"(?:\\.|[^"\\])*"|[^\s,"])+|"')

log = structlog.get_logger()


class AliasError(ValueError):
    """The table cannot be used; the text names the file and the line (in TOML the key) and says why."""


class AliasLoop(Exception):
    """An alias expands without end, or past `EXPANSION_LIMIT` addresses; the text names the alias."""


@dataclass(frozen=True, slots=True)
class AliasTable:
    """A parsed table.

    Attributes:
        entries: targets by pattern: `user@domain`, `user` or `@domain`, each as `lookup_key` writes it.
        domains: the domains that the table serves: every one that stands on the left, with a user, as `@domain`, or
            bare. An address there that nothing matches is an unknown user.
        local_domains: where a `user` pattern applies: our counterpart of Postfix's myorigin and mydestination.
    """

    entries: Mapping[str, tuple[str, ...]]
    domains: frozenset[str]
    local_domains: frozenset[str]

    def lists(self, address: str) -> bool:
        """Whether the address itself stands on the left: neither `@domain` nor a user without the detail counts."""
        key = lookup_key(address)
        return key in self.entries or (domain_of(address) in self.local_domains and split(key).local in self.entries)

    def matches(self, address: str) -> bool:
        """Whether any pattern of the table matches."""
        return self._targets(address) is not None

    def expand(self, address: str) -> tuple[str, ...] | None:
        """The addresses that stand behind an address, aliases of aliases followed, each once; None where none match.

        An address that is its own target stays (`a@x a@x`, `@x @x`), beside the other targets if there are some.

        Raises:
            AliasLoop: aliases that lead to each other, or too many addresses.
        """
        if not self.matches(address):
            return None
        settled: dict[str, str] = {}
        pending = [(address, 0)]
        width = 1
        while pending:
            current, depth = pending.pop()
            key = lookup_key(current)
            if key in settled:
                continue
            targets = self._targets(current)
            if targets is None:
                settled[key] = current
                continue
            width += len(targets) - 1
            if depth == NESTING_LIMIT or width > EXPANSION_LIMIT:
                raise AliasLoop(f"{address}: aliases lead to each other, or to more than {EXPANSION_LIMIT} addresses")
            for target in reversed(targets):
                if lookup_key(target) == key:
                    settled[key] = target
                else:
                    pending.append((target, depth + 1))
        return tuple(settled.values())

    def chain(self, address: str) -> tuple[str, ...]:
        """The aliases that everything for an address goes through, at most `CHAIN_LIMIT`; none where nothing matches.

        That is the address itself, and while there is one target only, that one. Each is named without a detail that
        has no entry of its own.
        """
        links: list[str] = []
        while len(links) < CHAIN_LIMIT and (targets := self._targets(address)) is not None:
            links.append(address if self.lists(address) else _without_detail(address))
            if len(targets) > 1 or lookup_key(targets[0]) == lookup_key(address):
                break
            address = targets[0]
        return tuple(links)

    def _targets(self, address: str) -> tuple[str, ...] | None:
        """The right-hand side of the first pattern that matches, in the order of virtual(5)."""
        for pattern, unmatched in self._patterns(address):
            targets = self.entries.get(pattern)
            if targets is not None:
                return tuple(_filled_in(target, address, unmatched) for target in targets)
        return None

    def _patterns(self, address: str) -> Iterator[tuple[str, str]]:
        """The patterns to try, each with the detail that it leaves unmatched."""
        yield lookup_key(address), ""
        mailbox = split(address)
        user, detail = split_detail(mailbox.local)
        user = quote(user)
        if detail:
            yield lookup_key(f"{user}@{mailbox.domain}"), detail
        domain = normal_domain(mailbox.domain)
        if domain in self.local_domains:
            yield lookup_key(mailbox.local), ""
            if detail:
                yield lookup_key(user), detail
        yield f"@{domain}", ""


def _without_detail(address: str) -> str:
    mailbox = split(address)
    return f"{quote(split_detail(mailbox.local)[0])}@{mailbox.domain}"


def _filled_in(target: str, address: str, unmatched: str) -> str:
    """The target for this address: `@other` takes its user, any other target the detail that was not matched."""
    if target.startswith("@"):
        return split(address).local + target
    if not unmatched:
        return target
    mailbox = split(target)
    return f"{quote(unquote(mailbox.local) + unmatched)}@{mailbox.domain}"


def parse_virtual(text: str, source: str, local_domains: Sequence[str] = ()) -> AliasTable:
    """The table of a virtual(5) file. One liberty: the left-hand side may be quoted.

    Of a pattern that stands twice the first entry counts; the log says so of the other.

    Args:
        source: the file's name, for messages.
        local_domains: see `AliasTable`; normal domains. The first of them is that of a target without a domain.

    Raises:
        AliasError: a line that Postfix would skip with a warning, a target that is no address.
    """
    builder = _Builder(local_domains)
    for number, line in _logical_lines(text, source):
        entry = _ENTRY.match(line)
        assert entry is not None  # it matches any text
        builder.add(f"{source}:{number}", entry[1], entry[2])
    return builder.table()


def parse_toml(text: str, source: str, local_domains: Sequence[str] = ()) -> AliasTable:
    """The table of a TOML file: `"alice@fwd.example" = "x@y.example"`, or a list; `"fwd.example" = []` for a domain.

    Raises:
        AliasError: as `parse_virtual`, and for text that is not TOML.
    """
    builder = _Builder(local_domains)
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise AliasError(f"{source}: {error}") from None
    for pattern, value in data.items():
        targets = value if isinstance(value, list) else [value]
        if not all(isinstance(target, str) for target in targets):
            raise AliasError(f'{source}: {pattern}: written as "{pattern}" = "address", or a list of addresses')
        builder.add(f"{source}: {pattern}", pattern, ", ".join(targets))
    return builder.table()


def _logical_lines(text: str, source: str) -> Iterator[tuple[int, str]]:
    """Each entry with the number of its first line; an indented line continues it, past comments and empty lines."""
    first, parts = 0, list[str]()
    for number, line in enumerate(text.split("\n"), 1):
        words = line.strip()
        if not words or words.startswith("#"):
            continue
        if not line[0].isspace():
            if parts:
                yield first, " ".join(parts)
            first, parts = number, [words]
        elif parts:
            parts.append(words)
        else:
            raise AliasError(f"{source}:{number}: an indented line continues the one above, and there is none")
    if parts:
        yield first, " ".join(parts)


class _Builder:
    """Takes the entries one by one, checks them, and knows where each stood."""

    def __init__(self, local_domains: Sequence[str]) -> None:
        self._local_domains = frozenset(local_domains)
        self._origin = local_domains[0] if local_domains else ""
        self._entries: dict[str, tuple[str, ...]] = {}
        self._origins: dict[str, str] = {}
        self._domains: set[str] = set()

    def table(self) -> AliasTable:
        return AliasTable(self._entries, frozenset(self._domains), self._local_domains)

    def add(self, where: str, pattern: str, value: str) -> None:
        """One entry; `where` opens the message of whatever is wrong with it."""
        try:
            self._add(where, pattern, value)
        except AliasError as error:
            raise AliasError(f"{where}: {error}") from None

    def _add(self, where: str, pattern: str, value: str) -> None:
        if "@" not in pattern and "." in pattern and DOMAIN.match(pattern):
            # Postfix looks up a domain and a `user` of that shape alike; what marks a domain may say anything.
            self._domains.add(normal_domain(pattern))
            try:
                targets = self._targets(pattern, value)
            except AliasError:
                return
        else:
            if (domain := _served(pattern)) is not None:
                self._domains.add(domain)
            targets = self._targets(pattern, value)
        key = f"@{normal_domain(pattern[1:])}" if pattern.startswith("@") else lookup_key(pattern)
        if key in self._entries:
            log.warning("alias_ignored", alias=pattern, at=where, because=f"it stands at {self._origins[key]} already")
            return
        self._entries[key] = targets
        self._origins[key] = where

    def _targets(self, pattern: str, value: str) -> tuple[str, ...]:
        targets = tuple(_TARGET.findall(value) if '"' in value else value.replace(",", " ").split())
        if not targets:
            raise AliasError(f"{pattern} has no target")
        return tuple(self._target(target, position) for position, target in enumerate(targets))

    def _target(self, target: str, position: int) -> str:
        if target.startswith("@"):
            _check_domain(target)
            if position:
                raise AliasError(f"{target}: the same user at another domain can only be the first target")
            return target
        if not split(target).domain and self._origin and not _OTHER.match(target):
            target = f"{target}@{self._origin}"
        return _checked(target)


def _served(pattern: str) -> str | None:
    """The domain that a pattern with `@` makes ours; a `user` pattern belongs to no domain."""
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
    try:
        return str(parse(address))
    except BadAddress as error:
        raise AliasError(f"{address}: {error}") from None


def _check_domain(pattern: str) -> None:
    if not DOMAIN.match(pattern[1:]):
        raise AliasError(f"{pattern} is not @ and a domain")
