"""A dead worker is replaced: real children, which do next to nothing."""

from __future__ import annotations

import json
import os
import select
import signal
import time
from collections.abc import Callable, Iterator

import pytest
import structlog
from structlog.testing import capture_logs

from relay import log
from relay.process import worker_processes
from relay.process.worker_processes import WorkerProcess, WorkerProcesses, kill, terminate
from tests.peers import wait_until


def _wait(index: int, row: int, owner: str) -> int:
    signal.pause()
    return 0


@pytest.fixture
def started() -> Iterator[Callable[..., WorkerProcesses]]:
    """Makes worker processes and ends what is left of them."""
    made: list[WorkerProcesses] = []

    def start(count: int, run: Callable[[int, int, str], int] = _wait, rows: int = 4) -> WorkerProcesses:
        workers = WorkerProcesses(rows, run)
        made.append(workers)
        workers.begin_generation(count)
        workers.start_due()
        return workers

    yield start
    for workers in made:
        workers.begin_generation(0)
        kill(workers.alive)
        reap_until(workers, 0)


def reap_until(workers: WorkerProcesses, count: int) -> None:
    """Reap until only so many are left."""

    def left() -> bool:
        workers.reap()
        return len(workers.alive) == count

    wait_until(left, "workers to end")


def ended(workers: WorkerProcesses) -> list[WorkerProcess]:
    return wait_until(workers.reap, "a worker that has ended")


def test_a_worker_that_dies_is_replaced_at_its_place(started: Callable[..., WorkerProcesses]) -> None:
    workers = started(2)
    first, second = workers.alive
    assert (first.index, second.index, workers.free_rows) == (0, 1, 2)
    kill([second])
    with capture_logs() as logs:
        assert ended(workers) == [second]
        assert workers.due()
        workers.start_due()
    died = next(log for log in logs if log["event"] == "worker_died")
    assert (died["pid"], died["worker"], died["status"]) == (second.pid, 1, -signal.SIGKILL)
    replacement = list(workers.alive)[1]
    assert (replacement.index, workers.free_rows) == (1, 2)
    assert replacement.pid != second.pid
    assert replacement.owner != second.owner, "the leases of the dead one are not the new one's"


def test_workers_that_die_young_are_started_at_growing_intervals(
    started: Callable[..., WorkerProcesses], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker_processes, "RESPAWN_AFTER", 0.01)
    monkeypatch.setattr(worker_processes, "RESPAWN_AT_MOST", 0.03)
    workers = started(1, lambda *_: 7)
    with capture_logs() as logs:
        for _ in range(5):
            ended(workers)
            wait_until(workers.due, "the next start")
            workers.start_due()
    died = [log for log in logs if log["event"] == "worker_died"]
    assert [log["status"] for log in died] == [7] * 5
    assert [log["restart_in"] for log in died] == [0.0, 0.02, 0.03, 0.03, 0.03]
    monkeypatch.setattr(worker_processes, "YOUNG", 0.0)
    with capture_logs() as logs:
        ended(workers)
    assert logs[-1]["restart_in"] == 0.0, "a death in age starts the count anew"


def test_a_worker_that_raises_ends_with_status_1(started: Callable[..., WorkerProcesses]) -> None:
    def fail(index: int, row: int, owner: str) -> int:
        raise ValueError

    with capture_logs() as logs:
        ended(started(1, fail))
    assert next(log for log in logs if log["event"] == "worker_died")["status"] == 1


def test_what_ends_a_worker_is_in_the_log_however_long_it_is(started: Callable[..., WorkerProcesses]) -> None:
    reader, writer = os.pipe()
    with os.fdopen(writer, "w") as stream, os.fdopen(reader) as lines:
        log.configure("json", "info", stream)

        def fail(index: int, row: int, owner: str) -> int:
            log.configure("json", "info", stream)
            raise ValueError("x" * (2 * select.PIPE_BUF))

        ended(started(1, fail))
        structlog.reset_defaults()
        stream.close()
        assert "worker_failed" in {json.loads(line)["event"] for line in lines}


def test_a_worker_that_is_interrupted_writes_what_it_has(started: Callable[..., WorkerProcesses]) -> None:
    reader, writer = os.pipe()
    with os.fdopen(writer, "w") as stream, os.fdopen(reader) as lines:
        log.configure("json", "info", stream)

        def interrupted(index: int, row: int, owner: str) -> int:
            log.configure("json", "info", stream)
            structlog.get_logger().info("long", text="x" * (2 * select.PIPE_BUF))
            raise KeyboardInterrupt

        ended(started(1, interrupted))
        structlog.reset_defaults()
        stream.close()
        assert "long" in {json.loads(line)["event"] for line in lines}


def test_a_new_generation_takes_over_from_the_old_one(started: Callable[..., WorkerProcesses]) -> None:
    workers = started(2)
    old = list(workers.alive)
    workers.begin_generation(1)
    workers.start_due()
    assert (len(workers.alive), workers.free_rows) == (3, 1)
    assert len({worker.row for worker in workers.alive}) == 3, "no two count in one row"
    terminate(old)
    with capture_logs() as logs:
        reap_until(workers, 1)
    assert logs == [], "they were told to end"
    assert workers.next_start() is None
    assert workers.free_rows == 3


def test_a_worker_that_cannot_be_forked_is_tried_again_later(
    started: Callable[..., WorkerProcesses], monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_memory() -> int:
        raise OSError(12, "Cannot allocate memory")

    with monkeypatch.context() as patch, capture_logs() as logs:
        patch.setattr(os, "fork", no_memory)
        workers = started(1)
    assert [(log["event"], log["worker"]) for log in logs] == [("worker_failed", 0)]
    assert (len(workers.alive), workers.free_rows) == (0, 4)
    wait = workers.next_start()
    assert wait is not None and 0 < wait <= worker_processes.RESPAWN_AT_MOST
    later = time.monotonic() + wait
    monkeypatch.setattr(time, "monotonic", lambda: later)
    workers.start_due()
    assert len(workers.alive) == 1
