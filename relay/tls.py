"""TLS settings that the receiving and the sending side of SMTP share."""

from __future__ import annotations

import ssl

MINIMUM_VERSION = ssl.TLSVersion.TLSv1_2  # RFC 8996 deprecates the earlier ones


def describe(cipher: tuple[str, str, int] | None, version: str | None) -> str:
    """Protocol version and cipher for the log, like `TLSv1.3 TLS_AES_256_GCM_SHA384`; empty without TLS."""
    return f"{version} {cipher[0]}" if cipher and version else ""
