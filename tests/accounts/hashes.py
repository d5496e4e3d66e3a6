"""Hashes that take no time."""

from __future__ import annotations

import argon2


def cheap(password: str, **parameters: int) -> str:
    """The Argon2id hash of a password."""
    return argon2.PasswordHasher(**{"time_cost": 1, "memory_cost": 8, "parallelism": 1, **parameters}).hash(password)
