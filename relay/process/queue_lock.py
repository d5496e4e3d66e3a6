"""The lock on an SQLite queue, which the supervisor takes and its workers inherit.

A second relay, or one that is started again too early, waits until the last process that holds the lock has ended.
"""

from __future__ import annotations

import fcntl
import os
import time
from pathlib import Path

LOCK_PATIENCE = 15.0  # seconds for the workers of a relay that was killed to end
_LOCK_PAUSE = 0.1  # seconds between two tries


class CannotStart(Exception):
    """The relay cannot run as configured; the text is one line for the administrator."""


def lock_queue(url: str) -> int | None:
    """The descriptor that holds the lock on the queue at `queue.url`; None for PostgreSQL, which needs no lock.

    Raises:
        CannotStart: another relay holds it.
    """
    if not url.startswith("sqlite:///"):
        return None
    path = Path(url.removeprefix("sqlite:///") + ".lock")
    lock = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    os.set_inheritable(lock, False)
    deadline = time.monotonic() + LOCK_PATIENCE
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return lock
        except BlockingIOError:
            if time.monotonic() > deadline:
                os.close(lock)
                raise CannotStart(f"{path}: the queue is in use by another srs-relay") from None
        time.sleep(_LOCK_PAUSE)
