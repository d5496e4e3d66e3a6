"""`srs-relay queue …` as an administrator uses it, beside a relay that runs."""

from __future__ import annotations

import asyncio
import json
import os
import pwd
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from relay.queue import admin
from relay.queue.connect import connect
from relay.queue.store import Change, Store
from tests.journeys.clients import Dialogue
from tests.journeys.relay_process import ROOT, RelayProcess
from tests.journeys.sinks import RecordingSink
from tests.journeys.world import MAILBOX, World, opened
from tests.peers import wait_until
from tests.queue.changes import arrival

pytestmark = pytest.mark.slow

ANN, ALICE, BOTH = "ann@sender.example", "alice@fwd.example", "both@fwd.example"
ALIASES = f"{ALICE} carol@mailbox.example\n{BOTH} carol@mailbox.example dave@mailbox.example\n"
NEVER = {"retry_min": "1h", "retry_max": "1h"}  # within a test


@pytest.fixture
def world() -> Iterator[World]:
    with opened() as world:
        yield world


@pytest.fixture
def relay(world: World) -> RelayProcess:
    """A relay whose next hop does not answer yet: what it takes waits in the queue."""
    return world.relay(aliases=ALIASES, queue=NEVER)


def send(relay: RelayProcess, recipient: str, sender: str = ANN) -> str:
    """The queue id of a message, once every delivery of it was tried."""
    with Dialogue((relay.address, relay.port)) as session:
        answer = session.deliver(sender, recipient, b"From: ann@sender.example\r\nSubject: hello\r\n\r\nhello\r\n")
    assert answer.code == 250
    name = answer.text.rpartition(" ")[2]

    def tried() -> bool:
        lines = [line for line in relay.log if line.get("id") == name]
        wanted = [to for line in lines if line["event"] == "queued" for to in line["to"]]
        return bool(wanted) and sum(line["event"] in ("deferred", "dead") for line in lines) == len(wanted)

    wait_until(tried, "an attempt in vain")
    return name


def ok(relay: RelayProcess, *arguments: str) -> str:
    done = relay.command("queue", *arguments)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def rows(relay: RelayProcess, *arguments: str) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = json.loads(ok(relay, *arguments, "--json"))
    return rows


def test_the_list_says_what_waits_and_why(relay: RelayProcess) -> None:
    assert ok(relay, "list") == "no deliveries\n"
    assert rows(relay, "list") == []
    name = send(relay, BOTH)
    text = ok(relay, "list")
    assert re.search(rf"^{name}/0 +queued +\S+ +\d+  <{ANN}> -> <carol@mailbox\.example>$", text, re.MULTILINE)
    assert text.count("451 4.4.1 Connection refused") == 2
    assert text.endswith("\n2 deliveries\n")


HOSTILE = "joe\u202eelpmaxe\u2066\u200b\u115f@\u00fcber.example"


def test_what_came_from_outside_is_seen_as_it_is(world: World, relay: RelayProcess) -> None:
    """An address that turns the direction of the line, and the words of another host with colours in them."""
    refused = "450 4.2.1 \x1b[31mbusy\u202e"
    sink = RecordingSink(MAILBOX, world.port, refused={"carol@mailbox.example": refused})
    world.start(sink)
    with Dialogue((relay.address, relay.port)) as session:
        assert session("EHLO mx.sender.example").code == 250
        assert session(f"MAIL FROM:<{HOSTILE}> SMTPUTF8").code == 250
        assert session(f"RCPT TO:<{ALICE}>").code == 250
        assert session("DATA").code == 354
        session.send(b"From: ann@sender.example\r\n\r\nhello\r\n.\r\n")
        name = session.reply().text.rpartition(" ")[2]
    wait_until(lambda: relay.events("deferred"), "an attempt in vain")
    shown = r"joe\u202eelpmaxe\u2066\u200b\u115f@\u00fcber.example".replace(r"\u00fc", "\u00fc")
    for text in (ok(relay, "list"), ok(relay, "show", name)):
        assert f"<{shown}>" in text
        assert text.replace("\n", "").isprintable() and "\u115f" not in text
    (row,) = rows(relay, "list")
    assert row["sender"] == HOSTILE


