"""Password hashes with Argon2id (RFC 9106), as text `$argon2id$v=19$m=…,t=…,p=…$salt$hash`; argon2-cffi computes them.

Each call takes a tenth of a second and tens of MiB; `relay.accounts.hashing` runs them beside the event loop.
"""

from __future__ import annotations

import base64
import secrets
import unicodedata
from typing import NamedTuple

from argon2 import Parameters, PasswordHasher, extract_parameters
from argon2.exceptions import InvalidHashError, VerificationError
from argon2.low_level import Type
from argon2.profiles import RFC_9106_LOW_MEMORY

_OURS = RFC_9106_LOW_MEMORY  # RFC 9106 section 4, the second recommended option: 64 MiB, 3 passes, 4 lanes

# The costs of a hash that another program has made: more would let one login take the host's memory or time.
_MOST_MEMORY = 1 << 18  # KiB
_MOST_PASSES = 64
_MOST_LANES = 64


class Costs(NamedTuple):
    """What a hash takes to compute: KiB of memory, passes over it, lanes; and the octets of the hash, its version."""

    memory: int
    passes: int
    lanes: int
    octets: int = _OURS.hash_len
    version: int = _OURS.version


OURS = Costs(_OURS.memory_cost, _OURS.time_cost, _OURS.parallelism)


def hash_password(password: str) -> str:
    """The hash of a password with a new salt. Raises ValueError, as `prepared`."""
    return PasswordHasher.from_parameters(_OURS).hash(prepared(password))


def is_password(hashed: str, password: str) -> bool:
    """Whether a hash that `costs_of` accepts is that of a password."""
    try:
        return PasswordHasher.from_parameters(_OURS).verify(hashed, prepared(password))
    except (InvalidHashError, VerificationError, ValueError):
        return False


def prepared(password: str) -> str:
    """The password in the one form in which it is hashed (OpaqueString, RFC 8265 section 4.2.2; SASL asks for the like
    in RFC 4616 section 2): NFC, and SP for every other space. ASCII stays as it is.

    Raises:
        ValueError: it is empty, or has control characters.
    """
    spaced = "".join(" " if unicodedata.category(character) == "Zs" else character for character in password)
    text = unicodedata.normalize("NFC", spaced)
    if not text:
        raise ValueError("the password is empty")
    if any(unicodedata.category(character) in ("Cc", "Cs") for character in text):
        raise ValueError("the password has control characters")
    return text


def costs_of(hashed: str) -> Costs:
    """What a hash takes to compute.

    Raises:
        ValueError: it is no Argon2id hash, or one that takes too much memory or time.
    """
    try:
        parameters = extract_parameters(hashed)
    except (InvalidHashError, ValueError):
        raise ValueError("what follows the name is no Argon2 hash") from None
    if parameters.type is not Type.ID:
        raise ValueError("the hash is not one of Argon2id")
    if not _is_computable(hashed, parameters):
        raise ValueError("the hash is damaged")
    costs = Costs(
        parameters.memory_cost,
        parameters.time_cost,
        parameters.parallelism,
        parameters.hash_len,
        parameters.version,
    )
    if costs.memory > _MOST_MEMORY or costs.passes > _MOST_PASSES or costs.lanes > _MOST_LANES:
        limits = f"{_MOST_MEMORY >> 10} MiB, {_MOST_PASSES} passes or {_MOST_LANES} lanes"
        raise ValueError(f"the hash takes more than {limits}")
    return costs


def _is_computable(hashed: str, parameters: Parameters) -> bool:
    """Whether the octets of salt and hash can be read, and the parameters are within RFC 9106 section 3.1."""
    salt, tag = hashed.split("$")[-2:]
    try:
        octets = [base64.b64decode(text + "=" * (-len(text) % 4), validate=True) for text in (salt, tag)]
    except ValueError:
        return False
    return (
        len(octets[0]) >= 8
        and len(octets[1]) >= 4
        and parameters.version in (0x10, 0x13)
        and parameters.time_cost >= 1
        and parameters.parallelism >= 1
        and parameters.memory_cost >= 8 * parameters.parallelism
    )


def nobodys_hash(costs: Costs = OURS) -> str:
    """A hash of no password: to compare with it takes as long as with a hash of these costs."""
    salt, tag = (_without_padding(secrets.token_bytes(octets)) for octets in (_OURS.salt_len, costs.octets))
    return f"$argon2id$v={costs.version}$m={costs.memory},t={costs.passes},p={costs.lanes}${salt}${tag}"


def _without_padding(octets: bytes) -> str:
    return base64.b64encode(octets).decode("ascii").rstrip("=")
