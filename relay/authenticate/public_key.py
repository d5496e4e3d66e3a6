"""Public keys of DKIM and ARC: their records in DNS (RFC 6376 section 3.6), and the check of a signature with a key.

`cryptography` does the arithmetic. The signer publishes the key, so its size and its exponent are limited here: no
signature takes more than a millisecond.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import load_der_public_key

from relay.dns import DnsFailure, Resolver, TooManyQuestions
from relay.mail.tag_list import Unverified, octets, tag_list, words

RSA_MIN_BITS = 1024  # RFC 8301 section 3.2: verifiers must not accept less
RSA_MAX_BITS = 8192  # RFC 8301 section 3.2 asks for 4096; these verify in half a millisecond
RSA_EXPONENT_BITS = 33  # 65537 has 17; an exponent as long as its key takes fifty times as long
KEY_RECORDS = 3  # of one name that are tried: RFC 6376 section 6.1.2 leaves the number to the verifier
KEYS = 256  # in the cache of parsed records: parsing takes a tenth of the time of a verification, and most keys recur
KEY_OCTETS = 2048  # in `p=`; an RSA key of 8192 bits has 1062

_PADDING = PKCS1v15()
_SHA256 = hashes.SHA256()

Records = tuple[str, ...] | DnsFailure  # the TXT records of a name, or why DNS gives no answer


@dataclass(frozen=True, slots=True)
class PublicKey:
    """The key of one key record.

    Attributes:
        flags: of `t=`: `y`: the domain tests DKIM; `s`: the identity (`i=`) must not be in a subdomain.
    """

    public: RSAPublicKey | Ed25519PublicKey
    flags: frozenset[str] = frozenset()

    def verify(self, signature: bytes, data: bytes) -> None:
        """Checks that the key made this signature of these canonical octets (RFC 6376 section 3.3, RFC 8463 section 3).

        Raises:
            Unverified: it did not.
        """
        try:
            if isinstance(self.public, RSAPublicKey):
                self.public.verify(signature, data, _PADDING, _SHA256)
            else:
                self.public.verify(signature, hashlib.sha256(data).digest())
        except InvalidSignature:
            raise Unverified("fail", "the signature does not match the header") from None


def record_name(selector: str, domain: str) -> str:
    """The DNS name of a key record (RFC 6376 section 3.6.2.1)."""
    return f"{selector}._domainkey.{domain}"


async def look_up(resolver: Resolver, names: Iterable[str]) -> dict[str, Records]:
    """Looks up the TXT records of these names, each name once and all at the same time."""
    distinct = list(dict.fromkeys(names))
    if len(distinct) == 1:
        return {distinct[0]: await _records(resolver, distinct[0])}
    return dict(zip(distinct, await asyncio.gather(*(_records(resolver, name) for name in distinct)), strict=True))


async def _records(resolver: Resolver, name: str) -> Records:
    try:
        answer = await resolver.query(name, "TXT")
    except DnsFailure as failure:
        return failure
    return tuple(b"".join(strings).decode("utf-8", "replace") for strings in answer.records)


def verify(records: Records, algorithm: str, signature: bytes, data: bytes) -> PublicKey:
    """Returns the key among these records that made this signature of the canonical octets `data`.

    Args:
        algorithm: `a=` of the signature.

    Raises:
        Unverified: no key made it; if several records were tried, why the first does not fit.
    """
    if isinstance(records, DnsFailure):
        raise Unverified("policy" if isinstance(records, TooManyQuestions) else "temperror", str(records))
    problem = Unverified("permerror", "DNS has no key for it")
    for record in reversed(records[:KEY_RECORDS]):
        try:
            key = parse_record(record, algorithm)
            key.verify(signature, data)
        except Unverified as unverified:
            problem = unverified
        else:
            return key
    raise problem


@lru_cache(maxsize=KEYS)
def parse_record(record: str, algorithm: str) -> PublicKey:
    """The key in a record (RFC 6376 section 3.6.1).

    Raises:
        Unverified: the record is malformed, revoked, not for mail, or not for this algorithm.
    """
    key_type, _, digest = algorithm.partition("-")
    try:
        tags = tag_list(record)
    except Unverified as malformed:
        raise Unverified("permerror", f"the key record is malformed: {malformed}") from None
    if tags.get("v", "DKIM1") != "DKIM1" or ("v" in tags and next(iter(tags)) != "v"):
        raise Unverified("permerror", "the record is none of DKIM1")
    if "p" not in tags:
        raise Unverified("permerror", "the key record has no key (p=)")
    if not tags["p"]:
        raise Unverified("permerror", "the key is revoked")
    if tags.get("k", "rsa") != key_type:
        raise Unverified("permerror", f"the key is not for {key_type} (k=)")
    if "h" in tags and digest not in words(tags["h"]):
        raise Unverified("permerror", f"the key is not for {digest} (h=)")
    if not {"*", "email"}.intersection(words(tags.get("s", "*"))):
        raise Unverified("permerror", "the key is not for mail (s=)")
    return PublicKey(_load_key(key_type, octets(tags, "p")), frozenset(words(tags.get("t", ""))))


def _load_key(key_type: str, key: bytes) -> RSAPublicKey | Ed25519PublicKey:
    try:
        if key_type == "ed25519":
            return Ed25519PublicKey.from_public_bytes(key)
        public = load_der_public_key(key) if len(key) <= KEY_OCTETS else None
    except (ValueError, UnsupportedAlgorithm):
        public = None
    if not isinstance(public, RSAPublicKey):
        raise Unverified("permerror", f"the key record holds no {key_type} key (p=)")
    if not RSA_MIN_BITS <= public.key_size <= RSA_MAX_BITS:
        raise Unverified("policy", f"an RSA key of {public.key_size} bits, not {RSA_MIN_BITS} to {RSA_MAX_BITS}")
    if public.public_numbers().e.bit_length() > RSA_EXPONENT_BITS:
        raise Unverified("policy", "an RSA key with an exponent that is far too large")
    return public
