"""Reply addresses: an address of ours that stands for an author for ever, so that replies reach the author.

It goes into the From of mail whose From has to be rewritten (`relay.rewrite.from_field`), and from there into address
books. So it has no time stamp, and the same author always gets the same one. It looks like an SRS address and uses the
same secrets:

    reply=hhhhhhhhhh=shop.example=news@fwd.example    hash, domain and local part of the author
    reply=hhhhhhhhhh==id@fwd.example                  an author who does not fit into that, stored under an id

The hash is HMAC-SHA256 with a label of its own, while SRS uses HMAC-SHA1 over other fields: neither hash passes for the
other. Because an address never expires, its hash is longer: 50 bits. A million clients that each try as often as
`srs.forged_rate` allows need a thousand years to find that of one author. It is base32, so folding case on the way does
not weaken it.
"""

from __future__ import annotations

import base64
import hmac
import re
from collections.abc import Awaitable, Callable, Iterable

from relay.mail.address import (
    DOT_STRING,
    LOCAL_PART_OCTETS,
    BadAddress,
    Mailbox,
    normal_address,
    normal_domain,
    parse,
    split,
    unquote,
)
from relay.srs.address import BadSyntax, Forged, Scheme, Token
from relay.srs.keyed_hash import keyed_hash

UNKNOWN = "reply=unknown"
"""The local part at our domain that stands for an author who cannot be read: replies to it are refused."""

STORED_FOR = 365 * 86400.0  # seconds for which a stored author is kept after the last message

Keep = Callable[[str, str], Awaitable[str]]
"""Stores an author under the given id, unless the author already has an id; returns the id to use."""

_TAG = re.compile(r"reply=", re.IGNORECASE | re.ASCII)
_HASH_LENGTH = 10  # characters of base32, 5 bits each
_ID_LENGTH = 16  # characters of base32: enough that no two authors share an id
_ADDRESS_PURPOSE = b"srs-relay reply address\0"  # the secrets sign other things too: none may pass for another
_ID_PURPOSE = b"srs-relay stored author\0"


def is_reply(address: str) -> bool:
    """Whether the local part begins with `reply=`, in any case. The hash is not checked."""
    content = unquote(split(address).local) if address.startswith('"') else address
    return _TAG.match(content) is not None


async def reply_addresses(authors: Iterable[str], scheme: Scheme, keep: Keep) -> dict[str, str]:
    """The reply address of every author; authors who have to be stored are stored by `keep`.

    Raises:
        BadSyntax: as `forward`, and what `keep` raises.
    """
    addresses = {}
    for author in authors:
        address = forward(author, scheme)
        if isinstance(address, Token):
            address = forward_token(await keep(normal_author(author), address.id), scheme)
        addresses[author] = address
    return addresses


def forward(author: str, scheme: Scheme) -> str | Token:
    """The reply address of an author, or the id to store the author under, for `forward_token`.

    An author has to be stored if the local part needs quotes or is not ASCII (RFC 6531), or if the reply address would
    have a local part of more than 64 octets. The same author always gets the same id. An author of the scheme's own
    domain is returned unchanged.

    Raises:
        BadSyntax: the author is not a mailbox of RFC 5321 section 4.1.2.
    """
    local, domain = _mailbox(author)
    if domain == normal_domain(scheme.domain):
        return author
    rest = f"{domain}={local}"
    written = f"reply={_sign(rest, scheme)}={rest}"
    if written.isascii() and DOT_STRING.match(written) and len(written) <= LOCAL_PART_OCTETS:
        return f"{written}@{scheme.domain}"
    digest = keyed_hash(scheme.secrets[0], _ID_PURPOSE + f"{local}@{domain}".encode(), "sha256")
    return Token(base64.b32encode(digest)[:_ID_LENGTH].decode("ascii").lower())


def forward_token(token_id: str, scheme: Scheme) -> str:
    """The reply address of the author stored under an id of lower-case letters and digits."""
    rest = f"={token_id}"
    return f"reply={_sign(rest, scheme)}={rest}@{scheme.domain}"


def reverse(address: str, scheme: Scheme) -> str | Token:
    """The author behind a reply address. Case may have been folded on the way; the domain is not checked.

    Raises:
        BadSyntax: not a reply address, fields missing, or no valid address behind it.
        Forged: the hash is wrong.
    """
    content = unquote(split(address).local)
    tag = _TAG.match(content)
    if tag is None:
        raise BadSyntax("not a reply address")
    given_hash, separator, rest = content[tag.end() :].partition("=")
    domain, inner, local = rest.partition("=")
    if not separator or not inner:
        raise BadSyntax("malformed reply address: fields are missing")
    _verify(given_hash, rest, scheme)
    if not domain:
        return Token(local.lower())
    try:
        return str(parse(f"{local}@{domain}"))
    except BadAddress:
        raise BadSyntax("malformed reply address: it leads back to no valid address") from None


def normal_author(author: str) -> str:
    """An author's address as it is stored: without needless quotes, and with a normal domain.

    Raises:
        BadSyntax: as `forward`.
    """
    return str(_mailbox(author))


def _mailbox(author: str) -> Mailbox:
    try:
        return parse(normal_address(author))
    except BadAddress as error:
        raise BadSyntax(f"the author is not a valid address: {error}") from None


def _mac(rest: str, secret: bytes) -> bytes:
    """HMAC-SHA256 in base32, cut to its length. Only ASCII letters are folded, in any locale."""
    try:
        octets = rest.encode()
    except UnicodeEncodeError:
        raise BadSyntax("the address is not valid UTF-8") from None
    digest = keyed_hash(secret, _ADDRESS_PURPOSE + octets.lower(), "sha256")
    return base64.b32encode(digest)[:_HASH_LENGTH].lower()


def _sign(rest: str, scheme: Scheme) -> str:
    return _mac(rest, scheme.secrets[0]).decode("ascii")


def _verify(given_hash: str, rest: str, scheme: Scheme) -> None:
    """Raises Forged if the hash is wrong. Compares in constant time and without case."""
    folded = given_hash.encode(errors="replace").lower()
    if not any(hmac.compare_digest(_mac(rest, secret), folded) for secret in scheme.secrets):
        raise Forged("forged reply address: its hash does not match")
