"""The parts of the benchmarks of size that decide or write something."""

from __future__ import annotations

import asyncio
import sqlite3
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from bench import size, stall
from bench.compare import Bursts
from bench.load import Load
from bench.queue_scale import fill
from bench.running_relay import Program, changed, relay, write_files
from bench.sink import OwnSink
from relay.config.file import load
from relay.queue.connect import connect


def test_the_ratio_is_that_of_the_processor_time() -> None:
    found = Bursts([Load(100, 2.0, 0)] * 8, [Load(50, 2.1, 0)] * 8)
    assert size.ratio("much", found).splitlines()[-1] == "much: 1.050 of the cost of a message (1.050 to 1.050)"


async def test_deferred_deliveries_are_due_in_the_coming_hours(tmp_path: Path) -> None:
    path, now = tmp_path / "queue.db", time.time()
    queue = await connect(f"sqlite:///{path}")
    await fill(queue, 50)
    await queue.close()
    size.defer(path, 50, now)
    database = sqlite3.connect(path)
    times = [when for (when,) in database.execute("SELECT next_attempt FROM delivery")]
    database.close()
    assert len(times) == len(set(times)) == 50
    assert now + size.SOON <= min(times) and max(times) <= now + size.SOON + size.SPREAD


def test_hops_by_domain_are_a_configuration_that_the_relay_takes(tmp_path: Path) -> None:
    line = 'routes.domains."hop7.test" = { next_hop = "smtp://127.0.1.7:25", recipients = "any" }'
    write_files(tmp_path, 2525, "127.0.0.1:53", 2526, settings=[line])
    assert list(load(tmp_path / "relay.toml").routes.domains) == ["hop7.test"]
    assert "hop7.test" in changed("", [line])


async def test_a_sink_counts_recipients_and_says_where_a_message_came() -> None:
    came: list[tuple[str, int, bytes]] = []
    sink = OwnSink(lambda *message: came.append(message))
    port = await sink.start(["127.0.1.1", "127.0.1.2"])
    reader, writer = await asyncio.open_connection("127.0.1.2", port)
    writer.write(
        b"EHLO x\r\nMAIL FROM:<>\r\nRCPT TO:<a@b>\r\nRCPT TO:<c@b>\r\nDATA\r\nSubject: x\r\n\r\nx\r\n.\r\nQUIT\r\n"
    )
    async with asyncio.timeout(5):
        await sink.reach(2)
        assert (await reader.read()).endswith(b"221 bye\r\n")
    writer.close()
    sink.stop()
    assert came == [("127.0.1.2", 2, b"Subject: x\r\n\r\nx\r\n.\r\n")]


def test_a_long_turn_names_the_functions_of_the_relay() -> None:
    frames = []

    def look() -> None:
        frames.append(sys._getframe())

    namespace = {"look": look}
    exec(compile("def store():\n    look()", "/srv/relay/relay/queue/store.py", "exec"), namespace)
    exec(compile("def load():\n    store()", "/srv/relay/relay/deliver/recorder.py", "exec"), namespace)
    namespace["load"]()
    innermost, *others = stall.where(frames[0]).split(" < ")
    assert innermost.endswith("look")
    assert others[:2] == ["relay/queue/store.py:2 store", "relay/deliver/recorder.py:2 load"]
    assert stall.where(None) == "?"


def test_turns_are_printed_with_what_they_did() -> None:
    turns = stall.Turns([stall.Turn(31.0, 28.5, Counter({"relay/queue/store.py:2 store": 2}))])
    assert str(turns) == "  31.0 ms, 28.5 of CPU: relay/queue/store.py:2 store (2x)"
    assert "no turn over 5 ms" in str(stall.Turns([]))


async def test_a_relay_that_does_not_start_is_no_benchmark() -> None:
    with pytest.raises(SystemExit, match="did not start"):
        async with relay(2526, program=Program("/bin/false", None)):
            pytest.fail("it started")
