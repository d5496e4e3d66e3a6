"""The Sender Rewriting Scheme: an envelope sender becomes an address of ours, and its bounces are led back.

Addresses are those of PostSRSd, libsrs2, Mail::SRS and pysrs: with the compatible hash they are the same octet for
octet, and with the same secret each program reads what the others write. With the framed hash only the relay itself
reads them, see `relay.srs.address_hash`. All functions are pure; `now` is in seconds since 1970.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from relay.mail.address import (
    ADDRESS_LITERAL,
    DOMAIN,
    DOT_STRING,
    LOCAL_PART_OCTETS,
    QUOTED_STRING,
    BadAddress,
    normal_domain,
    normal_local,
    parse,
    split,
    unquote,
)
from relay.srs.address_hash import compatible_input, framed_input, is_hash_of_any, make_hash

Separator = Literal["=", "+", "-"]
Alphabet = Literal["base64", "url"]

DAY = 86400  # seconds
_TAG = re.compile(r"SRS([01])([=+-])", re.IGNORECASE | re.ASCII)
_DAYS = 1024  # the time stamp counts days modulo this
_DIGITS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"
_UNGUESSABLE = 8  # characters of a hash, 40 bits: at a million tries a second it takes days to find one
_STAMP = re.compile(r"[A-Z2-7]{2}\Z", re.IGNORECASE | re.ASCII)
_NOT_UTF8 = "the address is not valid UTF-8"
_TOKEN_ID = re.compile(r"[a-z0-9]+\Z")


class SrsError(ValueError):
    """The address cannot be rewritten; the text says why and is fit for an SMTP reply."""


class BadSyntax(SrsError):
    """The text is not an address, not an SRS address, or an SRS address with fields missing."""


class Forged(SrsError):
    """The hash was made with none of the secrets, or over something else."""


class Expired(SrsError):
    """The hash is right, but the time stamp is too old or of a day to come."""


class TooLong(SrsError):
    """The rewritten local part would be longer than the 64 octets of RFC 5321 section 4.5.3.1.1."""


@dataclass(frozen=True, slots=True)
class Scheme:
    """How addresses are written and verified.

    Attributes:
        domain: the domain of SRS addresses; senders of this very domain are not rewritten.
        secrets: HMAC keys; the first signs, every one verifies.
        separator: stands after the tag in addresses that are written; all three separators are read.
        hash_length: characters of the hash that is written, at most 27 (all of HMAC-SHA1 in base64).
        hash_min: characters that the hash of an address must have at least.
        max_age: days for which an address is valid.
        alphabet: `url` writes `-_` for the `+/` of base64 (RFC 4648 section 5); both are read.
        framed: the hash is framed, not compatible.
        framed_since: the first day with a framed hash, counted from 1970; before it the compatible hash is written.
    """

    domain: str
    secrets: tuple[bytes, ...] = field(repr=False)
    separator: Separator = "="
    hash_length: int = 4
    hash_min: int = 4
    max_age: int = 21
    alphabet: Alphabet = "base64"
    framed: bool = False
    framed_since: float = -math.inf

    def writes_framed(self, day: int) -> bool:
        """Whether addresses get the framed hash on a day, counted from 1970."""
        return self.framed and day >= self.framed_since


@dataclass(frozen=True, slots=True)
class Token:
    """The sender behind an SRS address with an empty host: it is stored under `id` (lower case)."""

    id: str


def is_srs(address: str) -> bool:
    """Whether the local part begins with SRS0 or SRS1 (in any case) and a separator. The hash is not checked."""
    content = unquote(split(address).local) if address.startswith('"') else address
    return _TAG.match(content) is not None


def forward(sender: str, scheme: Scheme, now: float) -> str:
    """The address of ours for a sender: SRS0, or SRS1 over another forwarder's SRS0 or SRS1.

    A sender of the scheme's own domain is returned as it is, in normal form. Where quotes are needed, they stand around
    the whole local part, tag included.

    Raises:
        BadSyntax: the sender is not a mailbox of RFC 5321 section 4.1.2; the null sender is none either.
        TooLong: the local part would be longer than 64 octets; use `forward_token`.
    """
    try:
        mailbox = parse(sender)
    except BadAddress as error:
        raise BadSyntax(f"the sender is not a valid address: {error}") from None
    if normal_domain(mailbox.domain) == normal_domain(scheme.domain):
        return str(mailbox)
    content, today = _content(mailbox.local), _day(now)
    host, rest = _first_forwarder(content, mailbox.domain)
    tag, text = ("1", f"{host}={rest}") if host else ("0", f"{_stamp(today)}={mailbox.domain}={content}")
    hash_input = framed_input(tag, text) if scheme.writes_framed(today) else compatible_input(tag, text)
    return _written(tag, hash_input, text, scheme)


def forward_token(token_id: str, scheme: Scheme, now: float) -> str:
    """The address of ours for the sender stored under an id.

    In the address two `=` stand before the id and the hash covers one of them, which no other address has there. So
    shifting the fields of an SRS0 address does not make a token of it, nor the other way round.

    Raises:
        ValueError: the id has other characters than lower-case letters and digits, and case may be folded on the way.
        TooLong: the local part would be longer than 64 octets.
    """
    if not _TOKEN_ID.match(token_id):
        raise ValueError(f"{token_id!r}: the id of a stored sender is lower-case letters and digits")
    stamp = _stamp(_day(now))
    return _written("0", f"{stamp}={token_id}", f"{stamp}=={token_id}", scheme)


def reverse(address: str, scheme: Scheme, now: float) -> str | Token:
    """One step back: the sender behind an SRS0 address, or the first forwarder's SRS0 address behind an SRS1.

    Case may have been folded on the way, and quotes added or removed. The domain of the address is not checked: the
    hash does not cover it.

    Raises:
        BadSyntax: not an SRS address, fields missing, or no valid address behind it.
        Forged: the hash is wrong, or shorter than `hash_min`.
        Expired: the time stamp is too old or of a day to come.
    """
    local = split(address).local
    normal = normal_local(local)
    try:
        return _address_behind(normal, scheme, now)
    except Forged as forged:
        if _content(local) == _content(normal):
            raise
        try:  # the hash of pysrs covers quoted pairs as they came, also those that are not needed
            return _address_behind(local, scheme, now)
        except (BadSyntax, Forged):
            raise forged from None  # limits count forged addresses, not malformed ones


def read_unverified(address: str, scheme: Scheme, now: float) -> str | Token:
    """What `reverse` returns if the hash is right, but without checking it. Never to be acted on alone.

    Raises:
        BadSyntax, Expired: as `reverse`, by the text alone.
    """
    return _address_behind(normal_local(split(address).local), scheme, now, verified=False)


def is_guessable(address: str) -> bool:
    """Whether the hash in an SRS address is so short that it can be guessed by many tries."""
    content = _content(normal_local(split(address).local))
    tag = _TAG.match(content)
    return tag is not None and len(content[tag.end() :].partition("=")[0]) < _UNGUESSABLE


def _address_behind(local: str, scheme: Scheme, now: float, *, verified: bool = True) -> str | Token:
    """The address behind a local part; without `verified` the hash is not checked."""
    content = _content(local)
    quoted = content != local
    tag = _TAG.match(content)
    if tag is None:
        raise BadSyntax("not an SRS address")
    given_hash, text = _fields(content[tag.end() :], 2)
    today = _day(now)
    if tag[1] == "1":
        host, rest = _fields(text, 2)
        # An SRS1 has no time stamp. After `max_age` days with the framed hash no valid compatible one can be left.
        compatible = not scheme.framed or today <= scheme.framed_since + scheme.max_age
        if verified:
            _verify(given_hash, _hash_inputs("1", text, scheme, compatible), scheme)
        if rest[:1] not in ("=", "+", "-"):
            raise BadSyntax("malformed SRS address: no SRS0 address in it")
        return _mailbox("SRS0" + rest, host, quoted)
    stamp, host, user = _fields(text, 3)
    if not _STAMP.match(stamp):
        raise BadSyntax("malformed SRS address: the time stamp is not two characters of base32")
    age = _age(stamp, today)
    if verified:
        compatible = not scheme.writes_framed(today - age)
        inputs = _hash_inputs("0", text, scheme, compatible) if host else [f"{stamp}={user}"]
        _verify(given_hash, inputs, scheme)
    if age > scheme.max_age:
        raise Expired(f"expired SRS address: it is not of the last {scheme.max_age} days")
    return _mailbox(user, host, quoted) if host else Token(user.lower())


def _content(local: str) -> str:
    """The text between the quotes, with its quoted pairs: the hash covers it in this form, as that of pysrs does."""
    return local[1:-1] if QUOTED_STRING.match(local) else local


def _first_forwarder(content: str, domain: str) -> tuple[str, str]:
    """The forwarder that an SRS1 address leads back to, and the local part there without its `SRS0`.

    An SRS0 is opaque, because other schemes (Exim, OpenSMTPD) use the same tag. Of an SRS1 the other forwarder's hash
    is dropped. An ordinary sender, and an SRS1 with fields missing, has no such forwarder: the host is empty.
    """
    tag = _TAG.match(content)
    if tag is None:
        return "", content
    if tag[1] == "0":
        return domain, content[tag.start(2) :]
    _, host, rest = [*content[tag.end() :].split("=", 2), "", ""][:3]
    is_domain = DOMAIN.match(host) or ADDRESS_LITERAL.match(host)
    return (host, rest) if is_domain and rest[:1] in ("=", "+", "-") else ("", content)


def _fields(text: str, count: int) -> list[str]:
    fields = text.split("=", count - 1)
    if len(fields) < count:
        raise BadSyntax("malformed SRS address: fields are missing")
    return fields


def _mailbox(content: str, host: str, quoted: bool) -> str:
    """The address behind an SRS address.

    The SRS address may be quoted as a whole, or not at all, or have quotes inside as PostSRSd and Mail::SRS write them.
    An empty local part may be there without quotes.
    """
    try:
        return str(parse(f'"{content}"@{host}' if quoted or not content else f"{content}@{host}"))
    except BadAddress:
        raise BadSyntax("malformed SRS address: it leads back to no valid address") from None


def _written(tag: str, hash_input: str, text: str, scheme: Scheme) -> str:
    """The address with the hash over an input, and a text after it."""
    try:
        hashed = make_hash(hash_input, scheme.secrets[0], scheme.hash_length, url=scheme.alphabet == "url")
    except UnicodeEncodeError:
        raise BadSyntax(_NOT_UTF8) from None
    local = f"SRS{tag}{scheme.separator}{hashed}={text}"
    if not DOT_STRING.match(local):
        local = f'"{local}"'
    if len(local.encode()) > LOCAL_PART_OCTETS:
        raise TooLong(f"the rewritten sender would have a local part of more than {LOCAL_PART_OCTETS} octets")
    return f"{local}@{scheme.domain}"


def _hash_inputs(tag: str, text: str, scheme: Scheme, compatible: bool) -> list[str]:
    """What the hash of an address may cover; `compatible` if it may be of a day with the compatible hash."""
    framed = [framed_input(tag, text)] if scheme.framed else []
    return [*framed, compatible_input(tag, text)] if compatible else framed


def _verify(given_hash: str, inputs: Sequence[str], scheme: Scheme) -> None:
    """Raises Forged if the hash is too short or of none of the inputs, BadSyntax if these are not valid UTF-8."""
    if len(given_hash) < scheme.hash_min:
        raise Forged("forged SRS address: its hash is too short")
    try:
        is_right = is_hash_of_any(given_hash, inputs, scheme.secrets)
    except UnicodeEncodeError:
        raise BadSyntax(_NOT_UTF8) from None
    if not is_right:
        raise Forged("forged SRS address: its hash does not match")


def _day(now: float) -> int:
    return int(now // DAY)


def _stamp(day: int) -> str:
    return _DIGITS[day % _DAYS >> 5] + _DIGITS[day & 31]


def _age(stamp: str, today: int) -> int:
    """Days since an address was written; an address of tomorrow is 1023 days old."""
    high, low = (_DIGITS.index(digit) for digit in stamp.upper())
    return (today - (high << 5 | low)) % _DAYS
