"""DKIM keys: read from PEM once, used for every signature, and written as the record that verifiers look up in DNS.

`cryptography` does the arithmetic: an RSA-2048 signature takes 0.24 ms.
"""

from __future__ import annotations

import base64
import hashlib
import math
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, RSAPublicKey, generate_private_key
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_der_private_key,
    load_pem_private_key,
)

from relay.config.model import ConfigError
from relay.config.sections import ArcSection, DkimSection

Algorithm = Literal["rsa-sha256", "ed25519-sha256"]
KeyType = Literal["rsa2048", "rsa4096", "ed25519"]
State = Literal["waiting", "active", "retired"]
PrivateKey = RSAPrivateKey | Ed25519PrivateKey

RSA_MIN_BITS = 1024  # RFC 8301 section 3.2: signers must not use less, verifiers must not accept it
_STRING_OCTETS = 255  # RFC 1035 section 3.3: one character-string


@dataclass(frozen=True, slots=True)
class SigningKey:
    """A private key with the DNS name of its record, and the time in which it signs.

    Attributes:
        active_from: seconds since 1970.
        active_until: seconds since 1970, the first at which the key does not sign any more.
    """

    domain: str
    selector: str
    _private: PrivateKey = field(repr=False)
    active_from: float = -math.inf
    active_until: float = math.inf

    def state(self, now: float) -> State:
        """Whether the key signs at a time (seconds since 1970): not yet, now, or no more."""
        if now < self.active_from:
            return "waiting"
        return "active" if now < self.active_until else "retired"

    @property
    def algorithm(self) -> Algorithm:
        """The `a=` of its signatures (RFC 6376 section 3.3, RFC 8463 section 3)."""
        return "rsa-sha256" if isinstance(self._private, RSAPrivateKey) else "ed25519-sha256"

    @property
    def bits(self) -> int:
        """The size of the key; that of an Ed25519 key is fixed."""
        return self._private.key_size if isinstance(self._private, RSAPrivateKey) else 256

    @property
    def record_name(self) -> str:
        """The name of the key's record, without a final dot (RFC 6376 section 3.6.2.1)."""
        return f"{self.selector}._domainkey.{self.domain}"

    @property
    def signature_octets(self) -> int:
        """The length of a signature, before base64."""
        return self._private.key_size // 8 if isinstance(self._private, RSAPrivateKey) else 64

    def sign(self, data: bytes) -> bytes:
        """The raw signature of the canonical octets `data`.

        RSASSA-PKCS1-v1_5 over SHA-256 (RFC 6376 section 3.3.2), or Ed25519 over the SHA-256 digest as its message (RFC
        8463 section 3).
        """
        if isinstance(self._private, RSAPrivateKey):
            return self._private.sign(data, _PADDING, _SHA256)
        return self._private.sign(hashlib.sha256(data).digest())

    def is_published_as(self, public: RSAPublicKey | Ed25519PublicKey) -> bool:
        """Whether a public key is the one of this private key."""
        return public == self._private.public_key()

    def public_record(self) -> str:
        """The text of the key's TXT record: an RSA key as SubjectPublicKeyInfo, an Ed25519 key as its 32 octets."""
        public = self._private.public_key()
        if isinstance(self._private, RSAPrivateKey):
            key_type, octets = "rsa", public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        else:
            key_type, octets = "ed25519", public.public_bytes(Encoding.Raw, PublicFormat.Raw)
        return f"v=DKIM1; k={key_type}; p={base64.b64encode(octets).decode('ascii')}"


_PADDING = PKCS1v15()
_SHA256 = hashes.SHA256()


def load(entry: DkimSection) -> SigningKey:
    """Loads the key of one `[[dkim]]` entry. Raises ConfigError, as `read`."""
    key = SigningKey(entry.domain, entry.selector, read(entry.private_key))
    if entry.active_from is not None:
        key = replace(key, active_from=entry.active_from.timestamp())
    if entry.active_until is not None:
        key = replace(key, active_until=entry.active_until.timestamp())
    return key


def load_sealing(entry: ArcSection) -> SigningKey | None:
    """Loads the key of `[arc]`; None if it has none of its own.

    Raises:
        ConfigError: as `read`; or the key is not RSA, the only kind in RFC 8617.
    """
    if entry.domain is None or entry.selector is None or entry.private_key is None:
        return None
    key = SigningKey(entry.domain, entry.selector, read(entry.private_key))
    if key.algorithm != "rsa-sha256":
        raise ConfigError(f"{entry.private_key}: ARC needs an RSA key")
    return key


def read(path: Path) -> PrivateKey:
    """Reads the private key in a file: PEM in PKCS#8 or (RSA) PKCS#1.

    Raises:
        ConfigError: the file cannot be read or holds no usable key; the text names the file.
    """
    try:
        return parse(path.read_bytes())
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from None
    except ValueError as error:
        raise ConfigError(f"{path}: {error}") from None


def parse(data: bytes) -> PrivateKey:
    """Parses a private key in PEM, or in DER as OpenDKIM may have it in a table.

    Raises:
        ValueError: no private key, a key with a password or of another kind, or RSA under 1024 bits.
    """
    try:
        key = (load_pem_private_key if b"-----BEGIN" in data else load_der_private_key)(data, password=None)
    except TypeError:
        raise ValueError("the private key has a password; DKIM keys are kept without one, with mode 0600") from None
    except (ValueError, UnsupportedAlgorithm):
        raise ValueError("not a private key in PEM (PKCS#8 or PKCS#1, RSA or Ed25519)") from None
    if isinstance(key, RSAPrivateKey):
        if key.key_size < RSA_MIN_BITS:
            raise ValueError(f"an RSA key of {key.key_size} bits; DKIM takes {RSA_MIN_BITS} at least, better 2048")
        return key
    if isinstance(key, Ed25519PrivateKey):
        return key
    raise ValueError("neither an RSA nor an Ed25519 key; DKIM knows no other kind")


def generate(key_type: KeyType) -> bytes:
    """Generates a private key, in PEM (PKCS#8, no password); `load` and OpenSSL read it."""
    key: PrivateKey
    if key_type == "ed25519":
        key = Ed25519PrivateKey.generate()
    else:
        key = generate_private_key(public_exponent=65537, key_size=int(key_type.removeprefix("rsa")))
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def zone_line(name: str, text: str) -> str:
    """A TXT record as a line of a zone file, its text in strings of at most 255 octets (RFC 6376 section 3.6.2.2).

    Args:
        name: without a final dot.
        text: printable ASCII.
    """
    strings = [text[start : start + _STRING_OCTETS] for start in range(0, len(text), _STRING_OCTETS)]
    quoted = ('"' + string.replace("\\", "\\\\").replace('"', '\\"') + '"' for string in strings)
    return f"{name}. 3600 IN TXT {' '.join(quoted)}"
