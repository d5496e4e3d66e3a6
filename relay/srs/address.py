"""The Sender Rewriting Scheme: a foreign envelope sender becomes an address of ours, and its bounces find the way home.

Addresses are those of PostSRSd, libsrs2, Mail::SRS and pysrs. With the compatible hash they are so octet for octet, and
with the same secret each reads what the others wrote; but it covers the fields with nothing between them, so that the
hash for `joe` of `victim.com` is good for `mjoe` of `victim.co`, too. The framed hash covers the text of the address as
it stands, and the tag. Everything here is a function of its arguments; `now` is in seconds since 1970.
"""

from __future__ import annotations

import base64
import hmac
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

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

if TYPE_CHECKING:
    from relay.config.model import Config

Separator = Literal["=", "+", "-"]
Alphabet = Literal["base64", "url"]

_TAG = re.compile(r"SRS([01])([=+-])", re.IGNORECASE | re.ASCII)
_DAY = 86400  # seconds
_DAYS = 1024  # the time stamp counts days modulo this
_DIGITS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"
_UNGUESSABLE = 8  # characters of a hash, 40 bits: at a million tries a second it takes days to find one
_STAMP = re.compile(r"[A-Z2-7]{2}\Z", re.IGNORECASE | re.ASCII)
_TOKEN_ID = re.compile(r"[a-z0-9]+\Z")
_TO_URL = str.maketrans("+/", "-_")
_FROM_URL = bytes.maketrans(b"-_", b"+/")


class SrsError(ValueError):
    """The address cannot be rewritten; the text says why and is fit for an SMTP reply."""


class BadSyntax(SrsError):
    """Not an address, or not an SRS address, or one with fields missing."""


class Forged(SrsError):
    """The hash was made with none of the secrets, or over something else."""


class Expired(SrsError):
    """The hash is right and the time stamp is not of the days that count; a day that is still to come is not either."""


class TooLong(SrsError):
    """The rewritten local part would pass the 64 octets of RFC 5321 section 4.5.3.1.1."""


