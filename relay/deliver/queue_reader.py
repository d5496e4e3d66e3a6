"""Reads the due deliveries of the queue page by page, and goes back for what became due behind its back."""

from __future__ import annotations

from collections.abc import Sequence

from relay.queue.store import Due, Store

PAGE = 500  # due deliveries looked at in one go
RESCAN = 60.0  # seconds after which the look goes back, for what other processes made due behind its back
RESCAN_SOON = 5.0  # the same, after one of them has announced something
OVERLAP = 120.0  # seconds that it goes back: longer than any transaction waits for its lock
FULL_SCAN = 3600.0  # seconds after which it begins at the beginning, whatever the clocks of other hosts say


class QueueReader:
    """Where one worker is in the queue."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._news = store.news
        self._last: Due | None = None
        self._is_short = False
        self._position: Due | None = None
        self._scanned = 0.0
        self._full_scan_at = 0.0

    def begin_anew(self) -> None:
        """Begin the next page at the beginning of the queue."""
        self._full_scan_at = 0.0

    async def page(self, now: float) -> Sequence[Due]:
        """The next deliveries that are due; fewer than `PAGE` at the end of the queue, and none, without a look, where
        all were seen and nothing is new.

        Raises:
            QueueUnavailable
        """
        if now >= self._full_scan_at:
            self._position = None
            self._full_scan_at, self._scanned = now + FULL_SCAN, now
            self._news.is_behind = False
        elif now >= self._scanned + (RESCAN_SOON if self._news.is_behind else RESCAN):
            since = now - OVERLAP
            if self._position is not None and self._position.next_attempt > since:
                self._position = Due(0, 0, "", since)
            self._scanned, self._news.is_behind = now, False
        elif self._has_seen_all and not self._news.is_due(now):
            return ()
        if self._position is not None and self._news.stored_from <= self._position.next_attempt:
            self._position = Due(0, 0, "", self._news.stored_from)
        self._is_short = False
        self._news.looking()
        page = await self._store.due(now, PAGE, after=self._position)
        if len(page) < PAGE:
            await self._news.seen_all(now)
            self._is_short, self._last = True, page[-1] if page else None
        return page

    @property
    def _has_seen_all(self) -> bool:
        """Whether the last page was the last one, and all of it was passed."""
        return self._is_short and (self._last is None or _place(self._last) == _place(self._position))

    def passed(self, due: Due) -> None:
        """The next page begins behind this delivery."""
        self._position = due


def _place(due: Due | None) -> tuple[int, int] | None:
    return None if due is None else (due.message_id, due.n)
