"""`python -m bench.size`: what a message costs where there is much of something else.

Each figure is that of a relay with much beside one with little, in bursts that take turns as those of `bench.compare`.

    python -m bench.size sessions       950 idle sessions beside 50 busy ones, and the memory of a session
    python -m bench.size queue          100,000 deferred deliveries in the queue (--deliveries 1000000)
    python -m bench.size hops           300 next hops at once, beside one
    python -m bench.size aliases        1, 10, 100 and 1,000 recipients behind one alias, for each recipient
    python -m bench.size large          25 MB mixed into 10 KiB: the longest turns of the event loop, with their causes
"""

from __future__ import annotations

import argparse
import asyncio
import resource
import sqlite3
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path

import uvloop

from bench import machine, size_of_routes, stall
from bench.compare import Bursts, Side, running, take_turns
from bench.paired import pairs
from bench.queue_scale import fill
from bench.soak import START_PAUSE, Peer
from relay.queue.connect import connect

OCTETS = ["-l", "10240"]
IDLE, BUSY = 950, 50
FIRST = 250  # idle sessions, which fill the memory that earlier ones have left; only the others are measured
SOON, SPREAD = 3600.0, 5 * 3600.0  # seconds until the first of the deferred deliveries is due, and until the last


def ratio(what: str, found: Bursts) -> str:
    """The figures of both relays, and the cost of a message of B as a multiple of that of A."""
    cpu = found.cpu
    low, high = 1 + cpu.low / 100, 1 + cpu.high / 100
    return f"{found.table()}\n{what}: {1 + cpu.percent / 100:.3f} of the cost of a message ({low:.3f} to {high:.3f})"


async def sessions(options: argparse.Namespace) -> None:
    """Idle sessions beside busy ones."""
    side = Side(settings=options.set)
    async with running(side) as few, running(side) as many, AsyncExitStack() as idle:
        await take_turns(few, many, BUSY, OCTETS, 1, 0)  # what the caches hold is no session's
        memory = {}
        for number in range(1, IDLE + 1):
            peer = await Peer.connect(many[0].port)
            idle.callback(peer.close)
            await asyncio.sleep(START_PAUSE)
            if number in (FIRST, IDLE):
                await many[0].quiet()
                memory[number] = many[0].memory()
        each = (memory[IDLE] - memory[FIRST]) / (IDLE - FIRST)
        print(f"memory of an idle session: {each / 1024:.1f} KiB", flush=True)
        found = await take_turns(few, many, BUSY, OCTETS, options.messages, options.pairs)
    print(ratio(f"{BUSY} busy sessions with {IDLE} idle ones", found))


async def queue(options: argparse.Namespace) -> None:
    """Deferred deliveries beside an empty queue."""

    async def deferred(folder: Path) -> None:
        began = time.perf_counter()
        database = await connect(f"sqlite:///{folder}/queue.db")
        await fill(database, options.deliveries)
        await database.close()
        await asyncio.to_thread(defer, folder / "queue.db", options.deliveries, time.time())
        print(f"{options.deliveries:,} deliveries put in within {time.perf_counter() - began:.0f} s", flush=True)

    side = Side(settings=options.set)
    async with running(side) as empty, running(side, prepare=deferred) as long:
        found = await take_turns(empty, long, 20, OCTETS, options.messages, options.pairs)
    print(ratio(f"{options.deliveries:,} deferred deliveries", found))


def defer(path: Path, count: int, now: float) -> None:
    """Spread the next attempts of all deliveries in an SQLite queue over the coming hours."""
    times = (now + SOON + place / count * SPREAD for place in range(count))
    with sqlite3.connect(path) as database:
        database.create_function("later", 0, lambda: next(times))
        database.execute("PRAGMA cache_size = -200000")  # KiB: the indexes are written anew
        database.execute("UPDATE delivery SET next_attempt = later(), attempts = 1")
    database.close()


async def large(options: argparse.Namespace) -> None:
    """Large messages beside small ones."""
    turns = await stall.run(options.messages, 20, options.octets)
    print(f"{options.octets / 1e6:.0f} MB mixed into 10 KiB\n{turns}")


COMMANDS: dict[str, Callable[[argparse.Namespace], Awaitable[None]]] = {
    "sessions": sessions,
    "queue": queue,
    "hops": size_of_routes.hops,
    "aliases": size_of_routes.aliases,
    "large": large,
}


async def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m bench.size", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=list(COMMANDS))
    parser.add_argument("--pairs", type=pairs, default=15, help="of bursts (default: 15)")
    parser.add_argument("--messages", type=int, default=400, help="of a burst (default: 400)")
    parser.add_argument("--deliveries", type=int, default=100_000, help="in the queue (default: 100000)")
    parser.add_argument("--octets", type=int, default=25_000_000, help="of a large message (default: 25000000)")
    parser.add_argument("--set", action="append", default=[], metavar="LINE", help="a line of TOML to configure both")
    options = parser.parse_args()
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    print(machine.describe(), flush=True)
    await COMMANDS[options.what](options)


if __name__ == "__main__":
    uvloop.run(main())
