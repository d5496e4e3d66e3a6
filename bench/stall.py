"""The longest turns of a worker's event loop, while mail of 10 KiB and of 10 MB comes in and leaves.

The worker runs in this process, on the loop that is watched; clients and next hop are other processes.
"""

from __future__ import annotations

import asyncio
import gc
import socket
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

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
PATIENCE = 240.0  # seconds for one run
NOTED = 0.005  # seconds; shorter turns are not noted


@dataclass(slots=True)
class Turns:
    """The longest turns of a loop, in milliseconds: by the clock, and by the loop's own processor time.

    The difference is the time that other processes or threads had.
    """

    wall: list[float]
    cpu: list[float]


class _Watch:
    """Measures every turn of the loop."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._last = (time.perf_counter(), time.thread_time())
        self._running = True
        self._wall: list[float] = []
        self._cpu: list[float] = []
        self._loop.call_soon(self._turn)

    def _turn(self) -> None:
        wall, cpu = self._last
        self._last = (time.perf_counter(), time.thread_time())
        if self._last[0] - wall > NOTED:
            self._wall.append((self._last[0] - wall) * 1000)
            self._cpu.append((self._last[1] - cpu) * 1000)
        if self._running:
            self._loop.call_soon(self._turn)

    def stop(self) -> Turns:
        self._running = False
        return Turns(sorted(self._wall, reverse=True)[:5], sorted(self._cpu, reverse=True)[:5])


async def run(small: int, large: int) -> Turns:
    """Push `small` messages of 10 KiB over ten sessions and `large` of 10 MB over two at the same time."""
    port = free_port()
    sink = await Sink.start(port)
    zone = ZoneServer(mail.records())
    host, dns_port = await zone.start()
    try:
        with tempfile.TemporaryDirectory(prefix="srs-relay-bench-", dir="/var/tmp") as name:
            return await _watched(Path(name), f"{host}:{dns_port}", sink, port, small, large)
    finally:
        await sink.stop()
        await zone.close()


async def _watched(folder: Path, dns: str, sink: Sink, sink_port: int, small: int, large: int) -> Turns:
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
        for name, octets in (("small", SMALL), ("large", LARGE)):
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
