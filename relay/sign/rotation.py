"""Key rotation: the selectors of new keys, and how long a record has to stay after its key."""

from __future__ import annotations

from collections.abc import Sequence

from relay.sign.keys import KeyType, SigningKey

# Seconds in which later hosts still verify a signature: the next hop may keep the message in its own queue (RFC 5321
# section 4.5.4.1: four to five days), and some mail programs verify when the message is read.
MARGIN = 7 * 86400.0
_FIRST_SELECTOR = "relay1"


def record_needed_until(key: SigningKey, retry_for: float) -> float:
    """When the record of a key may be removed, in seconds since 1970: its last signature is verified by then.

    Args:
        retry_for: seconds for which a message may wait in our own queue.
    """
    return key.active_until + retry_for + MARGIN


def next_selector(taken: Sequence[str]) -> str:
    """The next selector of a domain: `relay3` after `relay1` and `relay2`.

    It counts on from the highest number, because DNS remembers the selectors that are gone.
    """
    if not taken:
        return _FIRST_SELECTOR
    number, stem = max(map(_numbered, taken))
    while (name := f"{stem}{number + 1}") in taken:
        number += 1
    return name


def kind_after(key: SigningKey) -> KeyType:
    """The type of the next key: the same, but RSA with 2048 bits at least."""
    if key.algorithm == "ed25519-sha256":
        return "ed25519"
    return "rsa2048" if key.bits <= 2048 else "rsa4096"


def _numbered(selector: str) -> tuple[int, str]:
    stem = selector.rstrip("0123456789")
    return int(selector[len(stem) :] or 1), stem
