"""The signing table: which of our keys sign for which author.

A rule is a pattern of addresses with the keys that sign for them. The first rule that matches and has an active key
decides. For authors without one the forwarder's keys sign.
"""

from __future__ import annotations

import heapq
import math
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

from relay.mail.address import DOMAIN, DOMAIN_OCTETS, LOCAL_PART_OCTETS
from relay.sign.keys import SigningKey

REMEMBERED = 1000  # authors whose keys are known without looking at the rules
AUTHORS_DOMAIN = "%"  # as the domain of a key, as in OpenDKIM: the key signs with the domain of each author


@dataclass(frozen=True, slots=True)
class Rule:
    """A pattern of authors, and the keys that sign for them.

    Attributes:
        pattern: of a whole address in lower case; `*` is any run of characters.
        keys: their domain may be `AUTHORS_DOMAIN`.
        ends: if False, the rules behind this one count as well.
    """

    pattern: str
    keys: tuple[SigningKey, ...]
    ends: bool = True

    @property
    def domain(self) -> str:
        """The pattern of the domain; a wildcard may include the at sign."""
        _, at, domain = self.pattern.rpartition("@")
        return domain if at else "*" + self.pattern.rpartition("*")[2]

    @property
    def user(self) -> str:
        """The pattern of the local part."""
        user, at, _ = self.pattern.rpartition("@")
        return user if at else self.pattern.rpartition("*")[0] + "*"

    @property
    def is_for_everyone(self) -> bool:
        """Whether all users of the matching domains are meant."""
        return self.pattern in (f"*@{self.domain}", self.domain)


class SigningTable:
    """Rules in the order in which they count.

    Args:
        forwarder: the keys that sign for all other authors.
    """

    def __init__(self, rules: Sequence[Rule], forwarder: Sequence[SigningKey]) -> None:
        self.rules = tuple(rules)
        self.forwarder = tuple(forwarder)
        self.needs_users = not all(rule.is_for_everyone for rule in rules)
        # Positions of the rules, of which there may be thousands: for one domain or all below it, and of all others.
        self._positions: dict[str, list[int]] = {}
        self._wildcard_positions: list[int] = []
        for position, rule in enumerate(rules):
            is_named = "*" not in rule.domain.removeprefix("*.")
            (self._positions.setdefault(rule.domain, []) if is_named else self._wildcard_positions).append(position)
        # Keys of one record may have other times, here and in OpenDKIM's tables.
        times = {time for key in self._all_keys() for time in (key.active_from, key.active_until)}
        self._turns = sorted(time for time in times if math.isfinite(time))  # when keys begin or cease to sign
        self._remembered = lru_cache(REMEMBERED)(self._selected)

    @property
    def keys(self) -> tuple[SigningKey, ...]:
        """Every key once, in the order in which they count."""
        return _distinct(self._all_keys())

    def _all_keys(self) -> Iterator[SigningKey]:
        yield from (key for rule in self.rules for key in rule.keys)
        yield from self.forwarder

    @property
    def domains(self) -> frozenset[str]:
        """The domains of the keys, without `AUTHORS_DOMAIN`."""
        return frozenset(key.domain for key in self.keys) - {AUTHORS_DOMAIN}

    def select(self, user: str, domain: str, now: float, *, proven: bool = True) -> tuple[SigningKey, ...]:
        """The keys that sign at a time (seconds since 1970) for one author.

        Args:
            user: the local part in lower case, unquoted; empty if it is not known, so that only wildcards match it.
            domain: normal; empty for no author.
            proven: the mail is proven to be from that domain; otherwise no key signs with the author's domain just
                because it is the author's (`AUTHORS_DOMAIN`).
        """
        if len(user) > LOCAL_PART_OCTETS or len(domain) > DOMAIN_OCTETS:
            return self._selected(user, domain, now, proven)
        # All times between two turns are alike: the first of them stands for all.
        turn = bisect_right(self._turns, now)
        alike = self._turns[turn - 1] if turn else -math.inf
        return self._remembered(user if self.needs_users else "", domain, alike, proven)

    def _selected(self, user: str, domain: str, now: float, proven: bool) -> tuple[SigningKey, ...]:
        matching = _distinct(self._matching_keys(f"{user}@{domain}", domain, now, proven))
        return matching or _distinct(_active(self.forwarder, now))

    def signs_as(self, domain: str, now: float) -> bool:
        """Whether every author in a normal domain gets a signature with that very domain.

        A key with `AUTHORS_DOMAIN` does not count: it is not known whether DNS has it.
        """
        for rule in self._rules_for(domain):
            active = _active(rule.keys, now)
            aligned = any(key.domain == domain for key in active)
            if active and rule.ends and not aligned:
                return False
            if aligned and rule.is_for_everyone:
                return True
        return any(key.domain == domain for key in _active(self.forwarder, now))

    def _matching_keys(self, address: str, domain: str, now: float, proven: bool) -> Iterator[SigningKey]:
        for rule in self._rules_for(domain):
            active = _active(rule.keys, now) if matches(rule.pattern, address) else []
            for key in active:
                if key.domain != AUTHORS_DOMAIN:
                    yield key
                elif proven and domain.isascii() and DOMAIN.match(domain):
                    yield replace(key, domain=domain)
            if active and rule.ends:
                return

    def _rules_for(self, domain: str) -> Iterator[Rule]:
        if not domain or len(domain) > DOMAIN_OCTETS:
            return
        labels = domain.split(".")
        names = [domain, *("*." + ".".join(labels[start:]) for start in range(1, len(labels)))]
        for position in heapq.merge(*(self._positions.get(name, ()) for name in names), self._wildcard_positions):
            rule = self.rules[position]
            if matches(rule.domain, domain):
                yield rule


