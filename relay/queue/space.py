"""Whether the disk has room for more mail: asked before a message is taken, so that none is lost to a full one."""

from __future__ import annotations

import os
import time
from pathlib import Path

import structlog

log = structlog.get_logger()

BELIEVED_FOR = 1.0  # seconds between two looks at the disk


class FreeSpace:
    """The disk under an SQLite queue; a database server looks after its own.

    Args:
        url: `queue.url`.
        minimum: octets that must stay free (`queue.min_free`).
    """

    def __init__(self, url: str, minimum: int) -> None:
        self._folder = Path(url.removeprefix("sqlite:///")).parent if url.startswith("sqlite:///") else None
        self._minimum = minimum
        self._looked_at = 0.0
        self._enough = True

    def enough(self) -> bool:
        now = time.monotonic()
        if self._folder is not None and now - self._looked_at > BELIEVED_FOR:
            self._looked_at = now
            found = os.statvfs(self._folder)
            enough = found.f_bavail * found.f_frsize >= self._minimum
            if enough != self._enough:
                log.warning("disk_space", folder=str(self._folder), enough=enough)
            self._enough = enough
        return self._enough
