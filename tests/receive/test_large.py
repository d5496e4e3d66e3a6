"""The largest message that is taken: the event loop goes on meanwhile, and the memory is a small multiple of its size.

What counts is the CPU time between two turns of the loop, which other programs on the machine do not lengthen.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from relay.mail.message import Message
from relay.receive.spool import Spool
from tests.receive.door import Door

pytestmark = [pytest.mark.slow, pytest.mark.asyncio(loop_factories=["uvloop"])]

SIZE = 24_900_000
STALL = 0.02  # seconds of CPU, what the house allows
HEADER = b"From: a@b.test\r\nSubject: large\r\n\r\n"
REPEATED = {
    "lines": (HEADER, b"x" * 76 + b"\r\n"),
    "one line": (HEADER, b"x"),
    "white space": (HEADER, b" \t"),
    "blank lines": (HEADER, b"\r\n"),
    "dots": (HEADER, b"..\r\n"),
    "no header": (b"", b"no colon\r\n"),
    "a header beyond the limit": (b"", b"A: b\r\n"),
    "bare newlines": (HEADER, b"\n"),
}
# A process of its own, whose work and memory do not count as ours.
CLIENT = """
import ast, socket, sys
host, port, header, repeated, times = sys.argv[1:]
content = ast.literal_eval(header) + ast.literal_eval(repeated) * int(times) + b"x\\r\\n.\\r\\n"
with socket.create_connection((host, int(port))) as connection:
    replies = connection.makefile("rb")
    replies.readline()
    for line in (b"HELO c", b"MAIL FROM:<a@b.test>", b"RCPT TO:<c@d.test>", b"DATA"):
        connection.sendall(line + b"\\r\\n")
        replies.readline()
    connection.sendall(content)
    sys.stdout.buffer.write(replies.readline())
"""


async def send(server: Door, header: bytes, repeated: bytes, times: int) -> str:
    """The reply to a message of the header, something repeated, and a last line."""
    arguments = [*map(str, server.address), repr(header), repr(repeated), str(times)]
    client = await asyncio.create_subprocess_exec(
        sys.executable, "-c", CLIENT, *arguments, stdout=asyncio.subprocess.PIPE
    )
    out, _ = await asyncio.wait_for(client.communicate(), 60)
    return out.decode()


@asynccontextmanager
async def stalls() -> AsyncIterator[list[float]]:
    """The CPU seconds of each turn of the loop, the longest first once it is over."""
    turns: list[float] = []

    async def watch() -> None:
        last = time.thread_time()
        while True:
            await asyncio.sleep(0)
            now = time.thread_time()
            turns.append(now - last)
            last = now

    watcher = asyncio.create_task(watch())
    try:
        yield turns
    finally:
        watcher.cancel()
        turns.sort(reverse=True)


@pytest.mark.parametrize("where", ["on disk", "in memory"])
@pytest.mark.parametrize("kind", REPEATED)
async def test_a_large_message_holds_nobody_up(
    door: Callable[..., Door], tmp_path: Path, kind: str, where: str
) -> None:
    header, repeated = REPEATED[kind]
    normalized = repeated.replace(b"..", b".").replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
    times = SIZE // len(normalized)
    spool = Spool(tmp_path if where == "on disk" else None)
    server = door(spool=spool, clients={"trusted": ["127.0.0.1"] if kind == "bare newlines" else []})
    _forget_peak()
    before = _peak()
    async with stalls() as turns:
        reply = await send(server, header, repeated, times)
    grown = _peak() - before
    if kind == "a header beyond the limit":
        assert reply.startswith("552 5.3.4 Message header exceeds")
        assert grown < SIZE / 4
    else:
        assert reply.startswith("250")
        assert grown < 3 * SIZE
        content = header + normalized * times + b"x\r\n"
        ((_, _, message),) = server.taker.taken
        assert message.content == content
        assert message.body_hash == Message(content).relaxed_body_hash
    assert turns[0] < STALL, f"{[round(turn * 1000, 1) for turn in turns[:5]]} ms"
    print("PEAK", kind, (grown) / 1e6, [round(turn * 1000, 1) for turn in turns[:5]])


def _peak() -> int:
    """Octets that this process has had in memory at most, since `_forget_peak` (proc(5))."""
    status = Path("/proc/self/status").read_text()
    return 1024 * int(status.partition("VmHWM:")[2].split()[0])


def _forget_peak() -> None:
    Path("/proc/self/clear_refs").write_text("5")
