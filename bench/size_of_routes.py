"""The parts of `bench.size` about where mail goes: many next hops at once, and many recipients behind one alias."""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from bench.compare import take_turns
from bench.load import burst
from bench.running_relay import ALIAS, RunningRelay, relay
from bench.sink import OwnSink

HOPS, SESSIONS = 300, 50
FAN_OUTS = (1, 10, 100, 1000)
RECIPIENTS = 2000  # of a burst, over all its messages
CONTENT = ["-l", "10240"]


@asynccontextmanager
async def _routed(
    sink: OwnSink, port: int, addresses: Sequence[str], aliases: str, settings: Sequence[str]
) -> AsyncIterator[tuple[RunningRelay, OwnSink]]:
    """A relay with a next hop, and a domain `hopN.test` that leads to it, for each address."""
    domains = [
        f'routes.domains."hop{place}.test" = {{ next_hop = "smtp://{address}:{port}", recipients = "any" }}'
        for place, address in enumerate(addresses)
    ]

    async def prepare(folder: Path) -> None:
        (folder / "aliases").write_text(aliases)

    async with relay(port, settings=[*domains, *settings], prepare=prepare) as running:
        yield running, sink


async def hops(options: argparse.Namespace) -> None:
    """Mail to many next hops at once, beside mail to one of them. Each relay has a sink that listens on all."""
    addresses = [f"127.0.{1 + place // 250}.{1 + place % 250}" for place in range(HOPS)]
    numbered = range(1, max(options.messages, HOPS) + 1)  # as smtp-source -N does
    to_one = "".join(f"{number}{ALIAS} user@hop0.test\n" for number in numbered)
    to_all = "".join(f"{number}{ALIAS} user@hop{number % HOPS}.test\n" for number in numbered)
    came: dict[str, list[float]] = {address: [] for address in addresses}
    one, many = OwnSink(), OwnSink(lambda address, recipients, content: came[address].append(time.monotonic()))
    async with (
        _routed(one, await one.start(addresses[:1]), addresses[:1] * HOPS, to_one, options.set) as first,
        _routed(many, await many.start(addresses), addresses, to_all, options.set) as second,
    ):
        content = ["-N", *CONTENT]
        found = await take_turns(first, second, SESSIONS, content, options.messages, options.pairs, warm_up=HOPS)
        for times in came.values():
            times.clear()
        began = time.monotonic()
        await burst(*second, SESSIONS, max(options.messages, HOPS), content)
    one.stop()
    many.stop()
    print(f"{found.table()}\n{HOPS} next hops: {1 + found.cpu.percent / 100:.3f} of the cost of a message to one")
    firsts = sorted(min(times) - began for times in came.values())
    last = max(max(times) for times in came.values()) - began
    print(
        f"a hop has its first message of a burst after {statistics.median(firsts):.2f} s (median) and "
        f"{firsts[-1]:.2f} s (the last hop); the burst takes {last:.2f} s"
    )


async def aliases(options: argparse.Namespace) -> None:
    """One message to many recipients behind an alias, at one next hop: the cost for each recipient."""
    sink = OwnSink()
    port = await sink.start()
    lines = [f"{fan_out}{ALIAS} {', '.join(f'user{n}@hop0.test' for n in range(fan_out))}\n" for fan_out in FAN_OUTS]
    async with _routed(sink, port, ["127.0.0.1"], "".join(lines), options.set) as (running, _):
        costs: dict[int, list[float]] = {fan_out: [] for fan_out in FAN_OUTS}
        for round_ in range(options.pairs + 1):
            for fan_out in FAN_OUTS:
                messages = max(1, RECIPIENTS // fan_out)
                content = ["-t", f"{fan_out}{ALIAS}", *CONTENT]
                load = await burst(running, sink, min(20, messages), messages, content, arrivals=fan_out)
                if round_:  # the first one fills the caches
                    costs[fan_out].append(load.cpu / fan_out)
    sink.stop()
    for fan_out, each in costs.items():
        quarters = statistics.quantiles(each, n=4)
        print(
            f"{fan_out:>5} recipients behind one alias: {statistics.median(each):.3f} ms of CPU a recipient "
            f"(middle half {quarters[0]:.3f} to {quarters[2]:.3f})"
        )
