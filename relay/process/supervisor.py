"""The parent process: it binds the ports, starts the workers, replaces those that die, and never touches a message.

It acts on signals: SIGHUP reloads the configuration, SIGTERM and SIGINT stop the relay, and so does SIGHUP from a
terminal that is gone. SIGCHLD tells that a worker has ended. `worker_processes` forks and replaces workers, `leases`
ends what a dead worker has claimed.
"""

from __future__ import annotations

import contextlib
import gc
import os
import resource
import signal
import socket
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import structlog

from relay.accounts.failures import LoginFailures
from relay.config.model import Config, ConfigError
from relay.config.sections import ListenSection, TablesSection
from relay.deliver.destination_limits import limited_tables
from relay.deliver.shared_limits import TABLES, SharedLimits
from relay.metrics import Metrics
from relay.process.files import Files
from relay.process.leases import free_leases, prepare_queue
from relay.process.ports import Ports
from relay.process.python_build import warn_of_slow_python
from relay.process.queue_lock import CannotStart, give_way, lock_queue
from relay.process.terminal import Terminal
from relay.process.worker_processes import WorkerProcesses, kill, terminate
from relay.rate import Rates
from relay.receive.shared_counts import SharedCounts
from relay.table_files.reloaded_file import next_look

log = structlog.get_logger()

STOP_PATIENCE = 8.0  # seconds for what is under way; `docker stop` gives ten in all
# Nearly all that a message allocates is freed by counting references, so the collector may look for circles less often
# than with Python's (700, 10, 10): a worker saves 4 % of its time, and `bench.soak` shows no more memory.
GC_THRESHOLDS = (10_000, 20, 20)
ROWS = 4  # rows of counters for each worker: generations overlap while a reload drains the old one

SIGNALS = frozenset({signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD})


@dataclass(slots=True)
class WorkerSetup:
    """What a worker inherits.

    Attributes:
        row: its row of counters, see `SharedCounts`.
        owner: its name in leases.
        parent_gone: a descriptor that becomes readable when the supervisor has ended.
        http: the socket of the monitoring endpoint; None without a section [http].
        tables: the lookup tables with their sockets, which all workers share.
        failures: of logins, for all workers.
        index: its number among the workers, from 0 on; it stays the same over replacements and reloads.
    """

    config: Config
    sockets: list[tuple[ListenSection, socket.socket]]
    counts: SharedCounts
    row: int
    owner: str
    parent_gone: int
    metrics: Metrics
    files: Files
    rates: Rates
    limits: SharedLimits
    failures: LoginFailures
    http: socket.socket | None = None
    tables: Sequence[tuple[TablesSection, socket.socket]] = ()
    index: int = 0


