"""The hash in an SRS address: HMAC-SHA1 over the fields of the address, in base64.

The compatible hash is that of PostSRSd, libsrs2, Mail::SRS and pysrs. It covers the fields with nothing between them,
so the hash for `joe` of `victim.com` also fits `mjoe` of `victim.co`. The framed hash covers the text of the address as
it is, and the tag.
"""

from __future__ import annotations

import binascii
import hmac
from collections.abc import Sequence

from relay.srs.keyed_hash import keyed_hash

_TO_URL = str.maketrans("+/", "-_")
_FROM_URL = bytes.maketrans(b"-_", b"+/")


def compatible_input(tag: str, text: str) -> str:
    """What the compatible hash covers: the fields after the hash, without their separators."""
    return text.replace("=", "", 1 if tag == "1" else 2)


def framed_input(tag: str, text: str) -> str:
    """What the framed hash covers: the kind of address, and everything after the hash.

    Only the last field may contain `=`, so a text can be divided in just one way. A compatible hash never covers NUL,
    which no address contains: neither hash passes for the other.
    """
    return f"SRS{tag}\0{text}"


def make_hash(data: str, secret: bytes, length: int, *, url: bool) -> str:
    """The hash of data as it is written in an address.

    Args:
        url: write `-_` for the `+/` of base64 (RFC 4648 section 5).

    Raises:
        UnicodeEncodeError: the data are not valid UTF-8.
    """
    written = _mac(data, secret)[:length].decode("ascii")
    return written.translate(_TO_URL) if url else written


def is_hash_of_any(given: str, inputs: Sequence[str], secrets: Sequence[bytes]) -> bool:
    """Whether a hash, in either alphabet, was made over one of the inputs with one of the secrets.

    Compares in constant time and without case, since addresses may come back in lower case. A hash that an exact
    comparison accepts is always accepted here.

    Raises:
        UnicodeEncodeError: an input is not valid UTF-8.
    """
    folded = given.encode(errors="replace").translate(_FROM_URL).lower()
    return any(
        hmac.compare_digest(_mac(data, secret)[: len(folded)].lower(), folded) for secret in secrets for data in inputs
    )


def _mac(data: str, secret: bytes) -> bytes:
    """HMAC-SHA1 in base64 without the padding. Only ASCII letters are folded, in any locale."""
    return binascii.b2a_base64(keyed_hash(secret, data.encode().lower(), "sha1"), newline=False).rstrip(b"=")
