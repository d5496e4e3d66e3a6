"""The alias table: which addresses are ours, and which addresses they lead to.

It has the search order and meaning of Postfix's virtual(5), so that a site can keep its table. Here is the look-up;
`alias_file` reads the table, and `Router` decides with it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

from relay.mail.address import domain_of, lookup_key, normal_domain, quote, split, split_detail, unquote
from relay.table_files.bad_lines import NONE, BadLines

T = TypeVar("T", tuple[str, ...], tuple[str, ...] | None)

NESTING_LIMIT = 1000  # aliases of aliases, one below the other; Postfix virtual_alias_recursion_limit
EXPANSION_LIMIT = 1000  # addresses behind one alias; Postfix virtual_alias_expansion_limit
CHAIN_LIMIT = 10  # links of `chain`; each adds a header field to every message
REMEMBERED = 1024  # aliases of a table whose targets and chain are remembered: most mail of a host is for a few
REMEMBERED_ADDRESSES = 16  # of one alias at most: aliases of a long list, each with a detail, would take 80 KB each


class AliasLoop(Exception):
    """An alias expands without end, or past `EXPANSION_LIMIT` addresses; the text names the alias."""


@dataclass(frozen=True, slots=True)
class AliasTable:
    """A parsed table.

    Attributes:
        entries: targets by pattern: `user@domain`, `user` or `@domain`, each as `lookup_key` writes it. A pattern whose
            line is bad has no targets: it is known, and for now leads nowhere. One of `closed` has none either.
        domains: the domains that the table serves: every domain on the left, with a user, as `@domain`, or bare. An
            address there that no pattern matches is an unknown user.
        local_domains: where a `user` pattern applies: our counterpart of Postfix's myorigin and mydestination.
        bad: the lines that cannot be used, wholly or in part.
        partial: the patterns with other targets that cannot be read, besides those in `entries`.
        closed: the text of REJECT by pattern; it may be empty. Such an entry makes no domain ours.
    """

    entries: Mapping[str, tuple[str, ...]]
    domains: frozenset[str]
    local_domains: frozenset[str]
    bad: BadLines = NONE
    partial: Collection[str] = frozenset()
    closed: Mapping[str, str] = field(default_factory=dict)
    _expansions: dict[str, tuple[str, ...] | None] = field(default_factory=dict, init=False, repr=False, compare=False)
    _chains: dict[str, tuple[str, ...]] = field(default_factory=dict, init=False, repr=False, compare=False)

    def lists(self, address: str) -> bool:
        """Whether the address itself is on the left; neither `@domain` nor a user without the detail counts."""
        key = lookup_key(address)
        return key in self.entries or (domain_of(address) in self.local_domains and split(key).local in self.entries)

    def matches(self, address: str) -> bool:
        """Whether any pattern of the table matches."""
        return self.targets(address) is not None

    def takes(self, address: str) -> bool:
        """Whether any pattern matches, and does not close the address."""
        return self.matches(address) and self.rejection(address) is None

    def rejection(self, address: str) -> str | None:
        """The text of REJECT for a closed address; None for any other."""
        if not self.closed:
            return None
        pattern = self._first(address)
        return None if self._is_hidden(pattern) else self.closed.get(pattern)

    def lacks_targets(self, address: str) -> bool:
        """Whether some targets of an address cannot be read, or of an alias that it leads to."""
        pending, seen = [address], set[str]()
        while pending and len(seen) < EXPANSION_LIMIT:
            current = pending.pop()
            key = lookup_key(current)
            if key not in seen:
                seen.add(key)
                targets = self.targets(current)
                if targets == () or self._first(current) in self.partial:
                    return True
                pending += targets or ()
        return False

    def step(self, address: str) -> tuple[str, tuple[str, ...]] | None:
        """One step of `expand`: the pattern that matches an address, and the targets behind it; None where none does.

        The targets are empty behind a bad line, and the address itself where it is closed.
        """
        targets = self.targets(address)
        return None if targets is None else (self._first(address), targets)

    def expand(self, address: str) -> tuple[str, ...] | None:
        """The addresses that an address leads to, through aliases of aliases, each once; None where no pattern matches.

        An address that is its own target stays (`a@x a@x`, `@x @x`), beside its other targets, and so does one that is
        closed (`rejection`). The result is empty where all targets lead to bad lines.

        Raises:
            AliasLoop: aliases that lead to each other, or too many addresses.
        """
        return self._remembered(self._expansions, address, self._expand)

    def _expand(self, address: str) -> tuple[str, ...] | None:
        first = self.targets(address)
        if first is None:
            return None
        settled: dict[str, str] = {}
        pending = [(address, 0)]
        width = 1
        while pending:
            current, depth = pending.pop()
            key = lookup_key(current)
            if key in settled:
                continue
            targets = self.targets(current) if depth else first
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
        """The aliases that all mail for an address goes through, at most `CHAIN_LIMIT`; empty where nothing matches.

        These are the address itself and, while there is a single target, that target. A detail without an entry of its
        own is left out.
        """
        return self._remembered(self._chains, address, self._chain)

    def _chain(self, address: str) -> tuple[str, ...]:
        links: list[str] = []
        while len(links) < CHAIN_LIMIT and (targets := self.targets(address)) is not None:
            links.append(address if self.lists(address) else _without_detail(address))
            if len(targets) != 1 or lookup_key(targets[0]) == lookup_key(address):
                break
            address = targets[0]
        return tuple(links)

    def counted(self, address: str) -> tuple[str, ...]:
        """The aliases of `chain`, as they count for a rate: one with all its details, and a catch-all with all that
        leads to the same addresses. So a domain that stands for another (`@a.example @b.example`) counts user by user.
        """
        return tuple([self._counted(link) for link in self.chain(address)])

    def _counted(self, link: str) -> str:
        pattern = self._first(link)
        return " ".join([pattern, *(self.targets(link) or ())]) if pattern.startswith("@") else pattern

    def _remembered(self, memory: dict[str, T], address: str, look_up: Callable[[str], T]) -> T:
        """The result of a look-up. It is remembered where it is short, and for addresses as they stand on the left:
        clients can ask for any number of others, by a detail, a catch-all or the case of letters, and would fill the
        memory."""
        if address in memory:
            return memory[address]
        found = look_up(address)
        if address in self.entries and (found is None or len(found) <= REMEMBERED_ADDRESSES):
            if len(memory) >= REMEMBERED:
                memory.clear()
            memory[address] = found
        return found

    def targets(self, address: str) -> tuple[str, ...] | None:
        """The targets of the first pattern that matches, in the order of virtual(5); None where none does.

        Empty behind a bad line, and behind the catch-all where an unreadable line may be for this address.
        """
        for pattern, unmatched in self.patterns(address):
            targets = self.entries.get(pattern)
            if targets is not None:
                if self._is_hidden(pattern):
                    return ()
                if pattern in self.closed:
                    return (address,)
                return tuple([_filled_in(target, address, unmatched) for target in targets])
        return None

    def _first(self, address: str) -> str:
        """The first pattern of the table that matches; empty where none does."""
        return next((pattern for pattern, _ in self.patterns(address) if pattern in self.entries), "")

    def _is_hidden(self, pattern: str) -> bool:
        """Whether a pattern is a catch-all beside an unreadable line, which may be for any address of the domain."""
        return pattern.startswith("@") and self.bad.hide(pattern[1:])

    def patterns(self, address: str) -> Iterator[tuple[str, str]]:
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
    """The target for this address: `@other` gets its user, any other target the detail that was not matched."""
    if target.startswith("@"):
        return split(address).local + target
    if not unmatched:
        return target
    mailbox = split(target)
    return f"{quote(unquote(mailbox.local) + unmatched)}@{mailbox.domain}"
