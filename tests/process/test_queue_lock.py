"""Only one relay at a time works on an SQLite queue, and the next one says at once why it does not."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from relay.process import queue_lock
from relay.process.queue_lock import CannotStart, lock_queue

# A relay that has the lock, with a worker that inherits it; `give way` is what it does when it stops.
HOLDER = """
import os, sys, time
from relay.process.queue_lock import give_way, lock_queue
lock = lock_queue(sys.argv[1])
if worker := os.fork():
    print(worker, flush=True)
    if sys.argv[2] == "give way":
        give_way(lock)
time.sleep(60)
"""


@contextmanager
def holder(url: str, role: str = "stay") -> Iterator[tuple[int, int]]:
    """The process ids of a relay that has the lock, and of its worker."""
    with subprocess.Popen([sys.executable, "-c", HOLDER, url, role], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        worker = int(process.stdout.readline())
        try:
            yield process.pid, worker
        finally:
            for pid in (process.pid, worker):
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    pass


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/queue.db"


def test_a_second_relay_hears_at_once_who_holds_the_queue(tmp_path: Path, url: str) -> None:
    with holder(url) as (pid, _):
        started = time.monotonic()
        said = rf"^{tmp_path}/queue.db.lock: the queue is in use by the srs-relay with process id {pid}, since \d{{4}}-"
        with pytest.raises(CannotStart, match=said):
            lock_queue(url)
        assert time.monotonic() - started < 5
        assert (tmp_path / "queue.db.lock").read_text() == f"{pid}\n"


def test_a_relay_in_another_container_is_told_apart(tmp_path: Path, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with holder(url):
        (tmp_path / "queue.db.lock").write_text("4194999\n")
        with pytest.raises(CannotStart, match="process id 4194999, in another container"):
            lock_queue(url)


def test_it_waits_for_the_last_workers_of_a_relay_that_was_killed_and_says_so(url: str) -> None:
    with holder(url) as (pid, worker):
        os.kill(pid, signal.SIGKILL)
        release = threading.Timer(0.5, os.kill, [worker, signal.SIGKILL])
        release.start()
        with capture_logs() as lines:
            lock = lock_queue(url)
        release.join()
        assert lock is not None and not os.get_inheritable(lock)
        os.close(lock)
    assert [(line["event"], line["processes"]) for line in lines] == [("waiting_for_queue", [worker])]


def test_it_waits_for_a_relay_that_is_stopping(url: str) -> None:
    with holder(url, "give way") as (pid, worker):

        def end() -> None:
            for each in (pid, worker):
                os.kill(each, signal.SIGKILL)

        release = threading.Timer(0.5, end)
        release.start()
        with capture_logs() as lines:
            lock = lock_queue(url)
        release.join()
        assert lock is not None
        os.close(lock)
    assert len(lines) == 1


def test_processes_that_do_not_end_are_named(tmp_path: Path, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queue_lock, "LOCK_PATIENCE", 0.2)
    with holder(url) as (pid, worker):
        os.kill(pid, signal.SIGKILL)
        said = rf"^{tmp_path}/queue.db.lock: the queue is in use: .* have not ended \(kill {worker}\)$"
        with pytest.raises(CannotStart, match=said):
            lock_queue(url)


def test_a_folder_that_is_not_there_is_named_with_its_mend(tmp_path: Path) -> None:
    folder = tmp_path / "gone"
    with pytest.raises(
        CannotStart, match=rf"queue.url: make the folder first, .*\(install -d -m 700 -o \w+ {folder}\)"
    ):
        lock_queue(f"sqlite:///{folder}/queue.db")


def test_postgresql_needs_no_lock() -> None:
    assert lock_queue("postgresql://queue@db.example/relay") is None
