"""`python -m bench.lists`: what trusted mail takes while strangers wait at DNS lists that do not answer.

A thousand strangers, each with an address of its own, stay connected and name a recipient every ten seconds. Three
lists give no answer to anything. Trusted mail comes in bursts, in turns to two relays, as those of `bench.compare`: B
has the strangers and the lists; A has nothing beside the trusted mail, and then the same strangers without lists.

    python -m bench.lists
    python -m bench.lists --strangers 300 --pairs 6 --messages 200
"""

from __future__ import annotations

import argparse
import asyncio
import random
import resource
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager

import dns.message
import uvloop

from bench import machine
from bench.compare import Bursts, Side, running, take_turns
from bench.load import Sink
from bench.paired import pairs
from bench.running_relay import ALIAS, RunningRelay
from relay.cli.zone import ZoneServer

SESSIONS, OCTETS = 20, ["-l", "10240"]
PAUSE = 10.0  # seconds between two recipients of a stranger
START_PAUSE = 0.003  # seconds between two connections
TRUSTED = 'clients.trusted = ["127.0.0.1"]'
LISTS = 'clients.dnsbl = [{ zone = "a.dead.test" }, { zone = "b.dead.test" }, { zone = "c.dead.test" }]'
RECORDS = {("sender.test", "TXT"): ['"v=spf1 ip4:127.0.0.1 -all"']}


class _DeadLists(ZoneServer):
    """A DNS with lists that do not answer.

    Attributes:
        questions: to these lists.
    """

    questions = 0

    def answer(self, request: dns.message.Message) -> dns.message.Message | None:
        if ".dead.test." in request.question[0].name.to_text():
            self.questions += 1
            return None
        return super().answer(request)


async def _stranger(port: int, number: int) -> None:
    """One stranger, until it is cancelled."""
    source = f"127.1.{number // 250}.{1 + number % 250}"
    reader, writer = await asyncio.open_connection("127.0.0.1", port, local_addr=(source, 0))
    try:
        await reader.readline()
        writer.write(b"HELO stranger.test\r\n")
        await reader.readline()
        while True:
            writer.write(b"MAIL FROM:<>\r\nRCPT TO:<%s>\r\nRSET\r\n" % ALIAS.encode())
            for _ in range(3):
                reply = await reader.readline()
                if not reply.startswith(b"250"):
                    raise SystemExit(f"a stranger hears {reply!r}")
            await asyncio.sleep(random.uniform(0.5, 1.5) * PAUSE)
    finally:
        writer.close()


@asynccontextmanager
async def _strangers(port: int, count: int) -> AsyncIterator[None]:
    tasks = []
    try:
        for number in range(count):
            tasks.append(asyncio.create_task(_stranger(port, number)))
            await asyncio.sleep(START_PAUSE)
        yield
        for task in tasks:
            if task.done():
                task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@asynccontextmanager
async def _started(settings: Sequence[str], strangers: int) -> AsyncIterator[tuple[RunningRelay, Sink]]:
    async with AsyncExitStack() as stack:
        relay, sink = await stack.enter_async_context(running(Side(settings=settings)))
        await stack.enter_async_context(_strangers(relay.port, strangers))
        yield relay, sink


def _ratio(what: str, found: Bursts) -> str:
    rate = found.rate
    times = [1 / (1 + percent / 100) for percent in (rate.percent, rate.high, rate.low)]
    return f"{found.table()}\n{what}: a message takes {times[0]:.3f} of the time ({times[1]:.3f} to {times[2]:.3f})"


async def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m bench.lists", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--strangers", type=int, default=1000, help="connected all the time (default: 1000)")
    parser.add_argument("--pairs", type=pairs, default=15, help="of bursts (default: 15)")
    parser.add_argument("--messages", type=int, default=400, help="of a burst (default: 400)")
    options = parser.parse_args()
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    print(machine.describe(), flush=True)
    server = _DeadLists(RECORDS)
    host, port = await server.start()
    plain = [TRUSTED, f'dns.nameservers = ["{host}:{port}"]']
    for what, beside in (("trusted mail alone", 0), ("the same strangers without lists", options.strangers)):
        async with _started(plain, beside) as a, _started([*plain, LISTS], options.strangers) as b:
            found = await take_turns(a, b, SESSIONS, OCTETS, options.messages, options.pairs)
        print(f"\nB: {options.strangers} strangers at dead lists; A: {what}")
        print(_ratio(f"against {what}", found), flush=True)
    print(f"\nquestions to the dead lists in all this time: {server.questions}")
    await server.close()


if __name__ == "__main__":
    uvloop.run(main())