class Supervisor:
    """Runs the relay until it is told to stop.

    Args:
        load: reads the configuration, also again at SIGHUP.
        check: reads the files of a configuration, and raises where it cannot be run, before any worker starts with it.
        work: the life of a worker; returns its exit status.
    """

    def __init__(
        self, load: Callable[[], Config], check: Callable[[Config], Files], work: Callable[[WorkerSetup], int]
    ) -> None:
        self._load = load
        self._check = check
        self._work = work
        self._ports = Ports()
        self._lock: int | None = None

    def run(self) -> int:
        """Run the relay; returns the exit status.

        Raises:
            CannotStart, ConfigError, OSError, QueueUnavailable: all before the first worker runs.
        """
        _leave_no_core()  # before any secret is read
        terminal = Terminal()
        self._config = self._load()
        warn_of_slow_python()  # after the log is set up, and not again on a reload
        self._files = self._check(self._config)
        if self._config.takes_mail:
            # Before the ports: a second relay must not take clients away.
            self._lock = lock_queue(self._config.queue.url)
            prepare_queue(self._config.queue.url, alone=self._lock is not None)
        self._open_ports(self._config)  # after a migration, which may take long: a client should try another MX
        rows = self._config.workers * ROWS
        self._counts = SharedCounts(rows)
        self._metrics = Metrics(rows)
        self._metrics.dns_lists.adopt(self._config.clients.dns_lists)
        self._rates = Rates(self._config.srs, traffic=self._config.limits.rates)
        self._limits = SharedLimits(rows)
        self._limits.adopt(limited_tables(self._config))
        self._failures = LoginFailures()  # kept over a reload, which must not give anybody new tries
        self._workers = WorkerProcesses(rows, self._be_worker)
        _raise_file_limit()
        signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
        self._pipe = os.pipe()  # its write end closes with the supervisor, however that ends
        gc.freeze()
        gc.set_threshold(*GC_THRESHOLDS)
        self._workers.begin_generation(self._config.workers)
        self._start_missing()
        listen, tables = ([each.address for each in places] for places in (self._config.listen, self._config.tables))
        log.info("ready", workers=len(self._workers.alive), listen=listen, tables=tables or None)
        while True:
            received = signal.sigtimedwait(SIGNALS, self._seconds_until_next())
            match received.si_signo if received is not None else 0:
                case signal.SIGTERM | signal.SIGINT:
                    return self._stop()
                case signal.SIGHUP if received is not None and terminal.has_hung_up(received):
                    return self._stop("the terminal has hung up")
                case signal.SIGHUP:
                    self._reload()
                case _:
                    self._reap()
            self._files.look()
            self._start_missing()

    def _seconds_until_next(self) -> float:
        """Seconds until there is something to do without a signal: a worker to start, or the tables to look at."""
        look_in, start_in = next_look(time.time()), self._workers.next_start()
        return look_in if start_in is None else min(look_in, start_in)

    def _open_ports(self, config: Config) -> None:
        addresses = {listen.address for listen in config.listen}
        if config.http is not None:
            addresses.add(config.http.address)
        self._ports.open(addresses, config.workers, config.tables)

    # workers

    def _start_missing(self) -> None:
        if self._workers.due():
            self._files.look()
            self._workers.start_due()

    def _be_worker(self, index: int, row: int, owner: str) -> int:
        """The life of a worker, in the child process; returns its exit status."""
        os.close(self._pipe[1])
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
        http = self._config.http
        return self._work(
            WorkerSetup(
                self._config,
                [(listen, self._ports.by_address[listen.address][index]) for listen in self._config.listen],
                self._counts,
                row,
                owner,
                self._pipe[0],
                self._metrics,
                self._files,
                self._rates,
                self._limits,
                self._failures,
                self._ports.by_address[http.address][index] if http is not None else None,
                [(table, self._ports.by_address[table.address][0]) for table in self._config.tables],
                index,
            )
        )

    def _reap(self) -> None:
        """Give back what dead workers held: their counts, and their leases in the queue."""
        ended = self._workers.reap()
        for worker in ended:
            self._counts.clear(worker.row)
            self._limits.clear(worker.row)
            self._metrics.detach(worker.row)
        if ended and self._config.takes_mail:
            free_leases(self._config.queue.url, [worker.owner for worker in ended])

    # reload and stop

    def _reload(self) -> None:
        """Start a new generation of workers with the new configuration; the old ones finish what they have and end."""
        try:
            config = self._load()
            files = self._check(config)
            if config.queue.url != self._config.queue.url or config.workers > self._config.workers:
                raise ConfigError("queue.url and a larger number of workers need a restart")
            if config.takes_mail is not self._config.takes_mail:
                raise ConfigError("the first [[listen]], or none any more, needs a restart")
            if self._workers.free_rows < config.workers:
                raise CannotStart("the workers of earlier reloads are still finishing, try again in some seconds")
            tables = limited_tables(config)
            if len(tables) > TABLES:
                raise ConfigError(f"delivery.destinations: at most {TABLES} may have concurrency or rate")
            self._open_ports(config)
        except (ConfigError, CannotStart, OSError, ValueError) as error:
            log.error("reload_failed", problem=str(error), kept="the old configuration")
            return
        except Exception:  # whatever is wrong with the new one, mail goes on with the old one
            log.exception("reload_failed", kept="the old configuration")
            return
        old = list(self._workers.alive)
        self._limits.adopt(tables)
        self._metrics.dns_lists.adopt(config.clients.dns_lists)
        self._config, self._files = config, files
        self._rates = Rates(config.srs, self._rates.known, config.limits.rates)
        self._workers.begin_generation(config.workers)
        self._start_missing()
        terminate(old)
        log.info("reloaded")

    def _stop(self, reason: str | None = None) -> int:
        log.info("stopping", reason=reason)
        if self._lock is not None:
            give_way(self._lock)
        self._workers.begin_generation(0)
        terminate(self._workers.alive)
        deadline = time.monotonic() + STOP_PATIENCE + 1
        while self._workers.alive and time.monotonic() < deadline:
            self._wait_for_end()
        kill(self._workers.alive)
        while self._workers.alive:
            self._wait_for_end()
        self._ports.close()
        log.info("stopped")
        return 0

    def _wait_for_end(self) -> None:
        signal.sigtimedwait({signal.SIGCHLD}, 0.2)
        self._reap()


def _leave_no_core() -> None:
    """Write no core dump, here and in the workers: it would hold mail, keys and passwords.

    A program that the kernel pipes dumps to (core(5)) may ignore the limit, so none of our memory goes into one
    either. PR_SET_DUMPABLE would do both, and would also keep an administrator's debugger and profiler out.
    """
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with contextlib.suppress(OSError):  # a kernel that cannot dump has no such file
        Path("/proc/self/coredump_filter").write_text("0")


def _raise_file_limit() -> None:
    """As many open files as we may have: every client and every next hop is one, and shells still give out 1024."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
