"""The parent process: it binds the ports, forks the workers, replaces those that die, and never touches a message.

Every worker gets listening sockets of its own, which stay open here, so that a client that waits for a worker that died
is served by the next one. The workers hold the lock on an SQLite queue together with their parent: a second relay, or
one that is started again too early, waits for the last of them.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import gc
import os
import resource
import secrets
import signal
import socket
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

import structlog

from relay.config.model import Config, ConfigError
from relay.config.sections import ListenSection
from relay.metrics import Metrics
from relay.process.files import Files
from relay.queue.connect import connect
from relay.queue.database import QueueUnavailable
from relay.queue.store import Store
from relay.rate import Rates
from relay.receive.listener import bind
from relay.receive.shared_counts import SharedCounts
from relay.route.reloaded_file import look, next_look

log = structlog.get_logger()

LOCK_PATIENCE = 15.0  # seconds for the workers of a relay that was killed to end
STOP_PATIENCE = 8.0  # seconds for what is under way; `docker stop` gives ten in all
FREE_PATIENCE = 2.0  # seconds for the queue to end dead workers' leases, while nothing else is seen to
RESPAWN_AFTER = 1.0  # seconds, doubling to `RESPAWN_AT_MOST` while workers die young
RESPAWN_AT_MOST = 30.0
YOUNG = 10.0  # seconds of life below which a death counts as a failure to start
ROWS = 4  # rows of counters for each worker: generations overlap while a reload drains the old one

SIGNALS = frozenset({signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD})


class CannotStart(Exception):
    """The relay cannot run as configured; the text is one line for the administrator."""


@dataclass(slots=True)
class WorkerProcess:
    """A child process.

    Attributes:
        index: which of the sockets are its own.
        row: where it counts, see `SharedCounts`.
        owner: its name in leases.
    """

    pid: int
    index: int
    row: int
    owner: str
    generation: int
    since: float


@dataclass(slots=True)
class WorkerSetup:
    """What a worker inherits."""

    config: Config
    sockets: list[tuple[ListenSection, socket.socket]]
    counts: SharedCounts
    row: int
    owner: str
    parent_gone: int
    metrics: Metrics
    files: Files
    rates: Rates
    http: socket.socket | None = None


@dataclass(slots=True)
class Ports:
    """The listening sockets by address, one for each worker."""

    by_address: dict[str, list[socket.socket]] = field(default_factory=dict)

    def open(self, addresses: set[str], workers: int) -> None:
        """Bind what is new and let go of what is no longer wanted.

        Raises:
            OSError: an address cannot be had; what was open stays.
        """
        fresh: dict[str, list[socket.socket]] = {}
        try:
            for address in addresses:
                have = len(self.by_address.get(address, ()))
                fresh[address] = []
                for _ in range(have, workers):
                    fresh[address].append(bind(address))
        except OSError:
            for sock in (s for sockets in fresh.values() for s in sockets):
                sock.close()
            raise
        for address in set(self.by_address) - addresses:
            for sock in self.by_address.pop(address):
                sock.close()
        for address, sockets in fresh.items():
            self.by_address.setdefault(address, []).extend(sockets)
            for sock in self.by_address[address][workers:]:
                sock.close()
            del self.by_address[address][workers:]


class Supervisor:
    """Runs the relay until it is told to stop.

    Args:
        load: reads the configuration, also again at SIGHUP.
        check: reads the files of a configuration, and raises where it cannot be run, before any worker has to find out.
        work: the life of a worker; returns its exit status.
    """

    def __init__(
        self, load: Callable[[], Config], check: Callable[[Config], Files], work: Callable[[WorkerSetup], int]
    ) -> None:
        self._load = load
        self._check = check
        self._work = work
        self._ports = Ports()
        self._workers: dict[int, WorkerProcess] = {}
        self._generation = 0
        self._missing: list[tuple[float, int]] = []  # (when to start it, index)
        self._young_deaths = 0

    def run(self) -> int:
        """Raises: CannotStart, ConfigError, OSError, QueueUnavailable; all before the first worker runs."""
        _leave_no_core()  # before any secret is read
        self._config = self._load()
        self._files = self._check(self._config)
        self._lock = self._lock_queue(self._config)  # before the ports: a second relay must not take clients away
        self._open_ports(self._config)
        self._prepare_queue()
        self._counts = SharedCounts(self._config.workers * ROWS)
        self._metrics = Metrics(self._config.workers * ROWS)
        self._rates = Rates(self._config.srs)
        self._rows = list(range(self._config.workers * ROWS))
        _raise_file_limit()
        signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
        self._pipe = os.pipe()  # its write end closes with the supervisor, however that ends
        gc.freeze()
        self._missing = [(time.monotonic(), index) for index in range(self._config.workers)]
        self._start_missing()
        log.info("ready", workers=len(self._workers), listen=[listen.address for listen in self._config.listen])
        while True:
            received = signal.sigtimedwait(SIGNALS, self._next_turn())
            match received.si_signo if received is not None else 0:
                case signal.SIGTERM | signal.SIGINT:
                    return self._stop()
                case signal.SIGHUP:
                    self._reload()
                case _:
                    self._reap()
            look(self._files.tables.files)
            self._start_missing()

    # workers

    def _spawn(self, index: int) -> None:
        owner = f"{socket.gethostname()}/{secrets.token_hex(8)}"  # containers share names and process numbers
        row = self._rows[0]
        pid = os.fork()
        if pid == 0:
            os._exit(self._be_worker(index, row, owner))
        self._rows.pop(0)
        self._workers[pid] = WorkerProcess(pid, index, row, owner, self._generation, time.monotonic())
        log.info("worker_started", pid=pid, worker=index)

    def _be_worker(self, index: int, row: int, owner: str) -> int:
        status = 1
        try:
            os.close(self._pipe[1])
            signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            signal.signal(signal.SIGHUP, signal.SIG_IGN)
            sockets = [(listen, self._ports.by_address[listen.address][index]) for listen in self._config.listen]
            http = self._config.http
            status = self._work(
                WorkerSetup(
                    self._config,
                    sockets,
                    self._counts,
                    row,
                    owner,
                    self._pipe[0],
                    self._metrics,
                    self._files,
                    self._rates,
                    self._ports.by_address[http.address][index] if http is not None else None,
                )
            )
        except QueueUnavailable as error:
            log.error("worker_failed", worker=index, problem=str(error))
        except Exception:
            log.exception("worker_failed", worker=index)
        return status

    def _reap(self) -> None:
        owners = []
        while self._workers:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                break
            worker = self._workers.pop(pid, None)
            if worker is None:
                continue
            self._counts.clear(worker.row)
            self._metrics.detach(worker.row)
            self._rows.append(worker.row)
            owners.append(worker.owner)
            if worker.generation == self._generation:
                self._replace(worker, os.waitstatus_to_exitcode(status))
        if owners:
            self._free_leases(owners)

    def _replace(self, worker: WorkerProcess, status: int) -> None:
        young = time.monotonic() - worker.since < YOUNG
        self._young_deaths = self._young_deaths + 1 if young else 0
        wait = min(RESPAWN_AFTER * 2 ** (self._young_deaths - 1), RESPAWN_AT_MOST) if self._young_deaths > 1 else 0.0
        log.error("worker_died", pid=worker.pid, worker=worker.index, status=status, restart_in=wait)
        self._missing.append((time.monotonic() + wait, worker.index))

    def _next_turn(self) -> float:
        """Seconds until there is something to do without a signal: a worker to start, a look at the tables."""
        starts = (max(0.0, when - time.monotonic()) for when, _ in self._missing)
        return min([next_look(time.time()), *starts])

    def _start_missing(self) -> None:
        now = time.monotonic()
        due = [index for when, index in self._missing if when <= now]
        self._missing = [(when, index) for when, index in self._missing if when > now]
        if due:
            self._files.look()
        for index in due:
            try:
                self._spawn(index)
            except OSError as error:  # of processes or memory there is none left
                log.error("worker_failed", worker=index, problem=str(error))
                self._missing.append((now + RESPAWN_AT_MOST, index))

    # reload and stop

    def _reload(self) -> None:
        """A new generation of workers with the new configuration; the old one finishes what it has and goes."""
        try:
            config = self._load()
            files = self._check(config)
            if config.queue.url != self._config.queue.url or config.workers > self._config.workers:
                raise ConfigError("queue.url and a larger number of workers need a restart")
            if len(self._rows) < config.workers:
                raise CannotStart("the workers of earlier reloads are still finishing, try again in some seconds")
            self._open_ports(config)
        except (ConfigError, CannotStart, OSError, ValueError) as error:
            log.error("reload_failed", problem=str(error), kept="the old configuration")
            return
        except Exception:  # whatever is wrong with the new one, mail goes on with the old one
            log.exception("reload_failed", kept="the old configuration")
            return
        old = list(self._workers.values())
        self._config, self._files, self._rates = config, files, Rates(config.srs, self._rates.known)
        self._generation += 1
        self._missing = [(time.monotonic(), index) for index in range(config.workers)]
        self._start_missing()
        for worker in old:
            os.kill(worker.pid, signal.SIGTERM)
        log.info("reloaded")

    def _stop(self) -> int:
        log.info("stopping")
        self._generation += 1
        for worker in self._workers.values():
            os.kill(worker.pid, signal.SIGTERM)
        deadline = time.monotonic() + STOP_PATIENCE + 1
        while self._workers and time.monotonic() < deadline:
            signal.sigtimedwait({signal.SIGCHLD}, 0.2)
            self._reap()
        for worker in self._workers.values():
            log.warning("worker_killed", pid=worker.pid)
            os.kill(worker.pid, signal.SIGKILL)
        while self._workers:
            signal.sigtimedwait({signal.SIGCHLD}, 0.2)
            self._reap()
        log.info("stopped")
        return 0

    # ports, lock, leases

    def _open_ports(self, config: Config) -> None:
        addresses = {listen.address for listen in config.listen}
        if config.http is not None:
            addresses.add(config.http.address)
        self._ports.open(addresses, config.workers)

    @staticmethod
    def _lock_queue(config: Config) -> int | None:
        """The lock on an SQLite queue, inherited by the workers; PostgreSQL needs none.

        Raises:
            CannotStart: another relay holds it.
        """
        if not config.queue.url.startswith("sqlite:///"):
            return None
        path = Path(config.queue.url.removeprefix("sqlite:///") + ".lock")
        lock = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        os.set_inheritable(lock, False)
        deadline = time.monotonic() + LOCK_PATIENCE
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return lock
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise CannotStart(f"{path}: the queue is in use by another srs-relay") from None
            time.sleep(0.1)

    def _prepare_queue(self) -> None:
        """Find or make its tables. With the lock on an SQLite queue nobody else lives, so all leases end; on PostgreSQL
        the workers look who does."""

        async def prepare(store: Store) -> int:
            return await store.free(None, time.time()) if self._lock is not None else 0

        self._with_store(prepare)

    def _free_leases(self, owners: list[str]) -> None:
        async def free(store: Store) -> int:
            return sum([await store.free(owner, time.time()) for owner in owners])

        try:
            self._with_store(free, FREE_PATIENCE)
        except (QueueUnavailable, OSError) as error:
            problem = str(error) or "the queue does not answer"
            log.error("leases_not_freed", owners=owners, problem=problem, until="other workers do it, or they run out")

    def _with_store(self, use: Callable[[Store], Awaitable[int]], patience: float | None = None) -> None:
        async def run() -> int:
            async with asyncio.timeout(patience):
                store = Store(await connect(self._config.queue.url), "")
                try:
                    return await use(store)
                finally:
                    await store.close()

        count = asyncio.run(run())
        if count:
            log.info("leases_freed", count=count)


def _leave_no_core() -> None:
    """Write no core dump, here and in the workers: it would hold mail, keys and passwords.

    A program that the kernel pipes dumps to (core(5)) need not mind the limit, so none of our memory goes into one
    either. PR_SET_DUMPABLE would do both, and would also keep an administrator's debugger and profiler out.
    """
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with contextlib.suppress(OSError):  # a kernel that cannot dump has no such file
        Path("/proc/self/coredump_filter").write_text("0")


def _raise_file_limit() -> None:
    """As many open files as we may have: every client and every next hop is one, and shells still give out 1024."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
