"""Tables for Postfix in a whole relay: alone and beside listeners, asked by Postfix's own client, over reloads."""

from __future__ import annotations

import grp
import json
import os
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.journeys.clients import Dialogue
from tests.journeys.lookups import connect, postmap, socketmap
from tests.journeys.relay_process import ROOT, RelayProcess
from tests.journeys.sinks import RecordingSink
from tests.journeys.world import MAILBOX, SENDER, World
from tests.peers import free_port, needs, program, wait_until

pytestmark = pytest.mark.slow

LONG = f"{'j' * 60}@sender.example"


class Tables:
    """A relay with tables alone: a socketmap on a port and on a Unix socket, and both tcp_tables."""

    def __init__(self, folder: Path) -> None:
        self.port, self.forward, self.reverse = (f"127.0.0.1:{free_port()}" for _ in range(3))
        self.unix = f"unix:{folder}/relay/tables"
        self.http = f"127.0.0.1:{free_port()}"
        config = {
            "workers": 2,
            "srs": {"domain": "fwd.example", "secrets_file": "srs.secret"},
            "senders": {"local_domains": ["local.example"]},
            "tables": [
                {"address": self.port},
                {"address": "unix:tables", "mode": "0660", "group": grp.getgrgid(os.getgid()).gr_name},
                {"address": self.forward, "protocol": "tcp", "direction": "forward"},
                {"address": self.reverse, "protocol": "tcp", "direction": "reverse"},
            ],
            "http": {"address": self.http},
            "log": {"format": "json"},
        }
        self.relay = RelayProcess(folder / "relay", config)
        (self.relay.folder / "srs.secret").write_text("tops3cr3t\n")
        (self.relay.folder / "srs.secret").chmod(0o600)

    def wait_for_answers(self, count: int) -> None:
        """Wait until this many senders were rewritten."""
        sample = f'srs_relay_table_lookups_total{{map="forward",result="ok"}} {count}.0\n'
        wait_until(lambda: sample in self.relay.http("/metrics")[1], f"{count} answers")

    def wait_for_end_of(self, workers: list[int]) -> None:
        """Wait until none of these workers is left."""
        wait_until(lambda: not set(workers) & set(self.relay.workers()), "the end of the old workers")

    def hang_up(self) -> None:
        before = len(self.relay.events("reloaded"))
        os.kill(self.relay.pid, signal.SIGHUP)
        wait_until(lambda: self.relay.has_events("reloaded", before + 1), "the reload")


@pytest.fixture
def tables() -> Iterator[Tables]:
    with tempfile.TemporaryDirectory(prefix="tables-") as folder:  # the path of a Unix socket has to be short
        tables = Tables(Path(folder))
        tables.relay.start()
        yield tables
        tables.relay.stop()
        assert "Traceback" not in tables.relay.stderr + tables.relay.log_text


def test_a_relay_with_tables_alone_answers_and_has_no_queue(tables: Tables) -> None:
    found = socketmap(tables.port, "forward", "joe@sender.example")
    assert found.startswith("OK SRS0=") and found.endswith("=sender.example=joe@fwd.example")
    assert socketmap(tables.unix, "reverse", found.removeprefix("OK ")) == "OK joe@sender.example"
    assert socketmap(tables.port, "reverse", "SRS0=FAKE=2V=a.example=b@fwd.example") == "NOTFOUND "
    assert socketmap(tables.port, "forward", LONG) == "NOTFOUND "
    logged = {(line["result"], line["key"]) for line in tables.relay.events("table_lookup")}
    assert logged == {("forged", "SRS0=FAKE=2V=a.example=b@fwd.example"), ("too-long", LONG)}
    assert tables.relay.http("/readyz") == (200, "ready\n")
    status, metrics = tables.relay.http("/metrics")
    assert status == 200 and 'srs_relay_table_lookups_total{map="reverse",result="ok"} 1.0' in metrics
    assert "srs_relay_queue_deliveries" not in metrics
    [ready] = tables.relay.events("ready")
    assert ready["tables"] == [tables.port, tables.unix, tables.forward, tables.reverse] and ready["listen"] == []
    assert not tables.relay.events("no_postmaster")
    assert sorted(path.name for path in tables.relay.folder.iterdir()) == [
        "log",
        "relay.toml",
        "srs.secret",
        "stderr",
        "tables",
    ]


def test_a_unix_socket_has_its_mode_and_group_and_goes_with_the_relay(tables: Tables) -> None:
    path = Path(tables.unix.removeprefix("unix:"))
    assert (stat.S_IMODE(path.stat().st_mode), path.stat().st_gid) == (0o660, os.getgid())
    assert tables.relay.terminate() == 0
    assert not path.exists()


def test_after_a_crash_the_socket_that_was_left_behind_is_replaced(tables: Tables) -> None:
    tables.relay.kill9()
    assert Path(tables.unix.removeprefix("unix:")).is_socket()
    tables.relay.start()
    assert socketmap(tables.unix, "forward", "joe@sender.example").startswith("OK ")


