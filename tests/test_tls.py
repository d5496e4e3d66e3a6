"""How the log names TLS."""

from __future__ import annotations

import pytest

from relay.tls import describe


@pytest.mark.parametrize(
    ("cipher", "version", "text"),
    [
        (("TLS_AES_256_GCM_SHA384", "TLSv1.3", 256), "TLSv1.3", "TLSv1.3 TLS_AES_256_GCM_SHA384"),
        (None, "TLSv1.3", ""),
        (("TLS_AES_256_GCM_SHA384", "TLSv1.3", 256), None, ""),
        (None, None, ""),
    ],
)
def test_version_and_cipher_or_nothing(cipher: tuple[str, str, int] | None, version: str | None, text: str) -> None:
    assert describe(cipher, version) == text
