"""Keyed hashes by a prepared key: the same octets as in one call."""

from __future__ import annotations

import hmac
from typing import Literal

import pytest

from relay.srs.keyed_hash import keyed_hash


@pytest.mark.parametrize("algorithm", ["sha1", "sha256"])
@pytest.mark.parametrize("secret", [b"s", b"tops3cr3t", b"longer than a block of the hash " * 5])
def test_it_is_hmac_each_time(secret: bytes, algorithm: Literal["sha1", "sha256"]) -> None:
    for data in (b"joe", b"", b"joe", b"x" * 1000):
        assert keyed_hash(secret, data, algorithm) == hmac.digest(secret, data, algorithm)
