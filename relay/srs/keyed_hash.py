"""HMAC with keys that sign again and again: each key is prepared once, and a copy of that signs.

`hmac.digest` prepares the key and looks the hash up at every call, and lets go of the interpreter's lock meanwhile, so
that other threads may run first. All that takes longer than the hash of an address.
"""

from __future__ import annotations

import hmac
from functools import lru_cache
from typing import Literal


def keyed_hash(secret: bytes, data: bytes, algorithm: Literal["sha1", "sha256"]) -> bytes:
    """The HMAC of data (RFC 2104)."""
    prepared = _prepared(secret, algorithm).copy()
    prepared.update(data)
    return prepared.digest()


@lru_cache(maxsize=64)  # secrets come from a file, and hosts have a few
def _prepared(secret: bytes, algorithm: str) -> hmac.HMAC:
    return hmac.new(secret, digestmod=algorithm)
