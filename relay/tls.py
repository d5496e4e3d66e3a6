"""TLS settings that the receiving and the sending side of SMTP share."""

from __future__ import annotations

import ssl
from functools import cache
from pathlib import Path
from typing import Any

MINIMUM_VERSION = ssl.TLSVersion.TLSv1_2  # RFC 8996 deprecates the earlier ones


def describe(cipher: tuple[str, str, int] | None, version: str | None) -> str:
    """Protocol version and cipher for the log, like `TLSv1.3 TLS_AES_256_GCM_SHA384`; empty without TLS."""
    return f"{version} {cipher[0]}" if cipher and version else ""


def cipher_bits(cipher: tuple[str, str, int] | None) -> tuple[int, int]:
    """The bits of secret that a cipher uses, and those of its algorithm, as Postfix names them; zeros without TLS."""
    return (cipher[2], _algorithm_bits().get(cipher[0], cipher[2])) if cipher else (0, 0)


@cache
def _algorithm_bits() -> dict[str, int]:
    ciphers: list[Any] = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).get_ciphers()
    return {cipher["name"]: cipher["alg_bits"] for cipher in ciphers}


_REASONS = {  # of OpenSSL (openssl/x509err.h, openssl/sslerr.h), in words
    "KEY_VALUES_MISMATCH": "the certificate is for another key",
    "KEY_TYPE_MISMATCH": "the certificate is for another key",
    "EE_KEY_TOO_SMALL": "its key is too short for OpenSSL",
    "CA_MD_TOO_WEAK": "it is signed with a hash that is too weak for OpenSSL",
}
_ENCRYPTED = (
    "the key is encrypted, and nobody is there to give the passphrase: `openssl pkey -in KEY -out NEW` asks for it"
)


class UnusableCertificate(ValueError):
    """A certificate that cannot be used with its key; the text says why."""


def load_certificate(context: ssl.SSLContext, certificate: Path, private_key: Path) -> None:
    """Load a certificate, with its chain, and its key.

    Raises:
        UnusableCertificate: they are no PEM, do not belong together, or are too weak; or the key has a passphrase.
        OSError: a file cannot be read.
    """
    encrypted = False

    def passphrase() -> bytes:
        nonlocal encrypted
        encrypted = True  # without this function OpenSSL would ask at the terminal
        return b"\0"

    try:
        context.load_cert_chain(certificate, private_key, passphrase)
    except ssl.SSLError as error:
        reason = _ENCRYPTED if encrypted else _REASONS.get(error.reason, error.reason) or "they are no PEM"
        raise UnusableCertificate(reason) from None
