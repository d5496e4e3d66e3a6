"""What was acknowledged survives a power failure at any moment, with several workers and while the log starts anew."""

from __future__ import annotations

import random
import sqlite3
import sys
from contextlib import closing
from pathlib import Path

import pytest

from tests.peers import needs
from tests.queue.power import Disk, events, trace

pytestmark = [needs("strace"), pytest.mark.slow]

SHARES = (0.0, 0.5, 0.5, 0.5, 1.0)  # of what was written and not synced


def messages(queue: Path) -> set[int]:
    with closing(sqlite3.connect(queue)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        return {number for (number,) in connection.execute("SELECT id FROM message")}


def test_nothing_acknowledged_is_lost_by_a_power_failure(tmp_path: Path) -> None:
    queue, crashed, recording = tmp_path / "queue.db", tmp_path / "crashed.db", tmp_path / "trace"
    log = Path(f"{queue}-wal")
    worker = (sys.executable, "-m", "tests.queue.writer", str(queue))
    trace([[*worker, "one", "40"], [*worker, "two", "40"]], recording)
    seed = random.randrange(2**32)
    chance = random.Random(seed)
    disk, stored, forgotten, restarts, failures = Disk(), set[int](), set[int](), 0, 0
    with recording.open() as lines:
        for event in events(lines):
            disk.happens(event)
            restarts += event.path == log and event.call == "ftruncate"
            word, _, number = event.data.decode("latin1").partition(" ") if event.call == "write" else ("", "", "")
            if word == "forgets":
                forgotten.add(int(number))
            if word == "stored":
                stored.add(int(number))
            if word == "stored" or (stored and event.path in (queue, log) and chance.random() < 0.02):
                failures += 1
                share = chance.choice(SHARES)
                crashed.write_bytes(disk.left(queue, chance, share))
                Path(f"{crashed}-wal").write_bytes(disk.left(log, chance, share))
                missing = stored - forgotten - messages(crashed)
                assert not missing, f"{len(missing)} of {len(stored)} lost by failure {failures}, chance was {seed}"
    assert len(stored) == 240 and failures > 240
    assert restarts >= 3, "the log never started anew"