def test_a_second_relay_leaves_the_sockets_of_the_first_alone(tables: Tables) -> None:
    done = tables.relay.command("serve")
    assert done.returncode == 1
    assert done.stderr == f"srs-relay: cannot listen on {tables.port}: Address already in use\n"
    text = tables.relay.config_file.read_text()
    for port in (tables.port, tables.forward, tables.reverse):
        text = text.replace(port, f"127.0.0.1:{free_port()}")
    aside = tables.relay.folder / "aside.toml"
    aside.write_text(text)
    command = [sys.executable, "-m", "relay", "serve", "--config", str(aside)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=60)
    assert (done.returncode, done.stderr) == (
        1,
        f"srs-relay: cannot listen on {tables.unix}: another process listens there\n",
    )
    for address in (tables.unix, tables.port):
        assert socketmap(address, "forward", "joe@sender.example").startswith("OK ")


@pytest.mark.parametrize(
    ("command", "status", "said"),
    [
        (["queue", "list"], 1, "there is no queue, because the configuration has no [[listen]]"),
        (["queue", "retry", "--all"], 1, "there is no queue"),
        (["keys", "list"], 0, "no keys"),
        (["keys", "dns"], 0, ""),
        (["srs", "forward", "joe@sender.example"], 0, "=sender.example=joe@fwd.example"),
        (["dns"], 0, "another server takes and sends mail"),
        (["explain", "/etc/hostname"], 1, "no mail comes in, because the configuration has no [[listen]]"),
        (["check", "--only", "ptr,address,dkim"], 0, "does not count"),
    ],
)
def test_the_commands_know_a_configuration_with_tables_alone(
    tables: Tables, command: list[str], status: int, said: str
) -> None:
    done = tables.relay.command(*command)
    assert done.returncode == status and said in done.stdout + done.stderr
    assert not (tables.relay.folder / "queue.db").exists()


def test_the_environment_alone_is_enough(tmp_path: Path) -> None:
    (tmp_path / "srs.secret").write_text("tops3cr3t\n")
    address = f"127.0.0.1:{free_port()}"
    environ = {
        **os.environ,
        "RELAY_SRS__DOMAIN": "fwd.example",
        "RELAY_SRS__SECRETS_FILE": "srs.secret",
        "RELAY_TABLES": json.dumps([{"address": address}]),
        "PYTHONPATH": str(ROOT),
    }
    command = [sys.executable, "-m", "relay", "serve"]
    with subprocess.Popen(command, env=environ, cwd=tmp_path, stdout=subprocess.PIPE) as process:
        wait_until(lambda: _answers(address), "the table")
        assert socketmap(address, "forward", "joe@sender.example").startswith("OK ")
        process.terminate()
        process.communicate(timeout=20)
    assert process.returncode == 0
    assert [path.name for path in tmp_path.iterdir()] == ["srs.secret"]


def _answers(address: str) -> bool:
    try:
        return bool(socketmap(address, "forward", "joe@sender.example"))
    except OSError:
        return False


# reloads


class Askers:
    """Clients that ask once on a connection each, one after the other, until they are stopped."""

    def __init__(self, addresses: list[str]) -> None:
        self.answers = 0
        self.problems: list[str] = []
        self._stopping = threading.Event()
        self._threads = [threading.Thread(target=self._ask, args=[address], daemon=True) for address in addresses]

    def _ask(self, address: str) -> None:
        while not self._stopping.is_set():
            started = time.monotonic()
            try:
                reply = socketmap(address, "forward", "joe@sender.example")
                if not reply.startswith("OK SRS0="):
                    self.problems.append(reply)
            except (OSError, EOFError) as error:
                self.problems.append(f"{type(error).__name__}: {error}")
            if (waited := time.monotonic() - started) > 5:
                self.problems.append(f"waited {waited:.1f} s")
            self.answers += 1

    def wait_for_more(self) -> None:
        """Wait for answers to questions that were asked after the call."""
        count = self.answers
        wait_until(lambda: self.answers > count + 50, "more answers")

    @contextmanager
    def asking(self) -> Iterator[None]:
        for thread in self._threads:
            thread.start()
        try:
            yield
        finally:
            self._stopping.set()
            for thread in self._threads:
                thread.join(30)


def test_no_lookup_is_refused_while_the_relay_reloads(tables: Tables) -> None:
    askers = Askers([tables.port, tables.unix] * 2)
    with askers.asking():
        for workers in (1, 2, 2):
            text = tables.relay.config_file.read_text()
            tables.relay.config_file.write_text(text.replace('"workers" = 2', f'"workers" = {workers}'))
            old = tables.relay.workers()
            tables.hang_up()
            tables.wait_for_end_of(old)
            askers.wait_for_more()
    assert askers.problems == []


