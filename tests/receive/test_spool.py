"""Large messages on their way in: they wait on disk, take memory only to be stored, and come out as they went in."""

from __future__ import annotations

import asyncio
import os
import resource
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import structlog.testing

from relay.mail.envelope import Client
from relay.mail.message import Message
from relay.mail.reply import Reply
from relay.receive.command import Transaction
from relay.receive.handler import Gone
from relay.receive.room import SPOOL_FROM
from relay.receive.spool import Spool
from relay.receive.stream import BLOCK
from tests.peers import wait_for
from tests.receive.door import Door, Talk, within_patience

MAIL = b"MAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nDATA\r\n"
SIZE = 10 * SPOOL_FROM


def content(octets: int) -> bytes:
    """A message of about so many octets, in which no two lines are the same."""
    return b"Subject: large\r\n\r\n" + b"".join(b"%070d\r\n" % n for n in range(octets // 72))


def spool_files(folder: Path) -> list[os.stat_result]:
    """The files without a name in a folder that this process has open."""
    files = []
    for number in Path("/proc/self/fd").iterdir():
        try:
            target = str(number.readlink())
            if target.startswith(f"{folder}/") and target.endswith("(deleted)"):
                files.append(number.stat())
        except OSError:
            pass  # the one by which we look
    return files


async def sending(server: Door, sent: bytes, source: str = "127.0.0.1") -> Talk:
    """A client that has sent so much of a message, all of which has been read."""

    def taken() -> int:
        return server.limits.memory.taken + server.limits.disk.taken

    expected = taken() + len(sent)
    talk = await server.client(source=source)
    await talk.says(MAIL, 3)
    talk.writer.write(sent)
    await within_patience(talk.writer.drain())
    await wait_for(lambda: expected - 5 < taken() <= expected, "all of it, and no more of it on the way to the disk")
    return talk


@contextmanager
def no_file_longer_than(octets: int) -> Iterator[None]:
    """What a full disk does: what fits is written, the rest fails."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (octets, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


async def test_a_large_message_waits_on_disk(door: Callable[..., Door], tmp_path: Path) -> None:
    server = door(spool=Spool(tmp_path))
    sent = content(SIZE)
    talk = await sending(server, sent)
    await wait_for(lambda: server.limits.memory.taken < SPOOL_FROM + BLOCK, "most of it on disk")
    (file,) = spool_files(tmp_path)
    assert stat.S_IMODE(file.st_mode) == 0o600
    assert not list(tmp_path.iterdir()), "it has no name"
    taken = []

    async def data(client: Client, transaction: Transaction, message: Message, gone: Gone) -> Reply:
        taken.append((server.limits.memory.taken, server.limits.disk.taken))
        server.taker.taken.append((client, transaction, message))
        return Reply(250, "2.0.0", "Ok")

    server.taker.data = data  # type: ignore[method-assign]
    assert (await talk.says(b"..\r\n.\r\n")).startswith("250")
    assert server.contents == [sent + b".\r\n"]
    assert server.taker.taken[0][2].body_hash == Message(sent + b".\r\n").relaxed_body_hash
    assert taken == [(len(sent) + 3, 0)], "all in memory while it is taken, and no longer on disk"
    assert (server.limits.memory.taken, server.limits.disk.taken) == (0, 0)
    await wait_for(lambda: not spool_files(tmp_path), "the end of the file")
    assert (await talk.mails(b"small\r\n")).startswith("250")


@pytest.mark.parametrize(
    "octets", [SPOOL_FROM - 1000, SPOOL_FROM, SPOOL_FROM + 1000, 2 * SPOOL_FROM, 3 * SPOOL_FROM + 1]
)
async def test_messages_of_all_sizes_come_out_as_they_went_in(
    door: Callable[..., Door], tmp_path: Path, octets: int
) -> None:
    server = door(spool=Spool(tmp_path))
    talk = await server.client()
    sent = content(octets)
    sent += b"x" * (octets - len(sent) - 2) + b"\r\n"
    for _ in range(2):
        assert (await talk.mails(sent)).startswith("250")
    assert server.contents == [sent, sent]


async def test_small_messages_see_no_file(door: Callable[..., Door], tmp_path: Path) -> None:
    """Not even where a file could not be made."""
    server = door(spool=Spool(tmp_path / "missing"))
    with structlog.testing.capture_logs() as log:
        assert (await (await server.client()).mails(content(SPOOL_FROM - 1000))).startswith("250")
    assert not [line for line in log if line["event"] == "not_spooled"]


@pytest.mark.parametrize("problem", ["no folder", "a missing one", "a file in its place", "no room", "a full disk"])
async def test_where_the_disk_has_no_room_it_stays_in_memory(
    door: Callable[..., Door], tmp_path: Path, problem: str
) -> None:
    (tmp_path / "file").touch()
    spool = {
        "no folder": Spool(None),
        "a missing one": Spool(tmp_path / "missing"),
        "a file in its place": Spool(tmp_path / "file"),
        "no room": Spool(tmp_path, minimum=1 << 60),
        "a full disk": Spool(tmp_path),
    }[problem]
    server = door(spool=spool)
    sent = content(SIZE)
    with no_file_longer_than(3 * SPOOL_FROM if problem == "a full disk" else resource.RLIM_INFINITY):
        talk = await sending(server, sent)
        assert server.limits.memory.taken > SIZE / 2
        assert (await talk.says(b".\r\n")).startswith("250")
    assert server.contents == [sent]
    assert (server.limits.memory.taken, server.limits.disk.taken) == (0, 0)


async def test_who_goes_away_leaves_nothing(door: Callable[..., Door], tmp_path: Path) -> None:
    server = door(spool=Spool(tmp_path))
    talks = [await sending(server, content(SIZE)) for _ in range(3)]
    assert len(spool_files(tmp_path)) == 3
    talks[0].writer.close()
    talks[1].writer.transport.abort()
    await wait_for(lambda: len(spool_files(tmp_path)) == 1, "the end of two files")
    server.listener.abort()
    await wait_for(lambda: not spool_files(tmp_path), "the end of the last")
    assert (server.limits.memory.taken, server.limits.disk.taken) == (0, 0)


@pytest.mark.parametrize("late", [b"bare\nnewline\r\n", b"x" * SIZE + b"\r\n"], ids=["bare newline", "size"])
async def test_what_is_refused_late_leaves_nothing(door: Callable[..., Door], tmp_path: Path, late: bytes) -> None:
    server = door(spool=Spool(tmp_path), receive={"max_message_size": SIZE + 1000})
    talk = await sending(server, content(SIZE))
    talk.writer.write(late)
    await wait_for(lambda: not spool_files(tmp_path), "the end of the file")
    assert (server.limits.memory.taken, server.limits.disk.taken) == (0, 0)
    assert (await talk.says(b".\r\n"))[:3] in ("550", "552")
    assert (await talk.mails(content(SIZE))).startswith("250")


async def test_a_disk_that_lost_it_defers_the_message(
    door: Callable[..., Door], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = door(spool=Spool(tmp_path))
    talk = await sending(server, content(SIZE))
    monkeypatch.setattr("os.pread", lambda *_: b"")
    assert (await talk.says(b".\r\n")).startswith("451 4.3.0")
    assert (server.limits.memory.taken, server.limits.disk.taken) == (0, 0)
    assert (await talk.mails(b"hi\r\n")).startswith("250")


async def test_a_large_message_waits_for_memory_at_its_end(door: Callable[..., Door], tmp_path: Path) -> None:
    server = door(spool=Spool(tmp_path), limits={"message_memory": SIZE * 3 // 2}, receive={"max_message_size": SIZE})
    sent = content(SIZE - 1000)
    first = await sending(server, sent)
    second = await sending(server, sent, "127.0.0.2")
    hold = asyncio.Event()
    plain = server.taker.data

    async def data(client: Client, transaction: Transaction, message: Message, gone: Gone) -> Reply:
        await hold.wait()
        return await plain(client, transaction, message, gone)

    server.taker.data = data  # type: ignore[method-assign]
    first.writer.write(b".\r\n")
    await wait_for(lambda: server.limits.memory.taken >= len(sent), "the first one in memory")
    second.writer.write(b".\r\n")
    await asyncio.sleep(0.2)
    assert server.limits.disk.taken >= len(sent), "the second one waits on disk"
    hold.set()
    assert (await first.reply()).startswith("250")
    assert (await second.reply()).startswith("250")
    assert server.contents == [sent, sent]


async def test_slow_large_messages_do_not_keep_others_out(door: Callable[..., Door], tmp_path: Path) -> None:
    """Twice as much as there is memory, nearly sent: strangers and trusted clients still get their mail taken."""
    server = door(
        spool=Spool(tmp_path),
        limits={"message_memory": 6 * SIZE},
        receive={"max_message_size": SIZE},
        clients={"trusted": ["127.0.0.9"]},
    )
    slow = [await sending(server, content(SIZE - 1000), f"127.0.0.{4 + n % 4}") for n in range(12)]
    assert server.limits.memory.taken < server.limits.memory.capacity() / 2
    assert server.limits.disk.taken > server.limits.memory.capacity()
    for source in ("127.0.0.2", "127.0.0.9"):
        talk = await server.client(source=source)
        assert (await talk.mails(b"small\r\n")).startswith("250")
        assert (await talk.says(b"MAIL FROM:<a@b> SIZE=%d\r\nRSET\r\n" % (SIZE - 1000), 2)).startswith("250")
        assert (await talk.mails(content(SIZE - 1000))).startswith("250")
    for talk in slow:
        assert (await talk.says(b".\r\n")).startswith("250")
    assert len(server.contents) == 16


async def test_one_client_may_take_a_quarter_of_the_room_on_disk(door: Callable[..., Door], tmp_path: Path) -> None:
    class Small(Spool):
        def free(self) -> int:
            return 8 * SIZE - server.limits.disk.taken

    server = door(spool=Small(tmp_path), limits={"message_memory": 4 * SIZE}, receive={"max_message_size": SIZE})
    talks = [await sending(server, content(octets)) for octets in (SIZE - 1000, SIZE // 2)]
    assert server.limits.disk.capacity() == 4 * SIZE
    assert server.limits.disk.taken <= SIZE
    refused = await server.client()
    assert (await refused.says(b"MAIL FROM:<a@b> SIZE=%d\r\n" % SIZE)).startswith("452 4.3.1")
    other = await server.client(source="127.0.0.2")
    assert (await other.mails(content(SIZE - 1000))).startswith("250")
    for talk in reversed(talks):
        assert (await talk.says(b".\r\n")).startswith("250")
