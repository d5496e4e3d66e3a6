"""The longest turns of a worker's event loop, while mail of 10 KiB and large mail comes in and leaves.

The worker runs in this process, on the loop that is watched; clients and next hop are other processes.
"""

from __future__ import annotations

import asyncio
import gc
import signal
import socket
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from bench import mail
from bench.load import Sink, pushing
from bench.running_relay import free_port, write_files
from relay import log as logging
from relay.cli.zone import ZoneServer
from relay.config.file import load
from relay.dns import CachingResolver
from relay.metrics import Metrics
from relay.process.files import read_files
from relay.process.supervisor import GC_THRESHOLDS
from relay.process.worker import Worker
from relay.queue.connect import connect
from relay.queue.store import Store
from relay.rate import Rates
from relay.receive.shared_counts import SharedCounts

LARGE, SMALL = 10_000_000, 10_240  # octets a message
PATIENCE = 600.0  # seconds for one run
NOTED = 0.005  # seconds; shorter turns are not noted
SAMPLED = 0.01  # seconds; longer turns are asked what they are doing, again and again after this time
SHOWN = 5  # turns


@dataclass(frozen=True, slots=True)
class Turn:
    """One turn of a loop.

    Attributes:
        wall, cpu: milliseconds by the clock, and of the loop's own processor time. The difference is the time that
            other processes or threads had.
        doing: where it was found, with how often: functions of the relay, the innermost first.
    """

    wall: float
    cpu: float
    doing: Counter[str]

    def __str__(self) -> str:
        found = "; ".join(f"{where} ({times}x)" for where, times in self.doing.most_common(2))
        return f"{self.wall:.1f} ms, {self.cpu:.1f} of CPU: {found or 'too short to be asked'}"


@dataclass(frozen=True, slots=True)
class Turns:
    """The turns that took longest, by their processor time."""

    longest: list[Turn]

    def __str__(self) -> str:
        return "\n".join(f"  {turn}" for turn in self.longest) or f"  no turn over {NOTED * 1000:.0f} ms"


class _Watch:
    """Measures every turn of the loop; long ones are interrupted by a signal, which sees what they are doing.

    A call into C is interrupted when it returns. So the function that made it is named, and the time is right.
    """

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._last = (time.perf_counter(), time.thread_time())
        self._running = True
        self._turns: list[Turn] = []
        self._doing: Counter[str] = Counter()
        signal.signal(signal.SIGALRM, lambda _, frame: self._look(frame))
        gc.callbacks.append(self._collecting)
        self._loop.call_soon(self._turn)

    def _turn(self) -> None:
        wall, cpu = self._last
        self._last = (time.perf_counter(), time.thread_time())
        if self._last[0] - wall > NOTED:
            self._turns.append(Turn((self._last[0] - wall) * 1000, (self._last[1] - cpu) * 1000, self._doing.copy()))
        self._doing.clear()
        if self._running:
            signal.setitimer(signal.ITIMER_REAL, SAMPLED, SAMPLED)
            self._loop.call_soon(self._turn)

    def _look(self, frame: FrameType | None) -> None:
        self._doing[where(frame)] += 1

    def _collecting(self, phase: str, info: dict[str, int]) -> None:
        if info["generation"] == 2:
            self._doing["a full garbage collection"] += phase == "start"

    def stop(self) -> Turns:
        self._running = False
        signal.setitimer(signal.ITIMER_REAL, 0)
        gc.callbacks.remove(self._collecting)
        return Turns(sorted(self._turns, key=lambda turn: turn.cpu, reverse=True)[:SHOWN])


def where(frame: FrameType | None) -> str:
    """The innermost function, and up to three functions of the relay that led to it."""
    names: list[str] = []
    while frame is not None and len(names) < 4:
        code = frame.f_code
        _, ours, inside = code.co_filename.rpartition("/relay/")
        if ours or not names:
            names.append(f"{'relay/' + inside if ours else code.co_filename}:{frame.f_lineno} {code.co_qualname}")
        frame = frame.f_back
    return " < ".join(names) or "?"


async def run(small: int, large: int, octets: int = LARGE) -> Turns:
    """Push `small` messages of 10 KiB over ten sessions and `large` ones over two at the same time.

    Args:
        octets: of a large message.
    """
    port = free_port()
    sink = await Sink.start(port)
    zone = ZoneServer(mail.records())
    host, dns_port = await zone.start()
    try:
        with tempfile.TemporaryDirectory(prefix="srs-relay-bench-", dir="/var/tmp") as name:
            return await _watched(Path(name), f"{host}:{dns_port}", sink, port, small, large, octets)
    finally:
        await sink.stop()
        await zone.close()


async def _watched(
    folder: Path, dns: str, sink: Sink, sink_port: int, small: int, large: int, large_octets: int
) -> Turns:
    port = free_port()
    write_files(folder, port, dns, sink_port)
    config = load(folder / "relay.toml")
    with (folder / "log").open("w") as log:
        logging.configure("json", "info", log)
        store = Store(await connect(config.queue.url, owner="bench"), "bench")
        resolver = CachingResolver(config.dns.nameservers, config.dns.timeout, config.dns.cache_entries)
        worker = Worker(config, store, SharedCounts(1), 0, resolver, Metrics(), read_files(config), Rates(config.srs))
        sock = socket.create_server(("127.0.0.1", port), backlog=200)
        sock.setblocking(False)
        worker.start([(config.listen[0], sock)])
        for name, octets in (("small", SMALL), ("large", large_octets)):
            (folder / name).write_bytes(mail.signed(octets).replace(b"\r\n", b"\n"))
        async with asyncio.timeout(PATIENCE):
            sources = [
                await pushing(port, 10, small, ["-F", str(folder / "small")]),
                await pushing(port, 2, large, ["-F", str(folder / "large")]),
            ]
            gc.freeze()  # as the supervisor does before it forks, so that a collection skips the modules
            gc.set_threshold(*GC_THRESHOLDS)
            watch = _Watch()  # only now: starting the processes must not count
            await sink.reach(small + large)
            turns = watch.stop()
            for process in sources:
                await process.wait()
        await worker.stop(5)
    return turns
