"""The authors of a message: the domains of the addresses in its From fields (RFC 5322 section 3.6.2), however written.

A parser that gives up on a malformed field would let through what a reader's mail client shows as an address of ours.
So only what cannot be an address (quoted strings and comments) is parsed, and every domain in the rest counts.
"""

from __future__ import annotations

import re
from binascii import a2b_base64, a2b_qp
from collections.abc import Sequence
from functools import lru_cache
from itertools import islice
from typing import NamedTuple

from relay.authenticate.lenient_from import further_domains, lenient_name
from relay.mail.address import domain_of, normal_address, split
from relay.mail.mailbox_list import AUTHORS as MAILBOXES
from relay.mail.mailbox_list import IN_COMMENT, READ_CHARACTERS, read, text_of
from relay.mail.message import HeaderField, Message

FROM_OCTETS = 16384  # of all From fields: 200 long addresses
AUTHORS = 100  # domains of one message that are read: an internationalized name costs 30 microseconds
_LENIENT_NAME = lenient_name("from")
_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|\\.|[()]|[^"\\()]+|.', re.DOTALL)
_DOT = re.compile(r"(?<!\s)\s*+\.\s*+")  # RFC 5322 section 4.4: white space may stand around the dots of a domain
_DOMAIN = re.compile(r"@[\s\x00-\x1f]*([^\s\x00-,/:-@\[-^`{-\x7f]+)")  # to the first octet that no domain has
_ADDRESS = re.compile(r"""(?<![^][\s<>,;:()"\\@])[^][\s<>,;:()"\\@]++@[^\s\x00-,/:-@\[-^`{-\x7f]+""")
_MAILBOX_END = re.compile("[,;]")
_ENCODED_WORD = re.compile(r"=\?[^?\s]++\?([bq])\?([^?\s]*+)\?=", re.IGNORECASE)  # RFC 2047 section 2
_NOT_BASE64 = re.compile("[^A-Za-z0-9+/]+")


class Authors(NamedTuple):
    """Whom From names.

    Attributes:
        fields: how many From fields there are.
        domains: the normal domains of the authors. If there are more than `AUTHORS`, one more than that, perhaps empty
            ones. A domain counts as often as it is spelled differently, so that none beyond the limit is overlooked.
        doubtful: further normal domains that only some readers find in an odd From
            (`relay.authenticate.lenient_from`). Ordinary mail has none. They count against a message and never for it:
            a failure in their name is a failure of the message, and it is not signed in their name.
    """

    fields: int
    domains: tuple[str, ...]
    doubtful: tuple[str, ...]


_TOO_MANY = ("",) * (AUTHORS + 1)


def from_fields(message: Message) -> tuple[HeaderField, ...]:
    """The fields that some reader takes for From, top to bottom.

    RFC 5322 section 2.2 allows neither white space before a field's name, nor a line end before its colon, nor NUL in
    it; mailparser, rspamd and Dovecot accept some of these.
    """
    lines = message.all("")
    if not lines or not any(_LENIENT_NAME.match(line.raw) for line in lines):
        return message.all("from")
    return tuple(
        field for field in message.fields if field.name == "from" or (not field.name and _LENIENT_NAME.match(field.raw))
    )


def authors(message: Message) -> Authors:
    """The domains that From can be read to name."""
    fields = from_fields(message)
    return Authors(len(fields), _TOO_MANY, ()) if _is_too_long(fields) else _authors_in(fields)


def author_domains(message: Message) -> list[str]:
    """`Authors.domains` of a message."""
    return list(authors(message).domains)


def doubtful_domains(message: Message) -> list[str]:
    """`Authors.doubtful` of a message."""
    return list(authors(message).doubtful)


def possible_authors(message: Message) -> frozenset[str] | None:
    """Every address that From names, whichever way it is read, in normal form; empty without From.

    Returns None where it cannot be told: a field is too long, it names nobody, or a reader may find another domain.
    """
    fields = from_fields(message)
    if _is_too_long(fields):
        return None
    addresses = set[str]()
    for field in fields:
        text = text_of(field.value)
        mailboxes = read(text)
        if len(text) > READ_CHARACTERS or not 0 < len(mailboxes) < MAILBOXES:
            return None
        addresses.update(mailbox.address for mailbox in mailboxes)
        # Not only what `read` takes for the mailbox: of `ceo@a.example alice@a.example` it takes the second.
        bare = _ADDRESS.findall(_DOT.sub(".", _without_comments_and_quotes(text)))
        if len(bare) + len(addresses) > AUTHORS:
            return None
        addresses.update(map(normal_address, bare))
    named = _authors_in(fields)
    domains = {domain_of(address) for address in addresses}
    return frozenset(addresses) if domains.issuperset(named.domains + named.doubtful) else None


def _is_too_long(fields: Sequence[HeaderField]) -> bool:
    return len(fields) > AUTHORS or sum([len(field.raw) for field in fields]) > FROM_OCTETS


@lru_cache(maxsize=64)  # several stages ask for the authors of the same message
def _authors_in(fields: tuple[HeaderField, ...]) -> Authors:
    values = [field.value for field in fields]
    domains = _domains_of(values)
    further = further_domains(values)
    doubtful = _TOO_MANY if further is None else tuple(sorted(further.difference(domains)))
    return Authors(len(fields), tuple(domains), doubtful)


def _domains_of(values: Sequence[bytes]) -> list[str]:
    spellings = dict.fromkeys(domain for value in values for domain in _domains_in(value.decode("utf-8", "replace")))
    # Rewriting From reads authors with `mailbox_list`: whoever is an author there has to be one here.
    spellings |= dict.fromkeys(split(author.address).domain for value in values for author in read(text_of(value)))
    domains = [domain_of("@" + domain) for domain in islice(spellings, AUTHORS + 1)]
    return domains if len(domains) > AUTHORS else list(dict.fromkeys(domains))


def _domains_in(value: str) -> list[str]:
    bare = _without_comments_and_quotes(value)
    domains = _DOMAIN.findall(_DOT.sub(".", bare))
    if any("@" not in mailbox and not mailbox.isspace() for mailbox in _MAILBOX_END.split(bare) if mailbox):
        # An encoded word is no place for an address (RFC 2047 section 5), but some mail clients show one in it.
        text = " ".join(_decoded(*encoded_word) for encoded_word in _ENCODED_WORD.findall(value))
        domains += _DOMAIN.findall(_DOT.sub(".", text))
    return domains


def _decoded(encoding: str, text: str) -> str:
    """An encoded word read as UTF-8, leniently: all charsets in use share the letters of a domain."""
    if encoding in "qQ":
        octets = a2b_qp(text.encode("ascii", "ignore"), header=True)
    else:
        letters = _NOT_BASE64.sub("", text)
        octets = a2b_base64(letters[: len(letters) - (len(letters) % 4 == 1)] + "==")
    return octets.decode("utf-8", "replace")


def _without_comments_and_quotes(value: str) -> str:
    """The value without comments and without the content of quoted strings. A comment that is never closed stays.

    Inside a comment a quotation mark has no meaning (RFC 5322 section 3.2.2).
    """
    kept: list[str] = []
    comments: list[int] = []  # where each open comment begins in `kept`
    position = 0
    while match := (IN_COMMENT if comments else _TOKEN).match(value, position):
        token, position = match[0], match.end()
        if token == ")" and comments:
            del kept[comments.pop() :]
            continue
        if token == "(":
            comments.append(len(kept))
        kept.append('""' if len(token) > 1 and token[0] == '"' and not comments else token)
    return "".join(kept)