def rules_of(entries: Iterable[tuple[SigningKey, Sequence[str]]]) -> list[Rule]:
    """The rules for keys and the From domains that each signs for: a domain, all below it (`*.example.org`), or `*`.

    Domains come before wildcards, longer wildcards before shorter ones; keys of one pattern sign together.
    """
    keys_by_pattern: dict[str, list[SigningKey]] = {}
    for key, patterns in entries:
        for pattern in patterns:
            keys_by_pattern.setdefault(pattern, []).append(key)
    exact = [pattern for pattern in keys_by_pattern if "*" not in pattern]
    wildcards = sorted(keys_by_pattern.keys() - exact, key=lambda pattern: (-len(pattern), pattern))
    return [Rule(f"*@{pattern}", tuple(keys_by_pattern[pattern])) for pattern in (*exact, *wildcards)]


def forwarder_keys(keys: Sequence[SigningKey], domain: str) -> list[SigningKey]:
    """The keys of the domain that signs for authors who are not ours; if it has none, of the first key's domain."""
    named = [key for key in keys if key.domain != AUTHORS_DOMAIN]
    if named and domain not in {key.domain for key in named}:
        domain = named[0].domain
    return [key for key in named if key.domain == domain]


def matches(pattern: str, text: str) -> bool:
    """Whether a text matches a pattern, in which `*` is any run of characters. Takes linear time."""
    first, *inner = pattern.split("*")
    if not inner:
        return text == pattern
    last = inner.pop()
    position, end = len(first), len(text) - len(last)
    if position > end or not text.startswith(first) or not text.endswith(last):
        return False
    for piece in inner:
        start = text.find(piece, position, end)
        if start < 0:
            return False
        position = start + len(piece)
    return True


def _active(keys: Iterable[SigningKey], now: float) -> list[SigningKey]:
    return [key for key in keys if key.state(now) == "active"]


def _distinct(keys: Iterable[SigningKey]) -> tuple[SigningKey, ...]:
    return tuple({key.record_name: key for key in keys}.values())
