"""The users of a domain: a file that lists them, and tables that are asked about one address."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from relay.lookup.regexp import RegexpFile
from relay.lookup.source import Source
from relay.mail.address import domain_of, is_domain, lookup_key, normal_domain, parse, quote, split, split_detail
from relay.table_files.bad_lines import NONE, BadLine, BadLines, is_utf8, readable_domain, shown
from relay.table_files.reloaded_file import ReloadedFile

_FIRST_WORD = re.compile(r'(?:"(?:\\.|[^"\\])*")?\S*')  # of a line; a quoted string belongs to it


@dataclass(frozen=True, slots=True)
class DomainUsers:
    """What a file says of the users of one domain.

    Attributes:
        users: as lookup keys; `@domain` is everyone.
        bad: the lines that cannot be read.
    """

    users: frozenset[str]
    bad: BadLines = NONE


UsersSource = ReloadedFile[DomainUsers] | Source


@dataclass(frozen=True, slots=True)
class Users:
    """The users of one domain: whoever one of the sources has. In a table any value makes a user."""

    sources: Sequence[UsersSource]

    @property
    def files(self) -> tuple[ReloadedFile[DomainUsers], ...]:
        return tuple([source for source in self.sources if isinstance(source, ReloadedFile)])

    @property
    def bad_lines(self) -> Sequence[BadLine]:
        """The lines of the files that cannot be read."""
        return [line for file in self.files for line in file.value.bad.lines]

    def hides(self, domain: str) -> bool:
        """Whether an unreadable line of a file may be for an unknown user."""
        return any(file.value.bad.hide(domain) for file in self.files)

    async def lists(self, address: str) -> bool:
        """Whether a source names this address itself, which a regular expression never does.

        Raises:
            SourceUnavailable: a table cannot be asked now.
        """
        key = lookup_key(address)
        for source in self.sources:
            if not isinstance(source, RegexpFile) and await _has(source, key):
                return True
        return False

    async def has(self, address: str) -> bool:
        """Whether an address is one of a user; `user+detail` is `user`. A regular expression is for whole addresses.

        Raises:
            SourceUnavailable: a table cannot be asked now.
        """
        domain = domain_of(address)
        user = lookup_key(f"{quote(split_detail(split(address).local)[0])}@{domain}")
        whole = lookup_key(address)
        for key in dict.fromkeys((whole, user, f"@{domain}")):
            for source in self.sources:
                if not isinstance(source, RegexpFile):
                    if await _has(source, key):
                        return True
                elif key == whole and await source.get(address) is not None:
                    return True
        return False


async def _has(source: UsersSource, key: str) -> bool:
    return key in source.value.users if isinstance(source, ReloadedFile) else await source.get(key) is not None


def parse_recipients(text: str, source: str, domain: str) -> DomainUsers:
    """The users of a domain, from a file with one address or local part a line; `@domain` is everyone.

    `#` opens a comment line. Only the first word of a line is read, so that a file of Postfix's relay_recipient_maps
    can be used. Addresses of other domains are ignored, so that several domains can share a file. Any other line is in
    `DomainUsers.bad`, and the log names it.

    Raises:
        ValueError: not one line can be read; the text names the first.
    """
    users, bad, count = set[str](), list[BadLine](), 0
    for number, line in enumerate(text.split("\n"), 1):
        entry = line.strip()
        if not entry or entry.startswith("#"):
            continue
        first_word = _FIRST_WORD.match(entry)
        assert first_word is not None  # it matches any text
        entry = first_word[0]
        count += 1
        try:
            user = _user(entry, domain)
        except ValueError as error:
            if readable_domain(entry) in ("", domain):
                effect = f"unknown users of {domain} hear 451 4.3.5"
                bad.append(BadLine(f"{source}:{number}", f"{shown(entry)}: {error}", effect))
            continue
        if user:
            users.add(user)
    if bad and len(bad) == count:
        raise ValueError(f"{bad[0].where}: {bad[0].problem}")
    lines = BadLines(tuple(bad), frozenset([domain] if bad else []))
    lines.report(source)
    return DomainUsers(frozenset(users), lines)


def _user(entry: str, domain: str) -> str:
    """The lookup key of an entry, `@domain` for every user; empty where it is for another domain.

    Raises:
        ValueError: it cannot be read.
    """
    if not is_utf8(entry):
        raise ValueError("not UTF-8")
    if entry.startswith("@") and is_domain(entry[1:]):
        return f"@{domain}" if normal_domain(entry[1:]) == domain else ""
    mailbox = parse(entry if split(entry).domain else f"{entry}@{domain}")
    return lookup_key(str(mailbox)) if normal_domain(mailbox.domain) == domain else ""
