"""`python -m bench.compare`: two relays, A and B, side by side on a machine that is now faster, now slower.

Both run all the time. Short bursts of messages go to one and to the other in turns, in the order A B B A, so that both
see the same machine. Each pair of bursts gives one ratio; printed are the medians, and the difference of B from A with
its 95 % interval. A relay that waits costs nothing: what it used meanwhile is printed as well. Both are started anew
several times, because one process has a luckier place in memory than another.

    python -m bench.compare --before ../checkout-of-main --after .
    python -m bench.compare --before /opt/old-venv --after /opt/new-venv --workload AUTH
    python -m bench.compare --a 'delivery.mode = "queue"' --b 'delivery.mode = "in-session"'
    python -m bench.compare --set 'delivery.mode = "in-session"' --a 'arc.seal = true' --b 'arc.seal = false'
"""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial

import uvloop

from bench import machine
from bench.load import WORKLOADS, Counts, Load, Sink, Workload, burst, content_of
from bench.paired import Difference, difference, pairs
from bench.running_relay import HERE, Prepare, Program, RunningRelay, free_port, relay

WARM_UP = 300  # messages to each relay before it counts
CONNECTIONS = 2500  # at a time, that each relay takes


@dataclass(frozen=True, slots=True)
class Side:
    """What runs on one side: a program, with the lines of TOML that configure it."""

    program: Program = HERE
    settings: Sequence[str] = ()


@dataclass(slots=True)
class Bursts:
    """The figures of both sides; those at the same place are of one pair.

    Attributes:
        idle: for each burst, the share of one core that the relay used that had nothing to do.
    """

    a: list[Load] = field(default_factory=list)
    b: list[Load] = field(default_factory=list)
    idle: list[float] = field(default_factory=list)

    @property
    def cpu(self) -> Difference:
        """Milliseconds of processor time a message."""
        return difference([each.cpu for each in self.a], [each.cpu for each in self.b])

    @property
    def rate(self) -> Difference:
        """Messages a second."""
        return difference([each.rate for each in self.a], [each.rate for each in self.b])

    def table(self) -> str:
        """Both as lines of a table."""
        rows = [f"{'':<22}{'A':>10}{'B':>10}   B against A"]
        for name, found in (("CPU ms a message", self.cpu), ("messages a second", self.rate)):
            rows.append(f"{name:<22}{found.a:>10.2f}{found.b:>10.2f}   {found}")
        return "\n".join([*rows, f"the waiting relay used at most {max(self.idle, default=0) * 100:.1f} % of a core"])


Send = Callable[[], Awaitable[Load]]
Started = tuple[RunningRelay, Counts]


async def in_turns(sends: tuple[Send, Send], relays: tuple[RunningRelay, RunningRelay], pairs: int) -> Bursts:
    """Call one and the other in the order A B B A until there are so many pairs."""
    found = Bursts()
    for pair in range(pairs):
        for side in (0, 1) if pair % 2 == 0 else (1, 0):
            waiting = relays[1 - side]
            used, began = waiting.cpu(), asyncio.get_running_loop().time()
            (found.a, found.b)[side].append(await sends[side]())
            found.idle.append((waiting.cpu() - used) / (asyncio.get_running_loop().time() - began))
    return found


async def take_turns(
    a: Started, b: Started, sessions: int, content: Sequence[str], messages: int, pairs: int, warm_up: int = WARM_UP
) -> Bursts:
    """Send bursts to two running relays with their sinks, after some messages that do not count.

    Args:
        content: the options of smtp-source for it.
    """
    for running, sink in (a, b):
        await burst(running, sink, sessions, warm_up, content)
    sends = (
        partial(burst, a[0], a[1], sessions, messages, content),
        partial(burst, b[0], b[1], sessions, messages, content),
    )
    return await in_turns(sends, (a[0], b[0]), pairs)


@asynccontextmanager
async def running(
    side: Side, *, signed: bool = False, prepare: Prepare | None = None
) -> AsyncIterator[tuple[RunningRelay, Sink]]:
    """A relay, and the sink that it forwards to; arguments as those of `running_relay.relay`."""
    port = free_port()
    sink = await Sink.start(port)
    try:
        async with relay(
            port,
            signed=signed,
            connections=CONNECTIONS,
            settings=side.settings,
            program=side.program,
            prepare=prepare,
        ) as started:
            yield started, sink
    finally:
        await sink.stop()


async def compare(a: Side, b: Side, workload: Workload, messages: int, pairs: int, starts: int) -> Bursts:
    """So many pairs of bursts in all, with both relays started anew `starts` times."""
    found = Bursts()
    for start in range(starts):
        share = pairs // starts + (start < pairs % starts)
        async with (
            content_of(workload) as content,
            running(a, signed=workload.signed) as one,
            running(b, signed=workload.signed) as other,
        ):
            timed = await take_turns(one, other, workload.sessions, content, messages, share)
        found.a += timed.a
        found.b += timed.b
        found.idle += timed.idle
    return found


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m bench.compare", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    place = "a checkout, a virtual environment, or a Python with the package (default: this checkout)"
    parser.add_argument("--before", metavar="PLACE", help=f"the program of A: {place}")
    parser.add_argument("--after", metavar="PLACE", help="the program of B, likewise")
    parser.add_argument("--a", action="append", default=[], metavar="LINE", help="a line of TOML to configure A")
    parser.add_argument("--b", action="append", default=[], metavar="LINE", help="a line of TOML to configure B")
    parser.add_argument("--set", action="append", default=[], metavar="LINE", help="a line of TOML to configure both")
    parser.add_argument("--workload", choices=list(WORKLOADS), action="append", help="default: W1")
    parser.add_argument("--messages", type=int, default=400, help="of a burst (default: 400)")
    parser.add_argument("--pairs", type=pairs, default=15, help="of bursts (default: 15)")
    parser.add_argument("--starts", type=int, default=3, help="of both relays, for these pairs (default: 3)")
    return parser.parse_args()


async def main() -> None:
    options = _options()
    a, b = (
        Side(Program.at(place) if place else HERE, [*options.set, *lines])
        for place, lines in ((options.before, options.a), (options.after, options.b))
    )
    for name, side in (("A", a), ("B", b)):
        print(f"{name}: {side.program}, {'; '.join(side.settings) or 'as configured by default'}")
    for program in {a.program.python: a.program, b.program.python: b.program}.values():
        print(machine.describe(program), flush=True)
    for name in options.workload or ["W1"]:
        found = await compare(a, b, WORKLOADS[name], options.messages, options.pairs, options.starts)
        print(f"\n{name}: {WORKLOADS[name]}, bursts of {options.messages} messages\n{found.table()}", flush=True)


if __name__ == "__main__":
    uvloop.run(main())