def test_a_connection_that_is_kept_open_is_closed_by_a_reload_and_the_next_one_has_the_new_secret(
    tables: Tables,
) -> None:
    with connect(tables.port) as kept:
        kept.sendall(b"26:forward joe@sender.example,")
        assert kept.recv(100)
        (tables.relay.folder / "srs.secret").write_text("another\ntops3cr3t\n")
        before = socketmap(tables.port, "forward", "joe@sender.example")
        tables.hang_up()
        assert kept.recv(100) == b""
    wait_until(lambda: socketmap(tables.port, "forward", "joe@sender.example") != before, "the new secret")
    assert socketmap(tables.port, "reverse", before.removeprefix("OK ")) == "OK joe@sender.example"


def test_a_reload_neither_begins_nor_ends_a_queue(tables: Tables) -> None:
    text = tables.relay.config_file.read_text()
    tables.relay.config_file.write_text(
        f'hostname = "mail.fwd.example"\nlisten = [{{address = "127.0.0.1:{free_port()}"}}]\n{text}'
    )
    os.kill(tables.relay.pid, signal.SIGHUP)
    [failed] = wait_until(lambda: tables.relay.events("reload_failed"), "the refusal")
    assert "needs a restart" in failed["problem"]
    assert socketmap(tables.port, "forward", "joe@sender.example").startswith("OK ")


# Postfix's own client


@needs("postfix")
def test_postmap_finds_what_there_is_and_meets_no_error(tables: Tables) -> None:
    path = tables.unix.removeprefix("unix:")
    kinds = {
        f"socketmap:inet:{tables.port}:forward": f"socketmap:inet:{tables.port}:reverse",
        f"socketmap:unix:{path}:forward": f"socketmap:unix:{path}:reverse",
        f"tcp:{tables.forward}": f"tcp:{tables.reverse}",
    }
    for forward, reverse in kinds.items():
        for sender in ("joe@sender.example", '"joe x"@sender.example', "jörg@sender.example", "100%@sender.example"):
            found = postmap(sender, forward)
            assert "SRS0=" in found
            assert postmap(found, reverse) == sender
        for sender in ("joe@local.example", "joe@fwd.example", "joe", LONG, f"{'x' * 5000}@sender.example", "%zz"):
            assert postmap(sender, forward) == ""
        for address in ("joe@fwd.example", "SRS0=FAKE=2V=a.example=b@fwd.example", "SRS0=@fwd.example"):
            assert postmap(address, reverse) == ""


@needs("postfix")
@pytest.mark.parametrize("kind", ["socketmap", "tcp"])
def test_a_client_of_postfix_that_keeps_its_connection_goes_on_after_reloads(tables: Tables, kind: str) -> None:
    table = f"socketmap:inet:{tables.port}:forward" if kind == "socketmap" else f"tcp:{tables.forward}"
    command = [program("postmap"), "-q", "-", table]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as client:
        assert client.stdin is not None and client.stdout is not None
        for number in range(3):
            client.stdin.write(f"user{number}@sender.example\n")
            client.stdin.flush()
            tables.wait_for_answers(number + 1)
            old = tables.relay.workers()
            tables.hang_up()
            tables.wait_for_end_of(old)
        client.stdin.close()
        found = client.stdout.read().splitlines()
    assert [line.partition("=sender.example=")[2] for line in found] == [f"user{n}@fwd.example" for n in range(3)]


# beside listeners


def _relay_with_tables(world: World, **tables: Any) -> tuple[RelayProcess, str]:
    address = f"127.0.0.1:{free_port()}"
    aliases = "alice@fwd.example carol@mailbox.example\n"
    return world.relay(aliases=aliases, tables=[{"address": address}], **tables), address


def test_beside_listeners_long_senders_are_stored_for_both(world: World) -> None:
    sink = world.start(RecordingSink(MAILBOX, world.port))
    origin = world.start(RecordingSink(SENDER, world.port))
    relay, address = _relay_with_tables(world)
    content = b"From: j@sender.example\r\nSubject: hello\r\n\r\nhello\r\n"
    with Dialogue((relay.address, relay.port), source=SENDER) as session:
        assert session.deliver(LONG, "alice@fwd.example", content).code == 250
    [arrived] = sink.wait()
    sender = arrived.sender
    assert sender.startswith("SRS0=") and "==" in sender
    assert socketmap(address, "forward", LONG) == f"OK {sender}"
    assert socketmap(address, "reverse", sender.lower()) == f"OK {LONG}"
    other = f"{'k' * 60}@sender.example"
    stored = socketmap(address, "forward", other).removeprefix("OK ")
    with Dialogue((relay.address, relay.port), source=MAILBOX) as session:
        assert session.deliver("", stored, content, "mx.mailbox.example").code == 250
    [bounce] = origin.wait()
    assert bounce.recipients == (other,)


def test_a_table_that_is_in_the_way_is_named(world: World) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        taken = f"127.0.0.1:{other.getsockname()[1]}"
        with pytest.raises(AssertionError, match=f"cannot listen on {taken}: Address already in use"):
            world.relay(tables=[{"address": taken}])
