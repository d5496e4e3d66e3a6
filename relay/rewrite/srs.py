"""The Sender Rewriting Scheme: a foreign envelope sender becomes an address of ours, and its bounces find the way home.

Addresses are those of PostSRSd, libsrs2, Mail::SRS and pysrs, octet for octet: with the same secret each reads what the
others wrote. Everything here is a function of its arguments; `now` is in seconds since 1970.
"""

from __future__ import annotations

import base64
import hmac
import math
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from relay.address import ADDRESS_LITERAL, DOMAIN, DOT_STRING, LOCAL_PART_OCTETS, QUOTED_STRING, normal_domain, split

if TYPE_CHECKING:
    from relay.config import Config

Separator = Literal["=", "+", "-"]
Alphabet = Literal["base64", "url"]

_TAG = re.compile(r"SRS([01])([=+-])", re.IGNORECASE | re.ASCII)
_DAY = 86400  # seconds
_DAYS = 1024  # the time stamp counts days modulo this
_DIGITS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"
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
    """

    domain: str
    secrets: tuple[bytes, ...] = field(repr=False)
    separator: Separator = "="
    hash_length: int = 4
    hash_min: int = 4
    max_age: int = 21
    alphabet: Alphabet = "base64"


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
    )


def is_srs(address: str) -> bool:
    """Whether the local part begins SRS0 or SRS1 (in any case) and a separator. Says nothing about its hash."""
    return _TAG.match(_content(split(address).local)) is not None


def forward(sender: str, scheme: Scheme, now: float) -> str:
    """The address of ours that stands for a sender: SRS0, or SRS1 over another forwarder's SRS0 or SRS1.

    A sender of the alias domain comes back unchanged. A quoted local part is quoted as a whole, around the tag.

    Raises:
        BadSyntax: the sender is not a mailbox of RFC 5321 section 4.1.2 (the null sender is none either).
        TooLong: the local part would pass 64 octets; `forward_token` is for these.
    """
    local, domain = split(sender)
    if not _is_mailbox(local, domain):
        raise BadSyntax("the sender is not a valid address")
    if normal_domain(domain) == normal_domain(scheme.domain):
        return sender
    content = _content(local)
    host, rest = _hop(content, domain)
    if host:
        signed = f"SRS1{scheme.separator}{_sign(host + rest, scheme)}={host}={rest}"
    else:
        stamp = _stamp(now)
        signed = f"SRS0{scheme.separator}{_sign(stamp + domain + content, scheme)}={stamp}={domain}={content}"
    return _within_limit(signed if content == local and DOT_STRING.match(signed) else f'"{signed}"', scheme)


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
    stamp = _stamp(now)
    signed = f"SRS0{scheme.separator}{_sign(f'{stamp}={token_id}', scheme)}={stamp}=={token_id}"
    return _within_limit(signed, scheme)


def reverse(address: str, scheme: Scheme, now: float) -> str | Token:
    """One step back: the sender behind an SRS0 address, the previous forwarder's SRS0 address behind an SRS1.

    Case may have been folded on the way. The domain of the address is not looked at, the hash does not cover it.

    Raises:
        BadSyntax: not an SRS address, fields missing, or no valid address behind it.
        Forged: the hash is wrong, or shorter than `hash_min`.
        Expired: see there.
    """
    local = split(address).local
    content = _content(local)
    tag = _TAG.match(content)
    if tag is None:
        raise BadSyntax("not an SRS address")
    if tag[1] == "1":
        given, host, rest = _fields(content[tag.end() :], 3)
        _verify(given, host + rest, scheme)
        if rest[:1] not in ("=", "+", "-"):
            raise BadSyntax("malformed SRS address: no SRS0 address in it")
        return _mailbox("SRS0" + rest, host, quoted=content != local)
    given, stamp, host, user = _fields(content[tag.end() :], 4)
    if not _STAMP.match(stamp):
        raise BadSyntax("malformed SRS address: the time stamp is not two characters of base32")
    _verify(given, stamp + host + user if host else f"{stamp}={user}", scheme)
    _check_age(stamp, scheme, now)
    return _mailbox(user, host, quoted=content != local) if host else Token(user.lower())


def _content(local: str) -> str:
    """What stands between the quotes, quoted pairs as they are: this is what gets hashed, as pysrs does."""
    return local[1:-1] if QUOTED_STRING.match(local) else local


def _is_domain(text: str) -> bool:
    return bool(DOMAIN.match(text) or ADDRESS_LITERAL.match(text))


def _is_mailbox(local: str, domain: str) -> bool:
    return bool(DOT_STRING.match(local) or QUOTED_STRING.match(local)) and _is_domain(domain)


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


def _mailbox(content: str, host: str, *, quoted: bool) -> str:
    """The address behind an SRS address, quoted as that one was.

    An address literal needs the quotes for itself (its brackets are no atext): there the local part decides.
    """
    if quoted and not (ADDRESS_LITERAL.match(host) and DOT_STRING.match(content)):
        content = f'"{content}"'
    if not _is_mailbox(content, host):
        raise BadSyntax("malformed SRS address: it leads back to no valid address")
    return f"{content}@{host}"


def _within_limit(local: str, scheme: Scheme) -> str:
    if len(local.encode()) > LOCAL_PART_OCTETS:
        raise TooLong(f"the rewritten sender would have a local part of more than {LOCAL_PART_OCTETS} octets")
    return f"{local}@{scheme.domain}"


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


def _verify(given: str, data: str, scheme: Scheme) -> None:
    """Compare in constant time and without regard to case, since addresses come back lowered.

    Whatever an exact comparison would find, this one finds too.
    """
    if len(given) < scheme.hash_min:
        raise Forged("forged SRS address: its hash is too short")
    folded = given.encode(errors="replace").translate(_FROM_URL).lower()
    for secret in scheme.secrets:
        if hmac.compare_digest(_mac(data, secret)[: len(folded)].lower(), folded):
            return
    raise Forged("forged SRS address: its hash does not match")


def _stamp(now: float) -> str:
    day = int(now // _DAY) % _DAYS
    return _DIGITS[day >> 5] + _DIGITS[day & 31]


def _check_age(stamp: str, scheme: Scheme, now: float) -> None:
    high, low = (_DIGITS.index(digit) for digit in stamp.upper())
    age = (int(now // _DAY) - (high << 5 | low)) % _DAYS  # tomorrow is 1023 days old
    if age > scheme.max_age:
        raise Expired(f"expired SRS address: it is not of the last {scheme.max_age} days")
