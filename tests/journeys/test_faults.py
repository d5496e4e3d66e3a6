"""What breaks under a relay: the disk and the queue file. Nothing that got its 250 is lost."""

from __future__ import annotations

import os
import re
import sqlite3
import subprocess
from collections import Counter
from pathlib import Path

import pytest

from tests.journeys.clients import Answer, Dialogue
from tests.journeys.relay_process import RelayProcess
from tests.journeys.sinks import RecordingSink
from tests.journeys.world import MAILBOX, World
from tests.peers import free_port, needs, program, wait_until

pytestmark = pytest.mark.slow

ANN, ALICE = "ann@sender.example", "alice@fwd.example"
ALIASES = f"{ALICE} carol@mailbox.example\n"


def content(number: int, octets: int = 0) -> bytes:
    return b"From: ann@sender.example\r\nSubject: number %d.\r\n\r\n" % number + (b"x" * 70 + b"\r\n") * (octets // 72)


def arrived(sink: RecordingSink) -> Counter[int]:
    found = (re.search(rb"^Subject: number (\d+)\.", message.content, re.MULTILINE) for message in tuple(sink.received))
    return Counter(int(match.group(1)) for match in found if match)


def send(relay: RelayProcess, number: int, octets: int = 0) -> Answer:
    with Dialogue((relay.address, relay.port)) as session:
        return session.deliver(ANN, ALICE, content(number, octets))


class SmallDisk:
    """A file system of its own that is soon full."""

    def __init__(self, folder: Path, size: str) -> None:
        self._folder = folder
        self._size = size

    def _mount(self, *options: str) -> subprocess.CompletedProcess[str]:
        command = [program("mount"), "-t", "tmpfs", "-o", ",".join(options), "tmpfs", str(self._folder)]
        return subprocess.run(command, capture_output=True, text=True)

    def start(self) -> None:
        self._folder.mkdir()
        done = self._mount(f"size={self._size}")
        if done.returncode != 0:
            without = pytest.fail if os.environ.get("CI") else pytest.skip
            without(f"no tmpfs may be mounted here: {done.stderr.strip()}")

    def grow(self, size: str) -> None:
        assert self._mount("remount", f"size={size}").returncode == 0

    def stop(self) -> None:
        if os.path.ismount(self._folder):
            subprocess.run([program("umount"), str(self._folder)], check=True)


def fill(relay: RelayProcess, octets: int) -> tuple[list[int], Answer]:
    """Send until one is refused: the numbers that were acknowledged, and the refusal."""
    acknowledged: list[int] = []
    for number in range(1000):
        answer = send(relay, number, octets)
        if answer.code != 250:
            return acknowledged, answer
        acknowledged.append(number)
    raise AssertionError("the disk does not fill up")


@needs("mount", root=True)
def test_a_full_disk_is_a_452_and_no_loss(world: World) -> None:
    disk = world.start(SmallDisk(world.base / "spool", "6m"))
    relay = world.relay(aliases=ALIASES, queue={"url": f"sqlite:///{world.base}/spool/queue.db", "min_free": "1KB"})
    acknowledged, refusal = fill(relay, 200_000)
    assert len(acknowledged) > 5
    assert (refusal.code, refusal.enhanced) == (452, "4.3.1")
    assert relay.events("queue_unavailable"), "the disk was not as full as this test wants it"
    assert (send(relay, 2000, 200_000).code, send(relay, 2001, 200_000).code) == (452, 452), "still full"
    disk.grow("64m")
    wait_until(lambda: send(relay, 3000).code == 250, "room for new mail")
    sink = world.start(RecordingSink(MAILBOX, world.port))
    wait_until(lambda: arrived(sink).keys() >= {*acknowledged, 3000}, "everything that got its 250", 60)
    relay.wait_for_empty_queue()


@needs("mount", root=True)
def test_what_was_taken_before_the_disk_was_full_survives_kill_9_on_it(world: World) -> None:
    disk = world.start(SmallDisk(world.base / "spool", "6m"))
    relay = world.relay(aliases=ALIASES, queue={"url": f"sqlite:///{world.base}/spool/queue.db", "min_free": "1KB"})
    acknowledged, _ = fill(relay, 200_000)
    relay.kill9()
    disk.grow("64m")
    sink = world.start(RecordingSink(MAILBOX, world.port))
    relay.start()
    wait_until(lambda: arrived(sink).keys() >= {*acknowledged}, "everything that got its 250", 60)
    relay.wait_for_empty_queue()


def on_a_small_disk(
    world: World, size: str, min_free: str, spf: str = "reject-unless-dkim", **queue: str
) -> RelayProcess:
    world.start(SmallDisk(world.base / "spool", size))
    url = f"sqlite:///{world.base}/spool/queue.db"
    queue = {"url": url, "min_free": min_free, **queue}
    return world.relay(aliases=ALIASES, workers=1, spf={"fail": spf}, queue=queue)


@needs("mount", root=True)
def test_room_that_the_queue_has_inside_its_file_is_room(world: World) -> None:
    """The file does not shrink when a queue that filled the disk has drained."""
    relay = on_a_small_disk(world, "96m", "40MB", retry_min="1h", retry_max="1h")
    acknowledged, refusal = fill(relay, 200_000)
    assert len(acknowledged) > 50
    assert (refusal.code, refusal.text) == (452, "Insufficient system storage, try again later")
    assert [line["enough"] for line in relay.events("disk_space")][-1:] == [False]
    assert relay.command("queue", "drop", "--all", "--yes").returncode == 0
    wait_until(lambda: send(relay, 3000, 200_000).code == 250, "mail to be taken again", 10)
    again, refusal = fill(relay, 200_000)
    # Of the room that the first ones took, the write-ahead log had nothing to a third, as it happened.
    assert len(again) > len(acknowledged) * 0.5, "the room inside the file was not used"
    assert (refusal.code, refusal.enhanced) == (452, "4.3.1")


@needs("mount", root=True)
def test_dead_letters_make_way_for_mail(world: World) -> None:
    """Spam whose sender nobody may write to, refused by the mailbox, and more of it than the disk holds."""
    sink = world.start(RecordingSink(MAILBOX, world.port, refused={"carol@mailbox.example": "550 5.7.1 spam"}))
    world.zone["sender.example", "TXT"] = ['"v=spf1 -all"']
    relay = on_a_small_disk(world, "64m", "36MB", spf="tag")
    for number in range(250):
        assert (answer := send(relay, number, 200_000)).code == 250, (number, answer)
    assert not relay.events("bounced")
    wait_until(lambda: all(row["state"] == "dead" for row in relay.queue()), "the last ones to be dead")
    dropped = relay.events("dead_letters_dropped")
    assert dropped and {line["limit"] for line in dropped} == {"queue.min_free"}
    assert len(relay.queue()) + sum(line["count"] for line in dropped) == 250
    sink.refused.clear()
    assert relay.command("queue", "retry", "--all").returncode == 0
    relay.wait_for_empty_queue()
    assert set(arrived(sink)) == set(range(250 - len(arrived(sink)), 250)), "the oldest had to go, not others"


def test_too_little_room_on_the_disk_is_a_452_at_mail(world: World) -> None:
    relay = world.relay(aliases=ALIASES, queue={"min_free": "900000GB"})
    with Dialogue((relay.address, relay.port)) as session:
        session("EHLO mx.sender.example")
        answer = session(f"MAIL FROM:<{ANN}>")
        assert (answer.code, answer.enhanced) == (452, "4.3.1")
        assert session("NOOP").code == 250


def test_a_queue_file_that_is_damaged_under_the_relay_takes_no_mail_and_is_named(world: World) -> None:
    relay = world.relay(aliases=ALIASES)
    queue = relay.folder / "queue.db"
    assert send(relay, 1).code == 250
    relay.terminate()
    relay.start()
    with queue.open("r+b") as file:
        file.seek(8192)
        file.write(b"\xff" * (queue.stat().st_size - 8192))
    wait_until(lambda: (send(relay, 2).code, send(relay, 3).code) == (452, 452), "both workers to notice")
    problem = f"{queue}: database disk image is malformed"
    assert problem in {line["problem"] for line in relay.events("queue_unavailable")}
    listing = relay.command("queue", "list")
    assert (listing.returncode, listing.stderr) == (1, f"srs-relay: {problem}\n")
    assert len(relay.workers()) == 2


def test_a_queue_file_that_is_removed_under_the_relay_takes_no_mail(world: World) -> None:
    relay = world.relay(aliases=ALIASES, http={"address": f"127.0.0.12:{free_port()}"})
    queue = relay.folder / "queue.db"
    assert send(relay, 1).code == 250
    removed = queue.rename(relay.folder / "removed.db")
    assert (send(relay, 2).code, send(relay, 3).code) == (452, 452)
    assert relay.http("/readyz") == (503, "the queue does not answer\n")
    removed.rename(queue)
    assert send(relay, 4).code == 250
    assert relay.http("/readyz") == (200, "ready\n")
    sink = world.start(RecordingSink(MAILBOX, world.port))
    wait_until(lambda: arrived(sink).keys() == {1, 4}, "what was acknowledged", 30)


def test_a_message_that_is_not_whole_is_buried_and_the_others_are_delivered(world: World) -> None:
    relay = world.relay(aliases=ALIASES, queue={"retry_min": "3s", "retry_max": "3s"})
    assert send(relay, 1, 3_000_000).code == 250
    assert send(relay, 2).code == 250
    wait_until(lambda: len(relay.events("deferred")) == 2, "the first attempts in vain")
    relay.terminate()
    with sqlite3.connect(relay.folder / "queue.db") as connection:
        assert connection.execute("DELETE FROM chunk WHERE n = 1").rowcount == 1
    connection.close()
    sink = world.start(RecordingSink(MAILBOX, world.port))
    relay.start()
    sink.wait(1)
    (row,) = wait_until(lambda: [r for r in relay.queue() if r["state"] == "dead"], "the damaged message as dead")
    assert row["last"]["text"] == "message damaged: content is missing from octet 1048576 on"
    assert arrived(sink) == {2: 1}
    assert [line["id"] for line in relay.events("message_damaged")] == [row["id"]]
    assert relay.command("queue", "drop", row["id"]).returncode == 0
    relay.wait_for_empty_queue()
