"""The TLS levels of a next hop, and the TLS contexts for connections to it.

A context is made once: loading the certificate authorities takes milliseconds.
"""

from __future__ import annotations

import ssl
import sys
from functools import lru_cache
from typing import Literal

from relay.tls import MINIMUM_VERSION

_DER = 2  # _ssl.ENCODING_DER

Level = Literal["none", "may", "require", "verify"]
"""How much TLS is asked of a next hop: none; where it offers it; always; always, with a certificate for its name."""


def peer_chain(tls: ssl.SSLObject) -> tuple[bytes, ...]:
    """The certificates that the server has shown (DER), its own first; nothing about them has been checked.

    Raises:
        RuntimeError: this Python does not give them away.
    """
    if sys.version_info >= (3, 13):
        return tuple(tls.get_unverified_chain())
    try:  # the same function, before it was for everybody
        chain = tls._sslobj.get_unverified_chain() or ()  # type: ignore[attr-defined]
        return tuple(certificate.public_bytes(_DER) for certificate in chain)
    except AttributeError as error:
        raise RuntimeError("this Python does not show the certificates of a server, which DANE needs") from error


@lru_cache
def client_context(verify: bool) -> ssl.SSLContext:
    """A context for outgoing connections; with `verify` the certificate's chain and name are checked (RFC 6125)."""
    if verify:
        context = ssl.create_default_context()
    else:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    context.minimum_version = MINIMUM_VERSION
    return context
