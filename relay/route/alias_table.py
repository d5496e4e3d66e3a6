"""The alias table: which addresses are ours, and which addresses stand behind them.

It keeps the search order and meaning of Postfix's virtual(5), so that a site's table moves over as it is. `aliases`
reads it, `Router` decides what to do with the outcome; here is only the look-up.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from relay.mail.address import domain_of, lookup_key, normal_domain, quote, split, split_detail, unquote
from relay.route.bad_lines import NONE, BadLines

NESTING_LIMIT = 1000  # aliases of aliases, one below the other; Postfix virtual_alias_recursion_limit
EXPANSION_LIMIT = 1000  # addresses behind one alias; Postfix virtual_alias_expansion_limit
CHAIN_LIMIT = 10  # links of `chain`: nobody writes that many, and each costs every message a header field


class AliasLoop(Exception):
    """An alias expands without end, or past `EXPANSION_LIMIT` addresses; the text names the alias."""


@dataclass(frozen=True, slots=True)
class AliasTable:
    """A parsed table.

    Attributes:
        entries: targets by pattern: `user@domain`, `user` or `@domain`, each as `lookup_key` writes it. None behind a
            pattern whose line is bad: it is known, and for now leads nowhere.
        domains: the domains that the table serves: every one that stands on the left, with a user, as `@domain`, or
            bare. An address there that nothing matches is an unknown user.
        local_domains: where a `user` pattern applies: our counterpart of Postfix's myorigin and mydestination.
        bad: the lines that cannot be used, or not whole.
        partial: the patterns that have targets which cannot be read beside those in `entries`.
    """

    entries: Mapping[str, tuple[str, ...]]
    domains: frozenset[str]
    local_domains: frozenset[str]
    bad: BadLines = NONE
    partial: frozenset[str] = frozenset()

    def lists(self, address: str) -> bool:
        """Whether the address itself stands on the left: neither `@domain` nor a user without the detail counts."""
        key = lookup_key(address)
        return key in self.entries or (domain_of(address) in self.local_domains and split(key).local in self.entries)

    def matches(self, address: str) -> bool:
        """Whether any pattern of the table matches."""
        return self._targets(address) is not None

    def lacks_targets(self, address: str) -> bool:
        """Whether some of the targets behind an address cannot be read, as far as one alias leads to the next."""
        return any(
            next((pattern for pattern, _ in self._patterns(link) if pattern in self.entries), "") in self.partial
            for link in self.chain(address)
        )

    def expand(self, address: str) -> tuple[str, ...] | None:
        """The addresses that stand behind an address, aliases of aliases followed, each once; None where none match.

        An address that is its own target stays (`a@x a@x`, `@x @x`), beside the other targets if there are some. There
        are none at all where every way leads to a bad line.

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
            if len(targets) != 1 or lookup_key(targets[0]) == lookup_key(address):
                break
            address = targets[0]
        return tuple(links)

    def _targets(self, address: str) -> tuple[str, ...] | None:
        """The right-hand side of the first pattern that matches, in the order of virtual(5); none at all behind a bad
        line, or behind the catch-all where a line that cannot be read may have been for this address."""
        for pattern, unmatched in self._patterns(address):
            targets = self.entries.get(pattern)
            if targets is not None:
                if pattern.startswith("@") and self.bad.hide(pattern[1:]):
                    return ()
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
