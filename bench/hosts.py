"""`python -m bench.hosts`: one host, then two, on one queue in PostgreSQL.

A server of its own starts in a temporary folder, with `fsync` on. Each host is one relay with one worker, and gets the
same share of a core, so that server, senders and sink have room beside two of them. Printed are the rate, the
processor time a message of the hosts and of the server, and how many statements and transactions a message takes.
Root sets the share in a control group; for others it is the share of a core that each host is bound to (taskset).
"""

from __future__ import annotations

import argparse
import asyncio
import os
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import uvloop

from bench.load import PATIENCE, Sink, source
from bench.running_relay import RunningRelay, free_port, wait_for_greeting, write_files
from relay.cli.zone import ZoneServer
from tests.postgresql import PostgresServer

OCTETS = 10_240
SESSIONS = 20  # at each host
WARM_UP = 200  # messages at each host
SETTINGS = ("shared_preload_libraries=pg_stat_statements", "max_connections=200")
PERIOD = 10_000  # µs in which a share of a core is counted: short, so that a host stands still for a moment only
GROUPS = Path("/sys/fs/cgroup")
STATEMENTS = """
    SELECT coalesce(sum(calls), 0)::bigint, (SELECT xact_commit FROM pg_stat_database WHERE datname = '{name}')
    FROM pg_stat_statements WHERE dbid = (SELECT oid FROM pg_database WHERE datname = '{name}')
"""
TOP = """
    SELECT calls, round(total_exec_time::numeric, 1), regexp_replace(query, '\\s+', ' ', 'g') FROM pg_stat_statements
    WHERE dbid = (SELECT oid FROM pg_database WHERE datname = '{name}') ORDER BY calls DESC LIMIT 25
"""


@dataclass(frozen=True, slots=True)
class Figures:
    """What one run has measured; all but the rate is for one message, times are milliseconds of a processor."""

    rate: float
    hosts: float
    server: float
    statements: float
    transactions: float

    def __str__(self) -> str:
        return (
            f"{self.rate:4.0f} messages/s, CPU ms a message: hosts {self.hosts:.2f}, server {self.server:.2f}; "
            f"{self.statements:.1f} statements and {self.transactions:.1f} transactions a message"
        )


class Server:
    """A PostgreSQL server that counts what it does."""

    def __init__(self, postgres: PostgresServer) -> None:
        self._postgres = postgres
        self.url = postgres.create_database()
        self._name = self.url.rpartition("/")[2]
        postgres.sql("CREATE EXTENSION IF NOT EXISTS pg_stat_statements")

    def cpu(self) -> float:
        """Seconds of processor time used so far by all its processes, those that have ended included."""
        postmaster = self._postgres.pid
        children = Path(f"/proc/{postmaster}/task/{postmaster}/children").read_text().split()
        ticks = sum(times(postmaster)[:4]) + sum(sum(times(int(pid))[:2]) for pid in children)
        return ticks / os.sysconf("SC_CLK_TCK")

    def counts(self) -> tuple[int, int]:
        """Statements and transactions so far."""
        calls, transactions = self._postgres.sql(STATEMENTS.format(name=self._name)).split("|")
        return int(calls), int(transactions)

    def forget(self) -> None:
        """Count statements anew."""
        self._postgres.sql("SELECT pg_stat_statements_reset()")

    def top(self) -> str:
        """The statements that were executed most often: how often, in how many milliseconds, and their text."""
        return self._postgres.sql(TOP.format(name=self._name))