def test_the_list_for_programs(relay: RelayProcess) -> None:
    before = time.time()
    name = send(relay, ALICE)
    (row,) = rows(relay, "list")
    assert row["id"] == name and row["n"] == 0 and row["state"] == "queued"
    assert (row["sender"], row["original_recipient"], row["recipient"]) == (ANN, ALICE, "carol@mailbox.example")
    assert before - 1 < row["received"] < time.time()
    assert row["attempts"] == 1 and row["size"] > 40
    assert 2800 < row["next_attempt"] - time.time() < 4400
    assert 4.9 * 86400 < row["expires"] - time.time() < 5 * 86400
    assert (row["last"]["code"], row["last"]["address"]) == (451, MAILBOX)


def test_show_says_everything_of_one_message(relay: RelayProcess) -> None:
    name = send(relay, BOTH)
    text = ok(relay, "show", name.lower())
    assert text.startswith(f"{name}  from <{ANN}>  ")
    assert "spf=pass" in text
    assert "trusted=false" in text
    for n, mailbox in enumerate(("carol", "dave")):
        assert f"{name}/{n}  queued  <{BOTH}> -> <{mailbox}@mailbox.example> via mailbox.example\n" in text
    assert [row["n"] for row in rows(relay, "show", name)] == [0, 1]
    assert [row["n"] for row in rows(relay, "show", f"{name}/1")] == [1]


def test_show_why_gives_the_last_reply_the_next_try_and_the_address(world: World, relay: RelayProcess) -> None:
    world.start(RecordingSink(MAILBOX, world.port, refused={"carol@mailbox.example": "450 4.2.1 mailbox is busy"}))
    name = send(relay, ALICE)
    lines = ok(relay, "show", "--why", name).splitlines()
    assert lines[0] == f"{name}/0  queued  <{ALICE}> -> <carol@mailbox.example> via mailbox.example"
    assert re.fullmatch(r"  last try \d{4}-\d\d-\d\d \d\d:\d\d:\d\d: 450 4\.2\.1 mailbox is busy", lines[1])
    assert lines[2] == f"  at mx.mailbox.example [{MAILBOX}], in clear, policy may"
    assert re.fullmatch(r"  next try .* \(in (\d\d\.\dm|1\.\dh)\), attempt 2", lines[3])
    assert re.fullmatch(r"  given up \d{4}-.*", lines[4])


def test_show_says_in_clear_only_where_there_was_a_connection(relay: RelayProcess) -> None:
    name = send(relay, ALICE)
    assert f"  at mx.mailbox.example [{MAILBOX}], no connection, policy may\n" in ok(relay, "show", "--why", name)


def test_a_retry_by_hand_does_not_make_the_next_pause_longer(world: World) -> None:
    relay = world.relay(aliases=ALIASES, queue={"retry_min": "10m", "retry_max": "5h"})
    name = send(relay, ALICE)
    for tries in range(2, 5):
        assert ok(relay, "retry", name) == "1 delivery to be tried now\n"
        wait_until(partial(relay.has_events, "deferred", tries), "another attempt in vain")
        wait_until(lambda: relay.queue()[0]["state"] == "queued", "its record")
        (row,) = relay.queue()
        assert (row["attempts"], row["by_hand"]) == (tries, tries - 1)
        assert 0.8 * 600 - 10 < row["next_attempt"] - time.time() < 1.2 * 600
    assert [line["attempt"] for line in relay.events("attempt")] == [1, 2, 3, 4]


def changes(relay: RelayProcess) -> list[tuple[str, str, int]]:
    return [(line["action"], line["id"], line["deliveries"]) for line in relay.events("queue_changed")]


