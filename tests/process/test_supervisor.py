"""The supervisor as a process of its own, with workers that only wait: deaths, reloads, and the end."""

from __future__ import annotations

import asyncio
import gc
import json
import os
import signal
import subprocess
import sys
import sysconfig
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from relay.process.python_build import slow_because
from relay.process.supervisor import GC_THRESHOLDS
from relay.queue.connect import connect
from relay.queue.store import Store
from tests.peers import wait_until
from tests.queue.changes import arrival, leased

ROOT = Path(__file__).parents[2]


class Supervised:
    """A running supervisor, and what it has said."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        (folder / "srs.secret").write_text("secret\n")
        (folder / "workers").write_text("2")
        with (folder / "log").open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "tests.process.supervised", str(folder)], cwd=ROOT, stdout=log, stderr=log
            )
        wait_until(lambda: self.events("ready"), "the supervisor")

    def events(self, name: str) -> list[dict[str, Any]]:
        lines = (self._folder / "log").read_bytes().split(b"\n")[:-1]
        entries = [json.loads(line) for line in lines]
        return [entry for entry in entries if entry["event"] == name]

    def owners(self, count: int) -> dict[int, str]:
        """The name in leases of each worker that was ever started, by its process number, once there are `count`."""
        path = self._folder / "owners"

        def read() -> dict[int, str] | None:
            lines = path.read_text().splitlines() if path.exists() else []
            return {int(pid): owner for pid, owner in map(str.split, lines)} if len(lines) == count else None

        return wait_until(read, f"worker number {count}") or {}

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def stop(self) -> int:
        self.signal(signal.SIGTERM)
        return self.process.wait(20)


@pytest.fixture
def supervised(tmp_path: Path) -> Iterator[Supervised]:
    supervised = Supervised(tmp_path)
    yield supervised
    if supervised.process.poll() is None:
        supervised.process.kill()
        supervised.process.wait()


def _lease(folder: Path, owner: str) -> None:
    async def take() -> None:
        store = Store(await connect(f"sqlite:///{folder}/queue.db"), owner)
        await store.apply(arrival())
        assert await leased(store, time.time())
        await store.close()

    asyncio.run(take())


def test_a_dead_worker_is_replaced_and_loses_its_leases(supervised: Supervised, tmp_path: Path) -> None:
    first, second = supervised.owners(2)
    _lease(tmp_path, supervised.owners(2)[first])
    os.kill(first, signal.SIGKILL)
    freed = wait_until(lambda: supervised.events("leases_freed"), "the leases of the dead worker")
    assert [event["count"] for event in freed] == [1]
    third = next(pid for pid in supervised.owners(3) if pid not in (first, second))
    (died,) = supervised.events("worker_died")
    assert (died["pid"], died["status"]) == (first, -signal.SIGKILL)
    started = supervised.events("worker_started")
    assert [(event["pid"], event["worker"]) for event in started][2:] == [(third, died["worker"])]
    assert supervised.stop() == 0
    assert len(supervised.events("worker_died")) == 1, "those that were told to stop did not die"
    assert supervised.events("stopped")


def test_workers_begin_with_the_collector_that_was_chosen(supervised: Supervised, tmp_path: Path) -> None:
    supervised.owners(2)
    assert tuple(map(int, (tmp_path / "collector").read_text().split())) == GC_THRESHOLDS != gc.get_threshold()


def test_a_reload_starts_new_workers_and_ends_the_old_ones(supervised: Supervised, tmp_path: Path) -> None:
    old = supervised.owners(2)
    (tmp_path / "workers").write_text("1")
    supervised.signal(signal.SIGHUP)
    wait_until(lambda: supervised.events("reloaded"), "the reload")
    (new,) = set(supervised.owners(3)) - set(old)
    wait_until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in old), "the end of the old workers")
    assert Path(f"/proc/{new}").exists()
    assert not supervised.events("worker_died")
    slow = bool(slow_because(sysconfig.get_config_vars()))
    assert len(supervised.events("slow_python")) == slow, "at the start alone"


@pytest.mark.parametrize(
    ("workers", "problem"), [("3", "a larger number of workers need a restart"), ("x", "invalid literal for int")]
)
def test_a_configuration_that_cannot_be_taken_over_changes_nothing(
    supervised: Supervised, tmp_path: Path, workers: str, problem: str
) -> None:
    running = supervised.owners(2)
    (tmp_path / "workers").write_text(workers)
    supervised.signal(signal.SIGHUP)
    (failed,) = wait_until(lambda: supervised.events("reload_failed"), "the reload")
    assert problem in failed["problem"]
    os.kill(next(iter(running)), signal.SIGKILL)
    assert len(supervised.owners(3)) == 3, "it goes on as it was"


def test_workers_end_with_a_supervisor_that_is_killed(supervised: Supervised) -> None:
    workers = supervised.owners(2)
    supervised.process.kill()
    supervised.process.wait()
    wait_until(lambda: not any(_runs(pid) for pid in workers), "the end of the workers")


def _runs(pid: int) -> bool:
    """Whether a process is there and no zombie: where nobody adopts it, nobody waits for it either."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
