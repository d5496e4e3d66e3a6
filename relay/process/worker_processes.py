"""The worker processes of one supervisor: they are forked here, and a worker that dies is replaced."""

from __future__ import annotations

import os
import secrets
import signal
import socket
import time
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from typing import NoReturn

import structlog

from relay import log as logging
from relay.queue.database import QueueUnavailable

log = structlog.get_logger()

RESPAWN_AFTER = 1.0  # seconds, doubling to `RESPAWN_AT_MOST` while workers die young
RESPAWN_AT_MOST = 30.0
YOUNG = 10.0  # seconds of life below which a death counts as a failure to start


@dataclass(frozen=True, slots=True)
class WorkerProcess:
    """A child process.

    Attributes:
        index: which of the sockets are its own.
        row: its row of counters, see `SharedCounts`.
        owner: its name in leases.
        generation: counts the reloads; a worker of an earlier one is not replaced.
        since: when it was forked, by the monotonic clock.
    """

    pid: int
    index: int
    row: int
    owner: str
    generation: int
    since: float


class WorkerProcesses:
    """Forks the workers, and replaces those that die.

    Args:
        rows: rows of counters; as many workers can exist at once.
        run: the life of a worker, called in the child with index, row and owner; returns the exit status.
    """

    def __init__(self, rows: int, run: Callable[[int, int, str], int]) -> None:
        self._run = run
        self._free_rows = list(range(rows))
        self._alive: dict[int, WorkerProcess] = {}
        self._generation = 0
        self._missing: list[tuple[float, int]] = []  # (when to start it, index)
        self._young_deaths = 0

    @property
    def alive(self) -> Collection[WorkerProcess]:
        """The workers that have not been reaped, in the order in which they were started."""
        return self._alive.values()

    @property
    def free_rows(self) -> int:
        """How many more workers there may be."""
        return len(self._free_rows)

    def begin_generation(self, count: int) -> None:
        """Plan this many new workers; those that are alive are not replaced any more when they end."""
        self._generation += 1
        self._missing = [(time.monotonic(), index) for index in range(count)]

    def due(self) -> bool:
        """Whether a worker is to be started now."""
        return self.next_start() == 0.0

    def next_start(self) -> float | None:
        """Seconds until a worker is to be started; None where none is missing."""
        now = time.monotonic()
        return min((max(0.0, when - now) for when, _ in self._missing), default=None)

    def start_due(self) -> None:
        """Fork the workers that are to be started now."""
        now = time.monotonic()
        due = [index for when, index in self._missing if when <= now]
        self._missing = [(when, index) for when, index in self._missing if when > now]
        for index in due:
            try:
                self._fork(index)
            except OSError as error:  # the host has no process or memory left
                log.error("worker_failed", worker=index, problem=str(error))
                self._missing.append((now + RESPAWN_AT_MOST, index))

    def _fork(self, index: int) -> None:
        owner = f"{socket.gethostname()}/{secrets.token_hex(8)}"  # containers share names and process numbers
        row = self._free_rows[0]
        pid = os.fork()
        if pid == 0:
            self._be_worker(index, row, owner)
        self._free_rows.pop(0)
        self._alive[pid] = WorkerProcess(pid, index, row, owner, self._generation, time.monotonic())
        log.info("worker_started", pid=pid, worker=index)

    def _be_worker(self, index: int, row: int, owner: str) -> NoReturn:
        status = 1
        try:
            status = self._run(index, row, owner)
        except QueueUnavailable as error:
            log.error("worker_failed", worker=index, problem=str(error))
        except Exception:
            log.exception("worker_failed", worker=index)
        finally:  # also where a signal has interrupted it
            try:
                logging.finish()
            finally:
                os._exit(status)

    def reap(self) -> list[WorkerProcess]:
        """The workers that have ended since the last call; a replacement is planned for those of this generation."""
        ended = []
        while self._alive:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                break
            worker = self._alive.pop(pid, None)
            if worker is None:
                continue
            self._free_rows.append(worker.row)
            ended.append(worker)
            if worker.generation == self._generation:
                self._plan_replacement(worker, os.waitstatus_to_exitcode(status))
        return ended

    def _plan_replacement(self, worker: WorkerProcess, status: int) -> None:
        young = time.monotonic() - worker.since < YOUNG
        self._young_deaths = self._young_deaths + 1 if young else 0
        wait = min(RESPAWN_AFTER * 2 ** (self._young_deaths - 1), RESPAWN_AT_MOST) if self._young_deaths > 1 else 0.0
        log.error("worker_died", pid=worker.pid, worker=worker.index, status=status, restart_in=wait)
        self._missing.append((time.monotonic() + wait, worker.index))


def terminate(workers: Iterable[WorkerProcess]) -> None:
    """Tell workers to finish what they have and to end."""
    for worker in workers:
        os.kill(worker.pid, signal.SIGTERM)


def kill(workers: Iterable[WorkerProcess]) -> None:
    """End workers at once."""
    for worker in workers:
        log.warning("worker_killed", pid=worker.pid)
        os.kill(worker.pid, signal.SIGKILL)
