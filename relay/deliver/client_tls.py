"""The TLS levels of a next hop, and the TLS contexts for connections to it.

A context is made once: loading the certificate authorities takes milliseconds.
"""

from __future__ import annotations

import ssl
from functools import lru_cache
from typing import Literal

from relay.tls import MINIMUM_VERSION

Level = Literal["none", "may", "require", "verify"]
"""How much TLS is asked of a next hop: none; where it offers it; always; always, with a certificate for its name."""


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
