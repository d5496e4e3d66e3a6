"""Which senders a user may use: his own, and those of the file `auth.senders` (lines `name address-or-@domain…`).

The rule is for the envelope sender and for every author in From alike. Addresses are compared as everywhere in the
relay: without regard to case, in any spelling of a domain, and `user+detail` is `user`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from relay.accounts.names import check_name, name_key
from relay.mail.address import domain_of, is_domain, lookup_key, normal_domain, parse, quote, split, split_detail
from relay.srs.address import is_srs
from relay.srs.reply_address import is_reply
from relay.table_files.bad_lines import NONE, BadLine, BadLines, is_utf8, shown
from relay.table_files.reloaded_file import ReloadedFile


@dataclass(frozen=True, slots=True)
class SenderTable:
    """The senders of the file, by the keys of the names: lookup keys of addresses, and `@domain` for a whole domain."""

    by_name: Mapping[str, frozenset[str]]
    bad: BadLines = NONE


class UserSenders:
    """Tells which senders are whose.

    Args:
        local_domains: those in which a user without `@` in his name has the address of that name.
        table: the file; None where there is none.
        srs_domain: the domain of our SRS and reply addresses. They stand for people elsewhere, so that an entry for the
            whole domain does not include them.
    """

    def __init__(
        self, local_domains: Sequence[str], table: ReloadedFile[SenderTable] | None = None, *, srs_domain: str = ""
    ) -> None:
        self._local_domains = tuple(local_domains)
        self._srs_domain = srs_domain
        self._table = table

    def may_use(self, user: str, address: str) -> bool:
        """Whether a user may write as an address. The null sender is everybody's."""
        if not address:
            return True
        local, domain = split(address)
        plain = f"{quote(split_detail(local)[0])}@{domain}"
        keys = {lookup_key(address), lookup_key(plain)}
        if domain_of(address) != self._srs_domain or not (is_srs(address) or is_reply(address)):
            keys.add(f"@{domain_of(address)}")
        return not self.of(user).isdisjoint(keys)

    def of(self, user: str) -> frozenset[str]:
        """All senders of a user, as in `SenderTable`."""
        own = (user,) if "@" in user else [f"{quote(user)}@{domain}" for domain in self._local_domains]
        listed = frozenset[str]() if self._table is None else self._table.value.by_name.get(name_key(user), frozenset())
        return listed.union(lookup_key(address) for address in own)


def parse_senders(text: str, source: str) -> SenderTable:
    """The senders of a file; several lines for a name add up, and `#` opens a comment line.

    What cannot be read is in `SenderTable.bad`, and the log names it; the rest of its line counts.

    Raises:
        ValueError: not one line can be used; the text names the first.
    """
    senders, bad = defaultdict[str, set[str]](set), list[BadLine]()
    for number, line in enumerate(text.split("\n"), 1):
        name, *entries = line.split() or [""]
        if not name or name.startswith("#"):
            continue
        where = f"{source}:{number}"
        try:
            check_name(name)
            if not entries:
                raise ValueError("no address or @domain follows the name")
        except ValueError as error:
            bad.append(BadLine(where, f"{shown(name)}: {error}", "the line gives nobody a sender"))
            continue
        for entry in entries:
            try:
                senders[name_key(name)].add(sender_key(entry))
            except ValueError as error:
                effect = f"{shown(name)} may not use it"
                bad.append(BadLine(where, f"{shown(entry)}: {error}", effect))
    if bad and not any(senders.values()):
        raise ValueError(f"{bad[0].where}: {bad[0].problem}")
    lines = BadLines(tuple(bad))
    lines.report(source)
    return SenderTable({name: frozenset(addresses) for name, addresses in senders.items()}, lines)


def sender_key(entry: str) -> str:
    """The key of an entry: of an address, or `@domain`.

    Raises:
        ValueError: it is neither.
    """
    if not is_utf8(entry):
        raise ValueError("not UTF-8")
    if entry.startswith("@"):
        if not is_domain(entry[1:]):
            raise ValueError("what follows the @ is no domain")
        return f"@{normal_domain(entry[1:])}"
    if "@" not in entry:
        raise ValueError("neither an address nor @domain")
    return lookup_key(str(parse(entry)))
