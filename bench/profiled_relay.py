"""The relay under cProfile: `profiled_relay.py FOLDER serve …`, which `bench.profile` runs with the Python under test.

A worker begins to record on SIGUSR1. On SIGUSR2 it writes to FOLDER what it has: `PID.stats` for pstats, then
`PID.done` with three numbers: the seconds that the profiler adds to a call of a Python function and of a built-in one,
and the processor time that the main thread used while it recorded. The relay knows nothing of it: this file sets both
handlers in every process that is forked.
"""

from __future__ import annotations

import cProfile
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

CALLS = 100_000


class Recording:
    """What one process records."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._profile = cProfile.Profile()
        self._began = 0.0

    def listen(self) -> None:
        """Wait for the signals."""
        signal.signal(signal.SIGUSR1, lambda *_: self._begin())
        signal.signal(signal.SIGUSR2, lambda *_: self._end())

    def _begin(self) -> None:
        self._began = time.thread_time()
        self._profile.enable()

    def _end(self) -> None:
        self._profile.disable()
        used = time.thread_time() - self._began
        self._profile.dump_stats(self._folder / f"{os.getpid()}.stats")
        numbers = f"{added_to_a_call(_python_calls)} {added_to_a_call(_builtin_calls)} {used}"
        (self._folder / f"{os.getpid()}.writing").write_text(numbers)
        (self._folder / f"{os.getpid()}.writing").rename(self._folder / f"{os.getpid()}.done")


def added_to_a_call(calls: Callable[[], None]) -> float:
    """Seconds that cProfile adds to each of `CALLS` calls, the best of five."""
    added = []
    for _ in range(5):
        began = time.perf_counter()
        calls()
        plain = time.perf_counter() - began
        recording = cProfile.Profile()
        recording.enable()
        began = time.perf_counter()
        calls()
        profiled = time.perf_counter() - began
        recording.disable()
        added.append((profiled - plain) / CALLS)
    return max(0.0, min(added))


def _nothing() -> None: ...


def _python_calls() -> None:
    for _ in range(CALLS):
        _nothing()


def _builtin_calls() -> None:
    for _ in range(CALLS):
        len(())


def _main() -> None:
    from relay.cli import main  # of the tree under test, which `bench.profile` need not have

    folder = Path(sys.argv.pop(1))
    os.register_at_fork(after_in_child=lambda: Recording(folder).listen())
    main()


if __name__ == "__main__":
    _main()
