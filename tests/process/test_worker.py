"""One worker in this process: it starts, answers a session, says what is wrong with it, and stops in order."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from relay.config.model import Config
from relay.metrics import Metrics
from relay.process.files import read_files
from relay.process.worker import Worker
from relay.queue.connect import connect
from relay.queue.database import QueueUnavailable
from relay.queue.store import Store
from relay.rate import Rates
from relay.receive.listener import bind
from relay.receive.shared_counts import SharedCounts
from tests.deliver.scripted import ScriptedServer
from tests.receive.door import Talk, close_clients, within_patience
from tests.resolvers import RecordingResolver

MESSAGE = b"From: joe@origin.test\r\nSubject: hello\r\n\r\nHi.\r\n"


class House:
    """A started worker, with the queue that it closes when it stops."""

    def __init__(self, folder: Path, store: Store, port: int) -> None:
        (folder / "srs.secret").write_text("secret\n")
        (folder / "aliases").write_text("alice@fwd.test carol@mailbox.test\n@@ bad line\n")
        config = Config.model_validate(
            {
                "hostname": "mx.test",
                "workers": 1,
                "listen": [{"address": "127.0.0.1:0"}],
                "srs": {"domain": "fwd.test", "secrets_file": "srs.secret"},
                "routes": {
                    "aliases": "aliases",
                    "domains": {"mailbox.test": {"next_hop": f"smtp://127.0.0.1:{port}", "recipients": "any"}},
                },
                "delivery": {"public_addresses_only": False},
                "queue": {"url": "sqlite:///queue.db"},
            },
            context={"base": folder},
        )
        self.config, self.store, self.metrics = config, store, Metrics()
        self.socket: socket.socket = bind("127.0.0.1:0")
        files, rates = read_files(config), Rates(config.srs)
        self.worker = Worker(config, store, SharedCounts(1), 0, RecordingResolver({}), self.metrics, files, rates)
        self.stopped = False

    def start(self) -> None:
        self.worker.start([(self.config.listen[0], self.socket)])

    async def client(self) -> Talk:
        """A client that has said EHLO."""
        talk = Talk(*await asyncio.open_connection(*self.socket.getsockname()))
        assert (await talk.reply()).startswith("220 mx.test ESMTP")
        await talk.says("EHLO client.test\r\n")
        return talk

    async def stop(self, patience: float = 10.0) -> None:
        if not self.stopped:
            self.stopped = True
            await within_patience(self.worker.stop(patience))
            self.socket.close()


@pytest.fixture
async def hop() -> AsyncIterator[ScriptedServer]:
    """The mailbox host."""
    async with ScriptedServer()() as server:
        yield server


@pytest.fixture
async def house(tmp_path: Path, hop: ScriptedServer) -> AsyncIterator[House]:
    store = Store(await connect(f"sqlite:///{tmp_path}/queue.db"), "worker/1/")
    house = House(tmp_path, store, hop.port)
    house.start()
    yield house
    await house.stop()
    await close_clients()


async def until(condition: Any) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.005)


async def test_a_message_that_a_client_hands_over_is_delivered(house: House, hop: ScriptedServer) -> None:
    client = await house.client()
    replies = await client.says("MAIL FROM:<joe@origin.test>\r\nRCPT TO:<dan@else.test>\r\nRSET\r\n", 3)
    assert [reply[:3] for reply in replies.splitlines()] == ["250", "550", "250"]
    assert (await client.mails(MESSAGE, recipient="alice@fwd.test")).startswith("250 2.0.0 Ok: queued as ")
    await until(lambda: hop.contents)
    (content,) = hop.contents
    assert content.endswith(MESSAGE) and b"by mx.test with ESMTP id" in content
    assert b"srs_relay_messages_accepted_total 1.0" in house.metrics.render()
    async with asyncio.timeout(10):
        while await house.worker.queue_sizes() != {}:
            await asyncio.sleep(0.005)


async def test_the_queue_hears_how_many_sessions_are_in_data(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """With two of them the first message waits for the second: here as long as it takes."""
    monkeypatch.setattr("relay.queue.group_commit.WAIT", 3600.0)
    first, second = await house.client(), await house.client()
    for client in (first, second):
        await client.says("MAIL FROM:<joe@origin.test>\r\nRCPT TO:<alice@fwd.test>\r\nDATA\r\n", 3)
    first.writer.write(MESSAGE + b".\r\n")
    await until(lambda: house.store._commits._waiting)
    assert (await second.says(MESSAGE + b".\r\n")).startswith("250 ")
    assert (await first.reply()).startswith("250 ")


# what is wrong


async def test_a_worker_that_can_take_mail_has_no_problem(house: House) -> None:
    assert await house.worker.problem() == ""


async def test_a_disk_without_room_is_a_problem(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    found = os.statvfs("/")
    full = os.statvfs_result((found.f_bsize, found.f_frsize, found.f_blocks, 0, 0, *found[5:]))
    monkeypatch.setattr("relay.queue.disk_space.os.statvfs", lambda folder: full)
    assert await house.worker.problem() == "the disk is nearly full"
    client = await house.client()
    assert (await client.says("MAIL FROM:<joe@origin.test>\r\n")).startswith("452 4.3.1 ")


async def test_a_queue_that_does_not_answer_is_a_problem(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    async def away() -> Any:
        raise QueueUnavailable("the disk is gone")

    monkeypatch.setattr(house.store, "ping", away)
    monkeypatch.setattr(house.store, "counts", away)
    with capture_logs() as lines:
        assert await house.worker.problem() == "the queue does not answer"
        assert await house.worker.queue_sizes() is None
    assert [(line["event"], line["problem"]) for line in lines] == [("queue_unavailable", "the disk is gone")] * 2


async def test_lines_of_a_table_that_cannot_be_used_are_counted(house: House, tmp_path: Path) -> None:
    counted: Mapping[str, int] = house.worker.bad_lines()
    assert counted == {str(tmp_path / "aliases"): 1}


# the end


async def test_a_worker_that_stops_says_so_and_takes_no_more_connections(house: House) -> None:
    await house.stop()
    assert await house.worker.problem() == "stopping"
    with pytest.raises(OSError):
        await asyncio.open_connection(*house.socket.getsockname())


async def test_a_message_that_is_under_way_when_the_worker_stops_is_taken_and_delivered(
    house: House, hop: ScriptedServer
) -> None:
    client = await house.client()
    await client.says("MAIL FROM:<joe@origin.test>\r\nRCPT TO:<alice@fwd.test>\r\nDATA\r\n", 3)
    stopping = asyncio.create_task(house.stop())
    async with asyncio.timeout(10):
        while await house.worker.problem() != "stopping":
            await asyncio.sleep(0)
    assert (await client.says(MESSAGE + b".\r\n")).startswith("250 2.0.0 Ok: queued as ")
    assert (await client.reply()).startswith("421 ") and await client.closed()
    await stopping
    assert [content[-len(MESSAGE) :] for content in hop.contents] == [MESSAGE]


async def test_an_attempt_that_does_not_end_is_given_up_and_the_queue_keeps_the_message(
    house: House, hop: ScriptedServer, tmp_path: Path
) -> None:
    hop.hold()
    client = await house.client()
    assert (await client.mails(MESSAGE, recipient="alice@fwd.test")).startswith("250 ")
    await until(lambda: hop.contents)
    await client.says("QUIT\r\n")
    await house.stop(0.4)
    store = Store(await connect(f"sqlite:///{tmp_path}/queue.db"), "worker/2/")
    assert await store.counts() == {"queued": 1}
    await store.close()


async def test_an_idle_session_is_closed_in_order(house: House) -> None:
    client = await house.client()
    stopping = asyncio.create_task(house.stop())
    assert (await client.reply()).startswith("421 ") and await client.closed()
    await stopping


async def test_a_session_that_does_not_end_is_cut_off_after_half_of_the_patience(house: House) -> None:
    client = await house.client()
    await client.says("MAIL FROM:<joe@origin.test>\r\nRCPT TO:<alice@fwd.test>\r\nDATA\r\n", 3)
    await house.stop(0.2)
    await within_patience(client.reader.read())
    assert client.reader.at_eof()


async def test_nothing_of_a_worker_runs_on(house: House) -> None:
    client = await house.client()
    assert (await client.mails(MESSAGE, recipient="alice@fwd.test")).startswith("250 ")
    before = {task for task in asyncio.all_tasks() if task.get_name() in _NAMES}
    assert {task.get_name() for task in before} == _NAMES
    await house.stop()
    assert all(task.done() for task in before)


_NAMES = {"dispatcher", "upkeep", "tables", "transfer-monitor", "queue-writer"}