def test_what_commands_do_is_in_the_log_of_the_relay(relay: RelayProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SUDO_USER", "anna")
    name = send(relay, BOTH)
    for command in ("hold", "release", "retry"):
        ok(relay, command, name)
    ok(relay, "hold", "--all")
    wait_until(lambda: len(changes(relay)) == 4, "the lines in the log")
    assert changes(relay) == [(deed, name, 2) for deed in ("hold", "release", "retry", "hold")]
    account = pwd.getpwuid(os.getuid()).pw_name
    for line in relay.events("queue_changed"):
        assert (line["who"], line["account"], line["uid"], line["level"]) == ("anna", account, os.getuid(), "info")
    relay.terminate()
    ok(relay, "drop", f"{name}/1")
    relay.start()
    wait_until(lambda: len(changes(relay)) == 5, "what was done meanwhile")
    assert relay.events("queue_changed")[-1]["n"] == 1
    relay.terminate()
    assert len(changes(relay)) == 5


def test_dropping_everything_asks_first(relay: RelayProcess) -> None:
    send(relay, BOTH)
    done = relay.command("queue", "drop", "--all")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == ("srs-relay: drop --all would delete 2 deliveries, and tell nobody: add --yes to do it\n")
    for answer, status, left in (("n\n", 1, 2), ("y\n", 0, 0)):
        assert on_a_terminal(relay, answer, "queue", "drop", "--all") == status
        assert len(relay.queue()) == left
    assert ok(relay, "drop", "--all") == "0 deliveries dropped\n", "nothing to ask about"


def on_a_terminal(relay: RelayProcess, answer: str, *arguments: str) -> int:
    """Run a command with a terminal as its input, and type an answer; returns the exit status."""
    ours, theirs = os.openpty()
    try:
        os.write(ours, answer.encode())
        command = [sys.executable, "-m", "relay", *arguments, "--config", str(relay.config_file)]
        return subprocess.run(command, stdin=theirs, capture_output=True, cwd=ROOT, timeout=60).returncode
    finally:
        os.close(ours)
        os.close(theirs)


def test_retry_tries_now(world: World, relay: RelayProcess) -> None:
    first, second = send(relay, ALICE), send(relay, ALICE)
    sink = world.start(RecordingSink(MAILBOX, world.port))
    assert ok(relay, "retry", first) == "1 delivery to be tried now\n"
    sink.wait(1)
    wait_until(lambda: [row["id"] for row in relay.queue()] == [second], "the first to leave the queue")
    assert json.loads(ok(relay, "retry", "--all", "--json")) == {"deliveries": 1}
    sink.wait(2)
    relay.wait_for_empty_queue()


def test_what_is_held_stays_until_it_is_released(world: World, relay: RelayProcess) -> None:
    name = send(relay, BOTH)
    assert ok(relay, "hold", f"{name}/1") == "1 delivery held\n"
    assert [(row["n"], row["state"], row["next_attempt"]) for row in rows(relay, "list", "--state", "held")] == [
        (1, "held", None)
    ]
    assert [row["n"] for row in rows(relay, "list", "--state", "queued")] == [0]
    sink = world.start(RecordingSink(MAILBOX, world.port))
    ok(relay, "retry", "--all")
    assert [message.recipients for message in sink.wait(1)] == [("carol@mailbox.example",)]
    wait_until(lambda: [row["state"] for row in relay.queue()] == ["held"], "the other to leave the queue")
    assert ok(relay, "release", name) == "1 delivery released\n"
    assert sink.wait(2)[1].recipients == ("dave@mailbox.example",)
    relay.wait_for_empty_queue()


def test_what_is_dropped_is_gone_and_nobody_is_told(relay: RelayProcess) -> None:
    kept, dropped = send(relay, ALICE), send(relay, BOTH)
    assert ok(relay, "drop", f"{dropped}/0") == "1 delivery dropped\n"
    assert [(row["id"], row["n"]) for row in relay.queue()] == [(kept, 0), (dropped, 1)]
    assert json.loads(ok(relay, "drop", dropped, "--json")) == {"deliveries": 1}
    assert [row["id"] for row in relay.queue()] == [kept]
    assert ok(relay, "drop", "--all", "--yes") == "1 delivery dropped\n"
    assert relay.queue() == []
    assert not relay.events("bounced")


def test_a_dead_letter_is_listed_and_may_be_brought_back(world: World, relay: RelayProcess) -> None:
    sink = world.start(RecordingSink(MAILBOX, world.port, refused={"carol@mailbox.example": "550 5.1.1 nobody here"}))
    name = send(relay, ALICE, sender="")
    (row,) = rows(relay, "list", "--state", "dead")
    assert (row["id"], row["state"], row["last"]["text"]) == (name, "dead", "nobody here")
    sink.refused.clear()
    assert ok(relay, "retry", name) == "1 delivery to be tried now\n"
    assert sink.wait(1)[0].sender == ""
    relay.wait_for_empty_queue()


ABSENT = r"srs-relay: 3F2KQ0Z81TWH: not in the queue; see `srs-relay queue list`"


@pytest.mark.parametrize(
    ("arguments", "status", "complaint"),
    [
        (("show", "3F2KQ0Z81TWH"), 1, ABSENT),
        (("drop", "3F2KQ0Z81TWH"), 1, ABSENT),
        (("hold", "3F2KQ0Z81TWH", "--json"), 1, ABSENT),
        (("show", "3F2KQ0Z81TWH/99999999999999999999"), 2, r"srs-relay queue show: .*is not a queue id.*"),
        (("show", "3F2KQ0Z81TWH/²"), 2, r"srs-relay queue show: .*is not a queue id.*"),
        (("show", "I-am-no-id"), 2, r"srs-relay queue show: .*'I-am-no-id' is not a queue id.*"),
        (("hold", "3F2KQ0Z81TWH/x"), 2, r"srs-relay queue hold: .*is not a queue id.*"),
        (("drop",), 2, r"srs-relay queue drop: .*name queue ids, or --all.*"),
        (("retry", "--all", "3F2KQ0Z81TWH"), 2, r"srs-relay queue retry: .*name queue ids, or --all.*"),
        (("list", "--state", "lost"), 2, r"srs-relay queue list: .*'lost'.*"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_a_wrong_call_is_one_line(
    offline: RelayProcess, arguments: tuple[str, ...], status: int, complaint: str
) -> None:
    done = offline.command("queue", *arguments)
    assert done.returncode == status
    assert re.fullmatch(complaint + "\n", done.stderr), done.stderr


@pytest.fixture
def offline(tmp_path: Path) -> RelayProcess:
    """A relay that does not run, and its empty queue."""
    config = {
        "hostname": "mx.fwd.example",
        "listen": [{"address": "127.0.0.1:0"}],
        "srs": {"domain": "fwd.example", "secrets_file": "srs.secret"},
    }
    relay = RelayProcess(tmp_path / "relay", config)
    (relay.folder / "srs.secret").write_text("tops3cr3t\n")
    asyncio.run(put(relay, 0))
    return relay


def test_an_id_that_is_not_there_does_not_keep_the_others_back(relay: RelayProcess) -> None:
    name = send(relay, ALICE)
    done = relay.command("queue", "hold", name, "3F2KQ0Z81TWH")
    assert (done.returncode, done.stdout) == (1, "1 delivery held\n")
    assert re.fullmatch(ABSENT + "\n", done.stderr)
    done = relay.command("queue", "hold", name)
    assert (done.returncode, done.stdout) == (1, "0 deliveries held\n")
    assert done.stderr == f"srs-relay: {name}: no delivery in a state for that; see `srs-relay queue list`\n"


async def put(relay: RelayProcess, count: int) -> None:
    store = Store(await connect(f"sqlite:///{relay.folder}/queue.db"), "test/")
    for start in range(0, count, 100):
        changes = [arrival(recipients=10, next_attempt=9e9) for _ in range(start, min(start + 100, count), 10)]
        await store.apply(Change([m for c in changes for m in c.arrived], [d for c in changes for d in c.deliveries]))
    await store.close()


def listing(relay: RelayProcess, *arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "relay", "queue", "list", *arguments, "--config", str(relay.config_file)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT)


def test_without_a_queue_the_commands_say_so_and_make_none(offline: RelayProcess) -> None:
    queue = offline.folder / "queue.db"
    queue.unlink()
    done = offline.command("queue", "list")
    assert done.returncode == 1
    assert done.stderr == f"srs-relay: {queue}: there is no queue yet; `srs-relay serve` makes it\n"
    assert not queue.exists()


def test_a_long_list_is_written_while_it_is_read(offline: RelayProcess) -> None:
    """Whoever reads it slowly neither fills the memory nor keeps the queue as it was when he began."""
    asyncio.run(put(offline, 3 * admin.PAGE))
    with listing(offline, "--json") as process:
        assert process.stdout is not None and process.stderr is not None
        first = process.stdout.readline()
        assert first.startswith('[{"id": ')
        assert ok(offline, "drop", "--all", "--yes") == f"{3 * admin.PAGE} deliveries dropped\n"
        rows = json.loads(first + process.stdout.read())
        assert process.stderr.read() == ""
    assert process.returncode == 0
    assert 0 < len(rows) <= admin.PAGE


def test_a_reader_that_has_seen_enough_is_no_error(offline: RelayProcess) -> None:
    asyncio.run(put(offline, 3 * admin.PAGE))
    with listing(offline) as process:
        assert process.stdout is not None and process.stderr is not None
        assert process.stdout.readline().startswith("ID/N")
        process.stdout.close()
        assert process.stderr.read() == ""
