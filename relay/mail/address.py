r"""Mail addresses as RFC 5321 writes them, split and compared without guessing.

An address is a `str` (`local@domain`, the null sender is the empty string) everywhere in the relay. One address may be
written in many ways: `"joe\.user"@x.example`, `"joe.user"@x.example` and `joe.user@x.example.` are the same. `parse`
makes the normal form of what comes in, with the least quoting and no final dot, and only that form is stored and sent.
Where an address is a key, `lookup_key` or `normal_address` makes it.
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
    """An address in its two parts."""

    local: str
    domain: str

    def __str__(self) -> str:
        return f"{self.local}@{self.domain}" if self.domain else self.local


@_remembered
def split(address: str) -> Mailbox:
    """Split at the last `@` outside quotes, both parts as they are written; the domain is empty where there is none.

    Nothing is validated.
    """
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
    """The two parts of a full address in normal form: a local part without needless quotes, a domain without final dot.

    Dots may stand anywhere in a local part, as in Postfix: older mobile carriers of Japan have given out addresses like
    `taro..y.@docomo.example`. Such a one is quoted, as RFC 5321 section 4.1.2 has it. The case of both parts stays.

    Raises:
        BadAddress: no `@` or two, an empty or malformed part, one over `LOCAL_PART_TAKEN` or `DOMAIN_OCTETS`, or what
            UTF-8 cannot hold.
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
    return Mailbox(normal_local(local), domain)


def is_domain(text: str) -> bool:
    """Whether the text is a domain name, with or without a final dot."""
    return bool(DOMAIN.match(text.removesuffix(".")))


def is_local_part(text: str) -> bool:
    """Whether the text is a local part that we take: a quoted string, or atoms and dots in any order."""
    return bool(_ATOMS_AND_DOTS.match(text) or QUOTED_STRING.match(text))


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


def normal_local(local: str) -> str:
    """The local part with the least quoting: one form of all that RFC 5321 section 4.1.2 calls equivalent.

    What is no local part stays as it is.
    """
    return quote(unquote(local)) if is_local_part(local) else local


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


def normal_address(address: str) -> str:
    """The address in normal form, as `parse` makes it, but with its domain normal, too: equal for equal mailboxes.

    Nothing is validated; the null sender stays what it is.
    """
    local, domain = split(address)
    return str(Mailbox(normal_local(local), normal_domain(domain)))


@_remembered
def lookup_key(address: str) -> str:
    """The address, or a local part alone, for tables and comparison: the normal form in NFC and without case.

    RFC 5321 section 2.4 leaves the case of a local part to the host that owns it; here we are that host.
    """
    if address.isascii() and '"' not in address and ".@" not in address and ".." not in f".{address}.":
        return address.lower()  # what nearly every address looks like
    return normal_address(unicodedata.normalize("NFC", address.lower()))


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
