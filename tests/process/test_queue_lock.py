"""Only one relay at a time works on an SQLite queue."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from relay.process import queue_lock
from relay.process.queue_lock import CannotStart, lock_queue


def test_a_second_relay_is_refused_with_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queue_lock, "LOCK_PATIENCE", 0.0)
    url = f"sqlite:///{tmp_path}/queue.db"
    lock = lock_queue(url)
    assert lock is not None
    assert not os.get_inheritable(lock)
    with pytest.raises(CannotStart, match=rf"^{tmp_path}/queue.db.lock: the queue is in use"):
        lock_queue(url)
    os.close(lock)
    again = lock_queue(url)
    assert again is not None
    os.close(again)


def test_it_waits_for_the_last_workers_of_a_relay_that_was_killed(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/queue.db"
    lock = lock_queue(url)
    assert lock is not None
    release = threading.Timer(0.3, os.close, [lock])
    release.start()
    again = lock_queue(url)
    release.join()
    assert again is not None
    os.close(again)


def test_postgresql_needs_no_lock() -> None:
    assert lock_queue("postgresql://queue@db.example/relay") is None
