"""`python -m bench.queue_scale`: the cost of a queue with a million deliveries to a next hop that is down.

The same work is done in turns on an empty SQLite queue and on the long one: storing, claiming, loading and finishing
messages for another next hop. The figure is the median processor time of a message, which a busy machine distorts
least. Then the long queue is read from end to end, as the dispatcher and the queue commands do.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Executable, insert

from relay.deliver.queue_reader import PAGE
from relay.mail.message import Message
from relay.mail.queue_id import QueueIds
from relay.queue import admin
from relay.queue.connect import connect
from relay.queue.database import Database
from relay.queue.schema import delivery, message
from relay.queue.store import Change, Delivery, Due, Store, StoredMessage
from relay.queue.stored_verdict import StoredVerdict

CONTENT = b"From: ann@sender.example\r\nSubject: hello\r\n\r\n" + b"x" * 500 + b"\r\n"
SESSIONS = 20
AT_ONCE = 10_000
IDS = QueueIds(time.time)


def arrival(hop: str, next_attempt: float) -> Change:
    """A new message with one delivery."""
    number = IDS.new()
    stored = StoredMessage(
        number, time.time(), "ann@sender.example", b"Received: x\r\n", Message(CONTENT), StoredVerdict()
    )
    waiting = Delivery(number, 0, f"r@{hop}", "r@fwd.example", hop=hop, next_attempt=next_attempt, expires=9e9)
    return Change(arrived=[stored], deliveries=[waiting])


def execute(statement: Executable, rows: list[dict[str, Any]], connection: Connection) -> None:
    """Insert rows, as a function for `Database.write`."""
    connection.execute(statement, rows)


async def fill(queue: Database, count: int) -> None:
    """Write deliveries directly into the tables; all are due."""
    template = arrival("dead.example", 1.0)
    body_hash = template.arrived[0].message.relaxed_body_hash
    fixed = {"received": 1.0, "sender": "ann@sender.example", "size": len(CONTENT), "body_hash": body_hash}
    fixed |= {"smtputf8": False, "ret": "", "envid": "", "verdict": {}, "trace": b"", "content": CONTENT}
    fields = asdict(template.deliveries[0])
    for start in range(0, count, AT_ONCE):
        ids = [IDS.new() for _ in range(min(AT_ONCE, count - start))]
        messages = [{"id": number, **fixed} for number in ids]
        deliveries = [{**fields, "message_id": number} for number in ids]
        await queue.write(partial(execute, insert(message), messages), durable=False)
        await queue.write(partial(execute, insert(delivery), deliveries), durable=False)
        await asyncio.sleep(0)


async def work(store: Store, count: int) -> dict[str, float]:
    """Milliseconds of processor time a message for each step, with `SESSIONS` messages at once."""
    hop, due = "quick.example", time.time()
    costs: dict[str, float] = {}

    async def step(name: str, run: Callable[[int], Coroutine[Any, Any, None]]) -> None:
        numbers = iter(range(count))

        async def session() -> None:
            for n in numbers:
                await run(n)

        started = time.process_time()
        await asyncio.gather(*(session() for _ in range(SESSIONS)))
        costs[name] = (time.process_time() - started) / count * 1000

    changes = [arrival(hop, due) for _ in range(count)]
    claimed: list[Delivery] = []
    claiming = asyncio.Lock()

    async def claim(_: int) -> None:
        async with claiming:
            if not claimed:
                page = await store.due(time.time(), PAGE, hop=hop)
                claimed.extend(await store.lease(page, time.time() + 600))
        finishing.append(claimed.pop())

    async def load(n: int) -> None:
        await store.load(finishing[n].message_id)

    finishing: list[Delivery] = []
    await step("store (synced)", lambda n: store.apply(changes[n]))
    await step("claim", claim)
    await step("load", load)
    await step("finish", lambda n: store.apply(Change(finished=[finishing[n].key], durable=False)))
    return costs


async def walk(store: Store) -> tuple[float, float]:
    """Seconds to read all that is due, page by page, and the longest time for one page."""
    after: Due | None = None
    started, longest = time.perf_counter(), 0.0
    while True:
        began = time.perf_counter()
        page = await store.due(time.time(), PAGE, after=after)
        longest = max(longest, time.perf_counter() - began)
        if len(page) < PAGE:
            return time.perf_counter() - started, longest
        after = page[-1]


@asynccontextmanager
async def stalls() -> AsyncIterator[list[float]]:
    """A list with the longest time for which the event loop did nothing else, in seconds."""
    longest = [0.0]

    async def tick() -> None:
        while True:
            before = time.perf_counter()
            await asyncio.sleep(0.001)
            longest[0] = max(longest[0], time.perf_counter() - before - 0.001)

    ticking = asyncio.create_task(tick())
    try:
        yield longest
    finally:
        ticking.cancel()


def listing(folder: Path) -> tuple[float, float, int]:
    """Seconds and peak MiB of `queue list --json`, and how many deliveries it printed."""
    config = folder / "relay.toml"
    (folder / "secret").write_text("secret\n")
    config.write_text(
        'hostname = "mx.fwd.example"\n[[listen]]\naddress = "127.0.0.1:2525"\n'
        '[srs]\ndomain = "fwd.example"\nsecrets_file = "secret"\n'
    )
    program = (
        f"import sys; from pathlib import Path; from relay.cli import run; "
        f"status = run(['queue', 'list', '--json', '--config', {str(config)!r}]); "
        f"print(Path('/proc/self/status').read_text(), file=sys.stderr); sys.exit(status)"
    )
    started = time.perf_counter()
    with (folder / "list.json").open("wb") as output:
        done = subprocess.run([sys.executable, "-c", program], stdout=output, stderr=subprocess.PIPE, check=True)
    seconds = time.perf_counter() - started
    peak = re.search(rb"VmHWM:\s*(\d+) kB", done.stderr)
    assert peak is not None
    return seconds, int(peak[1]) / 1024, len(json.loads((folder / "list.json").read_bytes()))


async def compare(empty: Store, long: Store, rounds: int, messages: int) -> None:
    """Print what each step costs on either queue."""
    for store in (empty, long):
        await work(store, messages)  # for statements that are prepared once, and what the caches hold
    costs = [(await work(empty, messages), await work(long, messages)) for _ in range(rounds)]
    print(f"{'CPU ms a message':<20}{'empty queue':>14}{'long queue':>14}{'ratio':>8}")
    steps = {
        name: tuple(
            statistics.median(steps_of_round[name] for steps_of_round in side) for side in zip(*costs, strict=True)
        )
        for name in costs[0][0]
    }
    steps["all"] = (sum(before for before, _ in steps.values()), sum(after for _, after in steps.values()))
    for name, (before, after) in steps.items():
        print(f"{name:<20}{before:>14.3f}{after:>14.3f}{after / before:>8.2f}", flush=True)


async def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.queue_scale", description=__doc__)
    parser.add_argument("--deliveries", type=int, default=1_000_000)
    parser.add_argument("--messages", type=int, default=1000, help="of a round of the work (default: 1000)")
    parser.add_argument("--rounds", type=int, default=15, help="of the work (default: 15)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="srs-relay-bench-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        queue = await connect(f"sqlite:///{folder}/queue.db")
        store = Store(queue, "bench")
        empty = Store(await connect(f"sqlite:///{folder}/empty.db"), "bench")
        started = time.perf_counter()
        await fill(queue, options.deliveries)
        print(f"{options.deliveries:,} deliveries put in within {time.perf_counter() - started:.0f} s", flush=True)
        await compare(empty, store, options.rounds, options.messages)
        await empty.close()
        seconds, longest = await walk(store)
        print(f"a look at everything due: {seconds:.1f} s in pages of at most {longest * 1000:.1f} ms")
        async with stalls() as stall:
            started = time.perf_counter()
            counts = await store.counts()
            print(f"counting by state: {time.perf_counter() - started:.2f} s, loop held up {stall[0] * 1000:.1f} ms")
        assert counts == {"queued": options.deliveries}
        seconds, memory, count = await asyncio.to_thread(listing, folder)
        print(f"queue list --json: {seconds:.1f} s, {memory:.0f} MiB at most, {count:,} deliveries")
        for command, run in (("retry", admin.retry(queue, [], 2.0, 1.0)), ("drop", admin.drop(queue, []))):
            started = time.perf_counter()
            waits: list[float] = []
            commanding = asyncio.create_task(run)
            while not commanding.done():
                began = time.perf_counter()
                await store.apply(arrival("quick.example", 9e9))
                waits.append(time.perf_counter() - began)
                await asyncio.sleep(0.02)
            seconds = time.perf_counter() - started
            print(f"queue {command} --all: {seconds:.1f} s, others wait {max(waits) * 1000:.0f} ms at most")
        await store.close()


if __name__ == "__main__":
    asyncio.run(main())
