"""Who has waited long enough: mail that was asked to come again later, and has come again, in memory that all processes
share.

A place is the time at which a name was seen first. There are no locks, and two names that share a place by chance wait
together: then one of them waits less.
"""

from __future__ import annotations

import mmap
import secrets
from hashlib import blake2b

WAIT = 300.0  # seconds until a name passes: what rspamd's own greylisting asks for
FORGOTTEN_AFTER = 86400.0  # seconds since it was seen first; then it waits anew

_PLACES = 1 << 16


class Greylist:
    """Remembers when a name was seen first. Create it before forking. Times are in seconds, and may jump back."""

    def __init__(self) -> None:
        self._first_seen = memoryview(mmap.mmap(-1, _PLACES * 8)).cast("d")
        self._salt = secrets.token_bytes(16)  # so that nobody outside can tell which names share a place

    def passes(self, name: str, now: float) -> bool:
        """Whether a name has waited; one that is seen for the first time begins to."""
        digest = blake2b(name.encode("utf-8", "replace"), digest_size=8, key=self._salt).digest()
        place = int.from_bytes(digest) % _PLACES
        waited = now - self._first_seen[place]
        if not 0 <= waited < FORGOTTEN_AFTER:
            self._first_seen[place] = now
            return False
        return waited >= WAIT
