"""Mail addresses as RFC 5321 writes them, split and compared without guessing.

An address is a `str` (`local@domain`, the null sender is the empty string) everywhere in the relay. The local part
keeps its quotes and its case; domains are compared in ASCII lower case.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable
from functools import lru_cache, wraps
from typing import NamedTuple, TypeVar

import idna

_ATEXT = r"A-Za-z0-9!#$%&'*+/=?^_`{|}~\u0080-\U0010ffff-"
DOT_STRING = re.compile(rf"[{_ATEXT}]+(?:\.[{_ATEXT}]+)*\Z")
QUOTED_STRING = re.compile(r'"(?:[\x20\x21\x23-\x5b\x5d-\x7e\u0080-\U0010ffff]|\\[\x20-\x7e])*"\Z')
_LABEL = r"(?!-)[A-Za-z0-9_\u0080-\U0010ffff-]{1,63}(?<!-)"
DOMAIN = re.compile(rf"{_LABEL}(?:\.{_LABEL})*\Z")
ADDRESS_LITERAL = re.compile(r"\[(?:\d{1,3}(?:\.\d{1,3}){3}|IPv6:[0-9A-Fa-f:.]+)\]\Z", re.IGNORECASE)

LOCAL_PART_OCTETS = 64  # RFC 5321 section 4.5.3.1.1: what everybody has to take, and so the most that we make up
LOCAL_PART_TAKEN = 640  # what others make up may be longer, as far as a line of a header holds the whole address
DOMAIN_OCTETS = 255  # RFC 5321 section 4.5.3.1.2

DETAIL_SEPARATOR = "+"  # RFC 5233 section 1 leaves it to the site: this is what Postfix sites set and users type


T = TypeVar("T")

_REMEMBERED = 1024  # short texts, by each function: at most a megabyte


def _remembered(function: Callable[[str], T]) -> Callable[[str], T]:
    """Keeps results: every stage of a message asks the same of the same few addresses."""
    kept = lru_cache(maxsize=_REMEMBERED)(function)

    @wraps(function)
    def look_up(text: str) -> T:
        return kept(text) if len(text) <= LOCAL_PART_OCTETS + 1 + DOMAIN_OCTETS else function(text)

    return look_up


class BadAddress(ValueError):
    """The text is not a mailbox of RFC 5321 section 4.1.2; the message says why."""


class Mailbox(NamedTuple):
    """An address in its two parts, both as they were written."""

    local: str
    domain: str

    def __str__(self) -> str:
        return f"{self.local}@{self.domain}" if self.domain else self.local


@_remembered
def split(address: str) -> Mailbox:
    """Split at the last `@` outside quotes; the domain is empty where there is none. Nothing is validated."""
    if address.startswith('"'):
        end = _closing_quote(address)
        at = address.find("@", end + 1) if end else -1
    else:
        at = address.rfind("@")
    return Mailbox(address, "") if at < 0 else Mailbox(address[:at], address[at + 1 :])


def _closing_quote(text: str) -> int:
    position = 1
    while position < len(text):
        if text[position] == "\\":
            position += 1
        elif text[position] == '"':
            return position
        position += 1
    return 0


def parse(address: str) -> Mailbox:
    """The two parts of a full address.

    Raises:
        BadAddress: no `@` or two, an empty or malformed part, or one over `LOCAL_PART_TAKEN` or `DOMAIN_OCTETS`.
    """
    mailbox = split(address)
    if not mailbox.domain:
        raise BadAddress("the address has no domain")
    if not (DOT_STRING.match(mailbox.local) or QUOTED_STRING.match(mailbox.local)):
        raise BadAddress("the local part is malformed")
    if not (DOMAIN.match(mailbox.domain) or ADDRESS_LITERAL.match(mailbox.domain)):
        raise BadAddress("the domain is malformed")
    if len(mailbox.local.encode()) > LOCAL_PART_TAKEN:
        raise BadAddress(f"the local part is longer than {LOCAL_PART_TAKEN} octets")
    if len(mailbox.domain.encode()) > DOMAIN_OCTETS:
        raise BadAddress(f"the domain is longer than {DOMAIN_OCTETS} octets")
    return mailbox


def unquote(local: str) -> str:
    """The local part's value: a quoted string loses its quotes and backslashes (RFC 5321 section 4.1.2)."""
    if QUOTED_STRING.match(local):
        return re.sub(r"\\(.)", r"\1", local[1:-1])
    return local


def quote(local: str) -> str:
    """The local part as it must be written: as it is where that is a Dot-string, otherwise quoted."""
    if DOT_STRING.match(local):
        return local
    return '"' + re.sub(r'(["\\])', r"\\\1", local) + '"'


@_remembered
def normal_domain(domain: str) -> str:
    """The domain for comparison and look-up: lower-case A-labels (RFC 5890), no final dot.

    A domain that IDNA refuses stays as it is, lowered: it then simply equals nothing.
    """
    domain = domain.rstrip(".").lower()
    if domain.isascii():
        return domain
    try:
        return idna.encode(domain, uts46=True).decode("ascii").rstrip(".")
    except idna.IDNAError:
        return domain


@_remembered
def lookup_key(address: str) -> str:
    """The address for tables and comparison: without case, without needless quotes, in NFC, the domain normal.

    RFC 5321 section 2.4 leaves the case of a local part to the host that owns it; here we are that host.
    """
    if address.isascii() and '"' not in address:
        return address.lower().rstrip(".")
    mailbox = split(address)
    local = unicodedata.normalize("NFC", unquote(mailbox.local).lower())
    return str(Mailbox(quote(local), normal_domain(mailbox.domain)))


def split_detail(local: str) -> tuple[str, str]:
    """User and detail of a local part (RFC 5233), both without quotes, the detail with its `+` or empty.

    A separator that comes first separates nothing: there would be no user left.
    """
    value = unquote(local)
    position = value.find(DETAIL_SEPARATOR)
    return (value[:position], value[position:]) if position > 0 else (value, "")


def domain_of(address: str) -> str:
    """The normal domain of an address; empty for the null sender."""
    return normal_domain(split(address).domain)


def is_ascii(*addresses: str) -> bool:
    """Whether all of them can be written without SMTPUTF8 (RFC 6531)."""
    return all(address.isascii() for address in addresses)
