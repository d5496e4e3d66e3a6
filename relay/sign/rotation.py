"""How one key takes the place of another: the names of new keys, and how long a record outlives its key."""

from __future__ import annotations

from collections.abc import Sequence

from relay.sign.keys import KeyType, SigningKey

# Seconds for what happens to a signature behind us: the next hop may keep the message in its own queue (RFC 5321
# section 4.5.4.1: four to five days), and some mail programs verify when it is read.
MARGIN = 7 * 86400.0
_FIRST = "relay1"


def record_needed_until(key: SigningKey, retry_for: float) -> float:
    """When the record of a key may go, in seconds since 1970: its last signature has then been verified.

    Args:
        retry_for: seconds for which a message may wait in our own queue.
    """
    return key.active_until + retry_for + MARGIN


def next_selector(taken: Sequence[str]) -> str:
    """The name after those of the domain: `relay3` on `relay1` and `relay2`. DNS remembers those that are gone, so the
    one with the highest number is counted on.
    """
    if not taken:
        return _FIRST
    number, stem = max(map(_numbered, taken))
    while (name := f"{stem}{number + 1}") in taken:
        number += 1
    return name


def kind_after(key: SigningKey) -> KeyType:
    """The kind of key that takes its place: the same, RSA with 2048 bits at least."""
    if key.algorithm == "ed25519-sha256":
        return "ed25519"
    return "rsa2048" if key.bits <= 2048 else "rsa4096"


def _numbered(selector: str) -> tuple[int, str]:
    stem = selector.rstrip("0123456789")
    return int(selector[len(stem) :] or 1), stem
