"""Tables and keys that change, break or vanish while the relay runs: what was good stays in force, in every worker."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from tests.journeys.clients import Dialogue
from tests.journeys.relay_process import RelayProcess
from tests.journeys.sinks import RecordingSink
from tests.journeys.world import MAILBOX, World
from tests.peers import free_port, wait_until

pytestmark = pytest.mark.slow

ANN, ALICE, BOB = "ann@sender.example", "alice@fwd.example", "bob@corp.example"
ALIASES, USERS = f"{ALICE} carol@mailbox.example\n", "bob\n"
BROKEN = "b(c\n"  # for every one of them
VISITS = 20  # of clients, which land on one worker or the other by chance: one in a million misses one of the two


def codes(relay: RelayProcess, recipient: str, visits: int = VISITS) -> set[int]:
    """What clients hear of a recipient, those of every worker."""
    found = set()
    for _ in range(visits):
        with Dialogue((relay.address, relay.port)) as session:
            found.add(session.offer(ANN, recipient).code)
    return found


def replace(path: Path, text: str) -> None:
    """As a careful script does it: written aside, then renamed into place."""
    aside = path.with_suffix(".new")
    aside.write_text(text)
    os.utime(aside, (1, 1))  # settled
    aside.replace(path)


@pytest.fixture
def relay(world: World) -> Iterator[RelayProcess]:
    world.start(RecordingSink(MAILBOX, world.port))
    route = {"next_hop": f"smtp://{MAILBOX}:{world.port}", "recipients": "users"}
    yield world.relay(aliases=ALIASES, files={"users": USERS}, routes={"domains": {"corp.example": route}})


@pytest.mark.parametrize(("table", "recipient"), [("aliases", ALICE), ("users", BOB)])
def test_a_table_that_is_replaced_is_read_again(relay: RelayProcess, table: str, recipient: str) -> None:
    newcomer = recipient.replace("alice", "nina").replace("bob", "nina")
    assert codes(relay, newcomer) == {550}
    path = relay.folder / table
    replace(path, path.read_text() + path.read_text().replace("alice", "nina").replace("bob", "nina"))
    wait_until(lambda: codes(relay, newcomer) == {250}, "the new user at every worker")
    assert codes(relay, recipient) == {250}


def test_what_a_command_adds_and_removes_is_read_again(relay: RelayProcess) -> None:
    newcomer = "nina@fwd.example"
    assert codes(relay, newcomer) == {550}
    assert relay.command("aliases", "add", newcomer, "carol@mailbox.example").returncode == 0
    wait_until(lambda: codes(relay, newcomer) == {250}, "the new alias at every worker")
    assert codes(relay, ALICE) == {250}
    assert relay.command("aliases", "remove", newcomer).returncode == 0
    wait_until(lambda: codes(relay, newcomer) == {550}, "no such alias at any worker")
    assert (relay.folder / "aliases").read_text() == ALIASES
    assert not relay.events("table_line_bad") and not relay.events("file_not_reloaded")


@pytest.mark.parametrize("recipient", [ALICE, BOB, "x@fwd.example", "x@corp.example", "x@foreign.example"])
def test_the_way_of_an_address_is_what_a_stranger_hears(relay: RelayProcess, recipient: str) -> None:
    done = relay.command("aliases", "test", recipient, "--json")
    with Dialogue((relay.address, relay.port)) as session:
        reply = session.offer(ANN, recipient)
    assert json.loads(done.stdout)["reply"].split()[:2] == [str(reply.code), reply.enhanced]
    assert done.returncode == (0 if reply.code == 250 else 1)


@pytest.mark.parametrize(("table", "recipient"), [("aliases", ALICE), ("users", BOB)])
def test_all_workers_agree_on_the_last_good_table(relay: RelayProcess, table: str, recipient: str) -> None:
    """Without any mail between the edits, and so does the worker that takes the place of one of them."""
    newcomer = recipient.replace("alice", "nina").replace("bob", "nina")
    path = relay.folder / table
    good = path.read_text() + path.read_text().replace("alice", "nina").replace("bob", "nina")
    for text, event in ((good, "file_reloaded"), (BROKEN, "file_not_reloaded")):
        replace(path, text)
        wait_until(partial(relay.has_events, event, 1), "the supervisor's word on it")
        wait_until(lambda: codes(relay, newcomer) == {250}, "the new user at every worker")
    assert codes(relay, newcomer) == codes(relay, recipient) == {250}
    assert len(relay.events("file_reloaded")) == len(relay.events("file_not_reloaded")) == 1
    for worker in relay.workers():
        started = len(relay.events("worker_started"))
        relay.kill_worker(worker)
        wait_until(partial(relay.has_events, "worker_started", started + 1), "another worker")
    assert codes(relay, newcomer) == codes(relay, recipient) == {250}


BAD_LINES = """\
nobody@fwd.example      dave@mailbox.example
bad@fwd.example         "|/usr/bin/vacation bad"
half@fwd.example        erik@mailbox.example, :include:/etc/list
chief@fwd.example       bad@fwd.example
@catch.example          erik@mailbox.example
named@catch.example     erik@mailbox.example
"""


def heard(relay: RelayProcess, *recipients: str) -> dict[str, tuple[int, str]]:
    """Code and enhanced status code of each recipient, by one client each."""
    found = {}
    for recipient in recipients:
        with Dialogue((relay.address, relay.port)) as session:
            found[recipient] = session.offer(ANN, recipient)[:2]
    return found


@pytest.mark.parametrize("when", ["at the start", "on reload"])
def test_one_bad_line_never_costs_the_table(world: World, when: str) -> None:
    """Nor what stands beside it, whoever wrote it in whatever encoding; what it is for waits until it is mended."""
    sink = world.start(RecordingSink(MAILBOX, world.port))
    table = f"{ALIASES}{BAD_LINES}".encode() + b"b\xfcro@catch.example erik@mailbox.example\n"
    relay = world.relay(aliases=ALIASES, http={"address": f"127.0.0.1:{free_port()}"})
    path = relay.folder / "aliases"
    if when == "at the start":
        relay.terminate()
        path.write_bytes(table)
        relay.start()
    else:
        aside = path.with_suffix(".new")
        aside.write_bytes(table)
        os.utime(aside, (1, 1))
        aside.replace(path)
        wait_until(lambda: codes(relay, "half@fwd.example") == {250}, "the new table at every worker")
        assert len(relay.events("file_reloaded")) == 1
    accepted, later, unknown = (250, "2.1.5"), (451, "4.3.5"), (550, "5.1.1")
    assert heard(relay, ALICE, "half@fwd.example", "named@catch.example", "x@fwd.example") == {
        ALICE: accepted,
        "half@fwd.example": accepted,
        "named@catch.example": accepted,
        "x@fwd.example": unknown,
    }
    assert set(heard(relay, "bad@fwd.example", "bad+x@fwd.example", "chief@fwd.example").values()) == {later}
    assert set(heard(relay, "any@catch.example", "buro@catch.example").values()) == {later}
    with Dialogue((relay.address, relay.port)) as session:
        assert session.deliver(ANN, "half@fwd.example", b"Subject: hello\r\n\r\nhello\r\n").code == 250
    assert sink.wait(1)[0].recipients == ("erik@mailbox.example",)
    named = {line["at"].rpartition(":")[2] for line in relay.events("table_line_bad")}
    assert named == {"3", "4", "8"}
    status, metrics = relay.http("/metrics")
    assert status == 200
    assert f'srs_relay_table_bad_lines{{file="{path}"}} 3.0' in metrics
    replace(path, ALIASES + "bad@fwd.example erik@mailbox.example\n")
    wait_until(lambda: codes(relay, "bad@fwd.example") == {250}, "the line that was mended")


def test_one_bad_line_never_costs_the_users_of_a_domain(world: World) -> None:
    world.start(RecordingSink(MAILBOX, world.port))
    route = {"next_hop": f"smtp://{MAILBOX}:{world.port}", "recipients": "users"}
    relay = world.relay(
        aliases=ALIASES, files={"users": "bob\nj(oe\nann\n"}, routes={"domains": {"corp.example": route}}
    )
    assert heard(relay, BOB, "ann@corp.example", "joe@corp.example", ALICE) == {
        BOB: (250, "2.1.5"),
        "ann@corp.example": (250, "2.1.5"),
        "joe@corp.example": (451, "4.3.5"),
        ALICE: (250, "2.1.5"),
    }
    assert {line["at"] for line in relay.events("table_line_bad")} == {f"{relay.folder}/users:2"}


@pytest.mark.parametrize("table", ["aliases", "users", "srs.secret", "fwd.example.pem"])
@pytest.mark.parametrize("how", ["broken", "gone"])
def test_a_worker_that_dies_while_a_file_is_bad_is_replaced(relay: RelayProcess, table: str, how: str) -> None:
    path = relay.folder / table
    good = path.read_text()
    if how == "gone":
        path.unlink()
    else:
        replace(path, "" if table == "srs.secret" else BROKEN)
    if table in ("aliases", "users"):
        event = "file_gone" if how == "gone" else "file_not_reloaded"
        wait_until(lambda: codes(relay, ALICE) | codes(relay, BOB) and relay.events(event), "a word on the table")
    for worker in relay.workers():
        started = len(relay.events("worker_started"))
        relay.kill_worker(worker)
        wait_until(partial(relay.has_events, "worker_started", started + 1), "another worker")
    assert codes(relay, ALICE) == codes(relay, BOB) == {250}
    assert not relay.events("worker_failed")
    replace(path, good)


@pytest.mark.parametrize("table", ["aliases", "users"])
@pytest.mark.parametrize("text", [BROKEN, None], ids=["broken", "gone"])
def test_a_reload_with_a_bad_table_changes_nothing(relay: RelayProcess, table: str, text: str | None) -> None:
    path = relay.folder / table
    path.unlink() if text is None else replace(path, text)
    workers = relay.workers()
    os.kill(relay.pid, signal.SIGHUP)
    wait_until(lambda: relay.events("reload_failed"), "a word on the table")
    assert str(path) in relay.events("reload_failed")[-1]["problem"]
    assert relay.workers() == workers
    assert codes(relay, ALICE) == codes(relay, BOB) == {250}


@pytest.mark.parametrize("table", ["aliases", "users"])
def test_a_named_pipe_in_the_place_of_a_table_holds_no_reload_up(relay: RelayProcess, table: str) -> None:
    path = relay.folder / table
    good = path.read_text()
    path.unlink()
    os.mkfifo(path)
    os.kill(relay.pid, signal.SIGHUP)
    wait_until(lambda: relay.events("reload_failed"), "a word on the table")
    assert "a named pipe" in relay.events("reload_failed")[-1]["problem"]
    assert codes(relay, ALICE) == codes(relay, BOB) == {250}
    replace(path, good)
    os.kill(relay.pid, signal.SIGHUP)
    wait_until(lambda: relay.events("reloaded"), "a reload")


def test_a_table_of_postfix_is_taken_as_it_is(world: World) -> None:
    sink = world.start(RecordingSink(MAILBOX, world.port))
    aliases = "virt.example anything\ninfo@virt.example carol\nInfo@virt.example dave\ncarol carol@mailbox.example\n"
    relay = world.relay(aliases=aliases)
    with Dialogue((relay.address, relay.port)) as session:
        assert session.deliver(ANN, "info@virt.example", b"Subject: hello\r\n\r\nhello\r\n").code == 250
    assert sink.wait(1)[0].recipients == ("carol@mailbox.example",)
    ignored = relay.events("alias_ignored")[0]
    assert ignored["at"].endswith("aliases:3") and "aliases:2" in ignored["because"]
