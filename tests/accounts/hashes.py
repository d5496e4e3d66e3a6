"""Hashes that take no time."""

from __future__ import annotations

import argon2


def cheap(password: str, memory_cost: int = 8, time_cost: int = 1, hash_len: int = 32, salt_len: int = 16) -> str:
    """The Argon2id hash of a password."""
    return argon2.PasswordHasher(time_cost, memory_cost, 1, hash_len, salt_len).hash(password)
