r"""Mail addresses of RFC 5321: parsing, quoting, and the normal forms for comparison.

An address is a `str` everywhere in the relay (`local@domain`; the null sender is the empty string). The same address
may be written in several ways: `"joe\.user"@x.example`, `"joe.user"@x.example` and `joe.user@x.example.` are equal.
`parse` returns the normal form, with the least quoting and no final dot; only that form is stored and sent.
`normal_address` and `lookup_key` return the form for comparison and look-up.
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
_ATOMS_AND_DOTS = re.compile(rf"[{_ATEXT}.]+\Z")
QUOTED_STRING = re.compile(r'"(?:[\x20\x21\x23-\x5b\x5d-\x7e\u0080-\U0010ffff]|\\[\x20-\x7e])*"\Z')
_LABEL = r"(?!-)[A-Za-z0-9_\u0080-\U0010ffff-]{1,63}(?<!-)"
DOMAIN = re.compile(rf"{_LABEL}(?:\.{_LABEL})*\Z")
ADDRESS_LITERAL = re.compile(r"\[(?:\d{1,3}(?:\.\d{1,3}){3}|IPv6:[0-9A-Fa-f:.]+)\]\Z", re.IGNORECASE)

LOCAL_PART_OCTETS = 64  # RFC 5321 section 4.5.3.1.1: every host accepts that many, so we never write more
LOCAL_PART_TAKEN = 640  # accepted from others, as long as a header line holds the whole address
DOMAIN_OCTETS = 255  # RFC 5321 section 4.5.3.1.2

DETAIL_SEPARATOR = "+"  # RFC 5233 section 1 leaves it to the site; Postfix sites use this one


T = TypeVar("T")

_CACHE_ENTRIES = 1024  # of each function, for short texts: at most a megabyte


def _cached(function: Callable[[str], T]) -> Callable[[str], T]:
    """Caches the results of short texts, because every stage of a message asks for the same few addresses."""
    from_cache = lru_cache(maxsize=_CACHE_ENTRIES)(function)

    @wraps(function)
    def look_up(text: str) -> T:
        return from_cache(text) if len(text) <= LOCAL_PART_OCTETS + 1 + DOMAIN_OCTETS else function(text)

    return look_up


class BadAddress(ValueError):
    """The text is not a mailbox of RFC 5321 section 4.1.2; the message says why."""


class Mailbox(NamedTuple):
    """The two parts of an address."""

    local: str
    domain: str

    def __str__(self) -> str:
        return f"{self.local}@{self.domain}" if self.domain else self.local


@_cached
def split(address: str) -> Mailbox:
    """Splits at the last `@` outside quotes. Both parts stay as written; the domain is empty where there is no `@`.

    Nothing is validated.
    """
    if address.startswith('"'):
        end = _closing_quote(address)
        at = address.find("@", end + 1) if end else -1
    else:
        at = address.rfind("@")
    return Mailbox(address, "") if at < 0 else Mailbox(address[:at], address[at + 1 :])


def _closing_quote(text: str) -> int:
    """The position of the quote that ends a quoted string; 0 where there is none."""
    position = 1
    while position < len(text):
        if text[position] == "\\":
            position += 1
        elif text[position] == '"':
            return position
        position += 1
    return 0


def parse(address: str) -> Mailbox:
    """The two parts of a full address in normal form: a local part without needless quotes, a domain without final dot.

    Dots may stand anywhere in a local part, as in Postfix: older mobile carriers of Japan have given out addresses like
    `taro..y.@docomo.example`. The normal form quotes them (RFC 5321 section 4.1.2). The case of both parts stays.

    Raises:
        BadAddress: there is no `@` or one too many, a part is empty, malformed, or longer than `LOCAL_PART_TAKEN` or
            `DOMAIN_OCTETS`, or the text cannot be encoded in UTF-8.
    """
    local, domain = split(address)
    domain = domain.removesuffix(".")
    if not domain:
        raise BadAddress("the address has no domain")
    if not is_local_part(local):
        raise BadAddress("the local part is malformed")
    if not (DOMAIN.match(domain) or ADDRESS_LITERAL.match(domain)):
        raise BadAddress("the domain is malformed")
    try:
        octets = len(local.encode()), len(domain.encode())
    except UnicodeEncodeError:
        raise BadAddress("the address is not valid UTF-8") from None
    if octets[0] > LOCAL_PART_TAKEN:
        raise BadAddress(f"the local part is longer than {LOCAL_PART_TAKEN} octets")
    if octets[1] > DOMAIN_OCTETS:
        raise BadAddress(f"the domain is longer than {DOMAIN_OCTETS} octets")
    return Mailbox(quote(unquote(local)), domain)


def is_domain(text: str) -> bool:
    """Whether the text is a domain name, with or without a final dot."""
    return bool(DOMAIN.match(text.removesuffix(".")))


def is_local_part(text: str) -> bool:
    """Whether the text is a local part that we accept: a quoted string, or atoms and dots in any order."""
    return bool(_ATOMS_AND_DOTS.match(text) or QUOTED_STRING.match(text))


def unquote(local: str) -> str:
    """The value of a local part: a quoted string without its quotes and backslashes (RFC 5321 section 4.1.2)."""
    if QUOTED_STRING.match(local):
        return re.sub(r"\\(.)", r"\1", local[1:-1])
    return local


def quote(local: str) -> str:
    """The written form of a local part's value: unchanged where it is a Dot-string, otherwise quoted."""
    if DOT_STRING.match(local):
        return local
    return '"' + re.sub(r'(["\\])', r"\\\1", local) + '"'


def normal_local(local: str) -> str:
    """The local part with the least quoting: the same for all forms that RFC 5321 section 4.1.2 calls equivalent.

    Text that is no local part stays as it is.
    """
    return quote(unquote(local)) if is_local_part(local) else local


@_cached
def normal_domain(domain: str) -> str:
    """The domain for comparison and look-up, in lower-case A-labels (RFC 5890), no final dot.

    A domain that IDNA refuses is only lower-cased; it then equals no valid domain.
    """
    domain = domain.rstrip(".").lower()
    if domain.isascii():
        return domain
    try:
        return idna.encode(domain, uts46=True).decode("ascii").rstrip(".")
    except idna.IDNAError:
        return domain


def normal_address(address: str) -> str:
    """The address in the form of `parse`, with its domain normal, too: the same for equal mailboxes.

    Nothing is validated; the null sender stays empty.
    """
    local, domain = split(address)
    return str(Mailbox(normal_local(local), normal_domain(domain)))


@_cached
def lookup_key(address: str) -> str:
    """The key of an address, or of a local part alone, in tables: the normal form in NFC and lower case.

    RFC 5321 section 2.4 leaves the case of a local part to the host that owns it; here we are that host.
    """
    if address.isascii() and '"' not in address and ".@" not in address and ".." not in f".{address}.":
        return address.lower()  # nearly every address
    return normal_address(unicodedata.normalize("NFC", address.lower()))


def split_detail(local: str) -> tuple[str, str]:
    """User and detail of a local part (RFC 5233), both without quotes. The detail begins with its `+`, or is empty.

    A separator at the beginning does not count, because the user would be empty.
    """
    value = unquote(local)
    position = value.find(DETAIL_SEPARATOR)
    return (value[:position], value[position:]) if position > 0 else (value, "")


@_cached
def domain_of(address: str) -> str:
    """The normal domain of an address; empty for the null sender."""
    return normal_domain(split(address).domain)


def is_ascii(*addresses: str) -> bool:
    """Whether all the addresses can be written without SMTPUTF8 (RFC 6531)."""
    return all(address.isascii() for address in addresses)
