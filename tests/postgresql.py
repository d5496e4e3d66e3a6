"""A private PostgreSQL server on loopback, with a fresh database for each test that asks for one.

Root may not run it, so for root it belongs to the user that Debian's package made.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import count
from pathlib import Path

from tests.peers import free_port, program


class PostgresServer:
    """One cluster in a folder of its own; it may be stopped and started again.

    Args:
        settings: of the server, as `name=value`; the tests do not wait for a disk.
    """

    def __init__(self, settings: Sequence[str] = ("fsync=off",)) -> None:
        self._settings = settings
        # pytest's own folders are closed to other users.
        self._base = Path(tempfile.mkdtemp(prefix="srs-relay-postgresql-"))
        self.port = free_port()
        self._numbers = count(1)
        if os.geteuid() == 0:
            shutil.chown(self._base, "postgres", "postgres")
        self._run("initdb", "--auth=trust", "--username=relay", "--no-sync", "--locale=C", "--encoding=UTF8")

    def _run(self, name: str, *arguments: str) -> None:
        other = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []
        command = [*other, program(name), "-D", str(self._base / "data"), *arguments]
        with (self._base / "output").open("ab") as output:  # no pipe: the server keeps it
            done = subprocess.run(command, cwd="/", stdout=output, stderr=output, timeout=60)
        assert done.returncode == 0, (self._base / "output").read_text()[-2000:]

    def start(self) -> PostgresServer:
        options = f"-c listen_addresses=127.0.0.1 -c port={self.port} -c unix_socket_directories=''"
        options += "".join(f" -c {setting}" for setting in self._settings)
        self._run("pg_ctl", "start", "--wait", "--options", options, "--log", str(self._base / "log"))
        return self

    def __enter__(self) -> PostgresServer:
        try:
            return self.start()
        except BaseException:
            self.remove()
            raise

    def __exit__(self, *_: object) -> None:
        self.remove()

    def stop(self, mode: str = "immediate") -> None:
        """At once, with its clients' connections: as after a crash, or with the mode "fast" in good order."""
        self._run("pg_ctl", "stop", "--wait", "--mode", mode)

    @property
    def pid(self) -> int:
        """The process id of the postmaster, whose children are all other processes."""
        return int((self._base / "data" / "postmaster.pid").read_text().partition("\n")[0])

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """It still has its connections and takes new ones, and answers nobody, as when its disk hangs."""
        everyone = [self.pid]
        os.kill(everyone[0], signal.SIGSTOP)
        for status in Path("/proc").glob("[0-9]*/status"):
            if f"\nPPid:\t{everyone[0]}\n" in status.read_text():
                everyone.append(int(status.parent.name))
                os.kill(everyone[-1], signal.SIGSTOP)
        try:
            yield
        finally:
            for pid in everyone:
                os.kill(pid, signal.SIGCONT)

    def sql(self, statement: str, database: str = "postgres") -> str:
        """What psql prints for a statement."""
        command = [program("psql"), "-XAtq", "-v", "ON_ERROR_STOP=1", "-c", statement, self.url(database)]
        return subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout.strip()

    def url(self, database: str) -> str:
        return f"postgresql://relay@127.0.0.1:{self.port}/{database}"

    def create_database(self) -> str:
        """The URL of a new, empty database."""
        name = f"queue{next(self._numbers)}"
        self.sql(f"CREATE DATABASE {name}")
        return self.url(name)

    def break_connections(self) -> None:
        """End every client's session, as a failover does."""
        self.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'srs-relay'")

    def remove(self) -> None:
        try:
            self.stop()
        finally:
            shutil.rmtree(self._base, ignore_errors=True)