def times(pid: int) -> list[int]:
    """The ticks that a process has spent in user mode and in the kernel, and then those of its ended children."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:  # it ended just now, and counts with its parent
        return [0, 0, 0, 0]
    return [int(field) for field in fields[11:15]]


@contextmanager
def share(number: int, cores: float) -> Iterator[Sequence[str]]:
    """What to write before a command so that it gets a share of a core, as long as the context lasts."""
    core = str(number % (os.cpu_count() or 1))
    parent = GROUPS / "cpu" if (GROUPS / "cpu" / "cpu.cfs_quota_us").exists() else GROUPS
    if os.geteuid() != 0:
        yield ("taskset", "-c", core)
        return
    group = parent / f"srs-relay-bench-{os.getpid()}-{number}"
    group.mkdir()
    try:
        quota = int(cores * PERIOD)
        if (group / "cpu.max").exists():
            (group / "cpu.max").write_text(f"{quota} {PERIOD}")
        else:
            (group / "cpu.cfs_period_us").write_text(str(PERIOD))
            (group / "cpu.cfs_quota_us").write_text(str(quota))
        yield ("sh", "-c", f'echo $$ > {group}/cgroup.procs; exec "$@"', "sh", "taskset", "-c", core)
    finally:
        group.rmdir()


@asynccontextmanager
async def host(
    number: int, url: str, sink: int, dns: str, cores: float, concurrency: int
) -> AsyncIterator[RunningRelay]:
    """A relay on the queue behind a URL, with one worker and a share of a core."""
    port = free_port()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="srs-relay-bench-", dir="/var/tmp")))
        wrapper = stack.enter_context(share(number, cores))
        settings = ["workers = 1", "arc.seal = false", f'queue.url = "{url}"', f"delivery.concurrency = {concurrency}"]
        write_files(folder, port, dns, sink, settings=settings)
        log = stack.enter_context((folder / "log").open("wb"))
        process = await asyncio.create_subprocess_exec(
            *wrapper, sys.executable, "-m", "relay", "serve", "--config", f"{folder}/relay.toml", stdout=log
        )
        try:
            await wait_for_greeting(port, process)
            yield RunningRelay(port, process.pid)
        finally:
            process.terminate()
            await asyncio.wait_for(process.wait(), 30)


async def run(server: Server, hosts: int, cores: float, messages: int, concurrency: int) -> Figures:
    """Send so many messages to each host at the same time, and wait until all have arrived at the sink.

    Args:
        concurrency: how many deliveries at once a host has at the sink.
    """
    zone = ZoneServer({("sender.test", "TXT"): ['"v=spf1 ip4:127.0.0.1 -all"']})
    address, dns_port = await zone.start()
    sink_port = free_port()
    sink = await Sink.start(sink_port)
    try:
        async with AsyncExitStack() as stack, asyncio.timeout(PATIENCE):
            running = [
                await stack.enter_async_context(
                    host(n, server.url, sink_port, f"{address}:{dns_port}", cores, concurrency)
                )
                for n in range(hosts)
            ]

            async def send(count: int) -> None:
                arrived = sink.count
                await asyncio.gather(*(source(relay.port, SESSIONS, OCTETS, count) for relay in running))
                await sink.reach(arrived + count * hosts)

            await send(WARM_UP)
            server.forget()
            cpu = sum(relay.cpu() for relay in running)
            server_cpu, (statements, transactions) = server.cpu(), server.counts()
            started = time.monotonic()
            await send(messages)
            seconds = time.monotonic() - started
            await asyncio.sleep(1)  # the work after the last delivery counts, too
            count = messages * hosts
            cpu, server_cpu = sum(relay.cpu() for relay in running) - cpu, server.cpu() - server_cpu
            calls, committed = server.counts()
            return Figures(
                count / seconds,
                cpu / count * 1000,
                server_cpu / count * 1000,
                (calls - statements) / count,
                (committed - transactions) / count,
            )
    finally:
        await sink.stop()
        await zone.close()


def _spread(values: Sequence[float]) -> str:
    return f"{statistics.median(values):.2f} ({min(values):.2f} to {max(values):.2f})"


async def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.hosts", description=__doc__)
    parser.add_argument("--cores", type=float, default=0.4, help="share of a core that a host gets (default: 0.4)")
    parser.add_argument("--messages", type=int, default=1000, help="to each host in a run (default: 1000)")
    parser.add_argument("--rounds", type=int, default=3, help="of one host, then two (default: 3)")
    parser.add_argument(
        "--concurrency", type=int, default=20, help="deliveries at once of a host; with 1 mail comes from the queue"
    )
    parser.add_argument("--statements", action="store_true", help="print the statements executed most often as well")
    options = parser.parse_args()
    postgres = PostgresServer(SETTINGS)
    ratios, ratios_of_cpu = [], []
    try:
        postgres.start()
        for _ in range(options.rounds):
            of_hosts = []
            for hosts in (1, 2):
                server = Server(postgres)
                figures = await run(server, hosts, options.cores, options.messages, options.concurrency)
                print(f"{hosts} x {options.cores:g} core: {figures}", flush=True)
                if options.statements:
                    print(server.top(), flush=True)
                of_hosts.append(figures)
            one, two = of_hosts
            ratios.append(two.rate / one.rate)
            ratios_of_cpu.append(2 * one.hosts / two.hosts)
        print(f"two hosts reach {_spread(ratios)} of the rate of one")
        print(f"by the processor time that a message takes it would be {_spread(ratios_of_cpu)}")
    finally:
        postgres.remove()


if __name__ == "__main__":
    uvloop.run(main())