@dataclass(frozen=True, slots=True)
class Scheme:
    """How addresses are signed and verified.

    Attributes:
        domain: the alias domain, where SRS addresses are at home; senders of this very domain stay as they are.
        secrets: HMAC keys; the first signs, every one verifies.
        separator: stands after the tag of what is written; all three are read.
        hash_length: characters of the hash that is written, at most 27 (all of HMAC-SHA1 in base64).
        hash_min: characters that a hash must have at least to be read.
        max_age: days for which an address is good.
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
    """What an SRS address with an empty host names: a sender that is stored under `id` (lower-case)."""

    id: str


def read_secrets(path: Path) -> tuple[bytes, ...]:
    """The secrets of a file, one a line as PostSRSd keeps them; blank lines do not count.

    Raises:
        OSError: the file cannot be read.
        ValueError: there is no secret in it.
    """
    secrets = tuple(line for line in path.read_bytes().splitlines() if line.strip())
    if not secrets:
        raise ValueError(f"{path}: no secret in it (one a line, the first signs)")
    return secrets


def scheme_from_config(config: Config) -> Scheme:
    """The scheme of the section [srs]; a `max_age` of broken days is rounded up, as time stamps count whole ones.

    Raises:
        OSError, ValueError: as `read_secrets`.
    """
    srs = config.srs
    return Scheme(
        domain=srs.domain,
        secrets=read_secrets(srs.secrets_file),
        separator=srs.separator,
        hash_length=srs.hash_length,
        hash_min=srs.hash_min,
        max_age=math.ceil(srs.max_age / _DAY),
        alphabet=srs.alphabet,
        framed=srs.hash == "framed",
        framed_since=srs.framed_since.timestamp() // _DAY if srs.framed_since is not None else -math.inf,
    )


def is_srs(address: str) -> bool:
    """Whether the local part begins SRS0 or SRS1 (in any case) and a separator. Says nothing about its hash."""
    return _TAG.match(unquote(split(address).local)) is not None


def forward(sender: str, scheme: Scheme, now: float) -> str:
    """The address of ours that stands for a sender: SRS0, or SRS1 over another forwarder's SRS0 or SRS1.

    A sender of the alias domain comes back as it is, in normal form. Where quotes are needed, they stand around the
    whole local part, before the tag.

    Raises:
        BadSyntax: the sender is not a mailbox of RFC 5321 section 4.1.2 (the null sender is none either).
        TooLong: the local part would pass 64 octets; `forward_token` is for these.
    """
    try:
        mailbox = parse(sender)
    except BadAddress as error:
        raise BadSyntax(f"the sender is not a valid address: {error}") from None
    if normal_domain(mailbox.domain) == normal_domain(scheme.domain):
        return str(mailbox)
    content, today = _content(mailbox.local), _day(now)
    host, rest = _hop(content, mailbox.domain)
    tag, text = ("1", f"{host}={rest}") if host else ("0", f"{_stamp(today)}={mailbox.domain}={content}")
    hashed = _framed(tag, text) if scheme.writes_framed(today) else _compatible(tag, text)
    return _written(tag, hashed, text, scheme)


def forward_token(token_id: str, scheme: Scheme, now: float) -> str:
    """The address of ours that stands for the sender stored under an id.

    The hash covers `=` before the id, which no other address has there: shifting the fields of an SRS0 address cannot
    make a token of it, nor the other way round.

    Raises:
        ValueError: the id has other characters than lower-case letters and digits; it could not survive case folding.
        TooLong: the local part would pass 64 octets.
    """
    if not _TOKEN_ID.match(token_id):
        raise ValueError(f"{token_id!r}: the id of a stored sender is lower-case letters and digits")
    stamp = _stamp(_day(now))
    return _written("0", f"{stamp}={token_id}", f"{stamp}=={token_id}", scheme)


def reverse(address: str, scheme: Scheme, now: float) -> str | Token:
    """One step back: the sender behind an SRS0 address, the previous forwarder's SRS0 address behind an SRS1.

    Case may have been folded on the way, and quotes put or taken away. The domain of the address is not looked at, the
    hash does not cover it.

    Raises:
        BadSyntax: not an SRS address, fields missing, or no valid address behind it.
        Forged: the hash is wrong, or shorter than `hash_min`.
        Expired: see there.
    """
    local = split(address).local
    normal = normal_local(local)
    try:
        return _behind(normal, scheme, now)
    except Forged as forged:
        if _content(local) == _content(normal):
            raise
        try:  # the hash of pysrs covers quoted pairs as they came, also those that are not needed
            return _behind(local, scheme, now)
        except (BadSyntax, Forged):
            raise forged from None  # rates count who forges, not who mistypes


def claimed(address: str, scheme: Scheme, now: float) -> str | Token:
    """What `reverse` says where the hash is right, whether it is or not. Never to be acted on alone.

    Raises:
        BadSyntax, Expired: as `reverse`, by what is written alone.
    """
    return _behind(normal_local(split(address).local), scheme, now, verified=False)


def is_guessable(address: str) -> bool:
    """Whether the hash that an SRS address brings is so short that many tries would find it."""
    content = _content(normal_local(split(address).local))
    tag = _TAG.match(content)
    return tag is not None and len(content[tag.end() :].partition("=")[0]) < _UNGUESSABLE


def _behind(local: str, scheme: Scheme, now: float, *, verified: bool = True) -> str | Token:
    """The address behind a local part; with `verified` off, the one that it claims."""
    content = _content(local)
    quoted = content != local
    tag = _TAG.match(content)
    if tag is None:
        raise BadSyntax("not an SRS address")
    given, text = _fields(content[tag.end() :], 2)
    today = _day(now)
    if tag[1] == "1":
        host, rest = _fields(text, 2)
        # There is no time stamp in it. The last with a compatible hash are as old by then as an address may be.
        compatible = not scheme.framed or today <= scheme.framed_since + scheme.max_age
        if verified:
            _verify(given, _inputs("1", text, scheme, compatible), scheme)
        if rest[:1] not in ("=", "+", "-"):
            raise BadSyntax("malformed SRS address: no SRS0 address in it")
        return _mailbox("SRS0" + rest, host, quoted)
    stamp, host, user = _fields(text, 3)
    if not _STAMP.match(stamp):
        raise BadSyntax("malformed SRS address: the time stamp is not two characters of base32")
    age = _age(stamp, today)
    if verified:
        inputs = _inputs("0", text, scheme, not scheme.writes_framed(today - age)) if host else [f"{stamp}={user}"]
        _verify(given, inputs, scheme)
    if age > scheme.max_age:
        raise Expired(f"expired SRS address: it is not of the last {scheme.max_age} days")
    return _mailbox(user, host, quoted) if host else Token(user.lower())


def _content(local: str) -> str:
    """What stands between the quotes, quoted pairs as they are: this is what gets hashed, as pysrs does."""
    return local[1:-1] if QUOTED_STRING.match(local) else local


def _is_domain(text: str) -> bool:
    return bool(DOMAIN.match(text) or ADDRESS_LITERAL.match(text))


def _hop(content: str, domain: str) -> tuple[str, str]:
    """The forwarder that an SRS1 address must lead back to, and the local part there without its SRS0.

    An SRS0 is opaque: other schemes (Exim, OpenSMTPD) use the same tag. Of an SRS1 the foreign hash is dropped. An
    ordinary sender, or an SRS1 with fields missing, has no such forwarder.
    """
    tag = _TAG.match(content)
    if tag is None:
        return "", content
    if tag[1] == "0":
        return domain, content[tag.start(2) :]
    _, host, rest = [*content[tag.end() :].split("=", 2), "", ""][:3]
    return (host, rest) if _is_domain(host) and rest[:1] in ("=", "+", "-") else ("", content)


def _fields(text: str, count: int) -> list[str]:
    fields = text.split("=", count - 1)
    if len(fields) < count:
        raise BadSyntax("malformed SRS address: fields are missing")
    return fields


def _mailbox(content: str, host: str, quoted: bool) -> str:
    """The address behind an SRS address that is quoted as a whole, or has none or its own quotes inside as PostSRSd and
    Mail::SRS write it. An empty local part can stand there without any.
    """
    try:
        return str(parse(f'"{content}"@{host}' if quoted or not content else f"{content}@{host}"))
    except BadAddress:
        raise BadSyntax("malformed SRS address: it leads back to no valid address") from None


def _written(tag: str, hashed: str, text: str, scheme: Scheme) -> str:
    """The address with the hash of some data and a text after it."""
    local = f"SRS{tag}{scheme.separator}{_sign(hashed, scheme)}={text}"
    if not DOT_STRING.match(local):
        local = f'"{local}"'
    if len(local.encode()) > LOCAL_PART_OCTETS:
        raise TooLong(f"the rewritten sender would have a local part of more than {LOCAL_PART_OCTETS} octets")
    return f"{local}@{scheme.domain}"


def _compatible(tag: str, text: str) -> str:
    """What the compatible hash covers: the fields after it, without what divides them."""
    return text.replace("=", "", 1 if tag == "1" else 2)


def _framed(tag: str, text: str) -> str:
    """What the framed hash covers: all that stands after it, and which kind of address that is.

    Only the last field may hold `=`, so a text can be divided in one way. A compatible hash never covers NUL, which no
    address holds: neither hash passes for the other.
    """
    return f"SRS{tag}\0{text}"


def _inputs(tag: str, text: str, scheme: Scheme, compatible: bool) -> list[str]:
    """What the hash of an address may cover, by the day that it is of."""
    framed = [_framed(tag, text)] if scheme.framed else []
    return [*framed, _compatible(tag, text)] if compatible else framed


def _mac(data: str, secret: bytes) -> bytes:
    """HMAC-SHA1 in base64 without the padding. Only ASCII letters are folded, whatever the locale."""
    try:
        octets = data.encode()
    except UnicodeEncodeError:
        raise BadSyntax("the address is not valid UTF-8") from None
    return base64.b64encode(hmac.digest(secret, octets.lower(), "sha1")).rstrip(b"=")


def _sign(data: str, scheme: Scheme) -> str:
    signature = _mac(data, scheme.secrets[0])[: scheme.hash_length].decode("ascii")
    return signature.translate(_TO_URL) if scheme.alphabet == "url" else signature


def _verify(given: str, inputs: Sequence[str], scheme: Scheme) -> None:
    """Compare in constant time and without regard to case, since addresses come back lowered.

    Whatever an exact comparison would find, this one finds too.
    """
    if len(given) < scheme.hash_min:
        raise Forged("forged SRS address: its hash is too short")
    folded = given.encode(errors="replace").translate(_FROM_URL).lower()
    for secret in scheme.secrets:
        for data in inputs:
            if hmac.compare_digest(_mac(data, secret)[: len(folded)].lower(), folded):
                return
    raise Forged("forged SRS address: its hash does not match")


def _day(now: float) -> int:
    return int(now // _DAY)


def _stamp(day: int) -> str:
    return _DIGITS[day % _DAYS >> 5] + _DIGITS[day & 31]


def _age(stamp: str, today: int) -> int:
    """Days since an address was written; one of tomorrow is 1023 days old."""
    high, low = (_DIGITS.index(digit) for digit in stamp.upper())
    return (today - (high << 5 | low)) % _DAYS
