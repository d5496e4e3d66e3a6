"""Whatever comes through the SMTP door: every session answers or closes, and the next client is served as before.

The examples are the same in every run. Each is sent twice, in one segment and in several, which makes no difference.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import re
import struct
from collections.abc import Iterator
from typing import Any

import pytest
import structlog.testing
import uvloop
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from relay.receive.data_decoder import has_bare_newline
from relay.receive.proxy_protocol import SIGNATURE
from tests.receive.door import Door, within_patience

seeded = settings(derandomize=True, database=None, deadline=None, suppress_health_check=list(HealthCheck))

REPLY = re.compile(
    rb"(?:220 mx\.test ESMTP|354 |250[ -][A-Z0-9 .a-z]+\r|[245]\d\d [245]\.\d{1,3}\.\d{1,3} )[ -~]*\r?\n?"
)
DIALOGUE = (
    b"EHLO c.test\r\nMAIL FROM:<a@b.test> SIZE=100 BODY=8BITMIME RET=HDRS ENVID=x+2B\r\n"
    b"RCPT TO:<c@d.test> NOTIFY=DELAY,FAILURE ORCPT=rfc822;c@d.test\r\nRCPT TO:<no@d.test>\r\n"
    b"DATA\r\nFrom: a@b.test\r\nSubject: x\r\n\r\n..dot\r\n\xff\r\n.\r\n"
    b"MAIL FROM:<a@b.test>\r\nRCPT TO:<c@d.test>\r\nBDAT 7\r\nA: b\r\n\r"
    b"BDAT 6\r\n\n.\r\n.\r"
    b"BDAT 1 LAST\r\n\n"
    b"MAIL FROM:<j\xc3\xb6rg@b\xc3\xbccher.test> SMTPUTF8\r\nRSET\r\nVRFY x\r\nNOOP\r\n"
    b'MAIL FROM:<>\r\nRCPT TO:<"a b\\"c>"@[192.0.2.1]>\r\nDATA\r\n.\r\nQUIT\r\n'
)

octets = st.binary(max_size=40)
words = st.sampled_from(
    [
        *(b"EHLO", b"HELO", b"MAIL FROM:", b"RCPT TO:", b"DATA", b"RSET", b"NOOP", b"QUIT", b"STARTTLS", b"VRFY"),
        *(
            b"HELP",
            b"EXPN",
            b"BDAT 10 LAST\r\n",
            b"BDAT 3\r\n",
            b"BDAT ",
            b"AUTH PLAIN",
            b"<",
            b">",
            b"<>",
            b"<a@b.test>",
            b"<c@d.test>",
        ),
        *(b'"', b"\\", b"@", b"[", b":", b"=", b";", b"+", b"SIZE=", b"BODY=8BITMIME", b"SMTPUTF8", b"NOTIFY=NEVER"),
        *(b"ORCPT=utf-8;", b"RET=FULL", b"ENVID=", b"postmaster", b"9" * 21, b"x" * 600, b"\xc3\xbc", b"\xe2\x80\xa8"),
        *(b" ", b"  ", b"\t", b"\0", b".", b"..", b"\r\n", b"\r\n", b"\r\n", b"\n", b"\r", b"\r\n.\r\n", b"\n.\n"),
    ]
)
commands = st.lists(words | octets, max_size=25).map(b"".join)
contents = st.lists(words | octets | st.just(b"A: b\r\n" * 50), max_size=25).map(
    lambda pieces: DIALOGUE[: DIALOGUE.index(b"From:")] + b"".join(pieces) + b"\r\n.\r\n"
)


@st.composite
def mutations(draw: st.DrawFn) -> bytes:
    """A good dialogue with a few things cut, put in, or said twice."""
    stream = DIALOGUE
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(stream)))
        end = min(len(stream), start + draw(st.integers(0, 12)))
        new = draw(st.one_of(octets, words, st.just(stream[start:end] * 2), st.just(b"")))
        stream = stream[:start] + new + stream[end:]
    return stream


addresses = st.sampled_from(
    [b"192.0.2.7", b"2001:db8::7", b"::ffff:192.0.2.7", b"fe80::1%lo", b"1.2.3", b"", b"x" * 50]
)
numbers = st.sampled_from([b"25", b"0", b"65536", b"-1", b"+25", b"2_5", b""])
v1 = st.tuples(
    st.sampled_from([b"PROXY TCP4", b"PROXY TCP6", b"PROXY UNKNOWN", b"PROXY", b"proxy TCP4"]),
    addresses,
    addresses,
    numbers,
    numbers,
    st.sampled_from([b"\r\n", b"\n", b" \r\n", b""]),
).map(lambda parts: b" ".join(parts[:-1]) + parts[-1])
v2 = st.builds(
    lambda command, family, length, body: SIGNATURE + struct.pack("!BBH", command, family, length or len(body)) + body,
    st.sampled_from([0x20, 0x21, 0x22, 0x11, 0xFF]),
    st.sampled_from([0x00, 0x11, 0x12, 0x21, 0x31, 0xFF]),
    st.sampled_from([0, 0, 0, 1, 5000]),
    st.binary(max_size=50),
)


class House:
    """The doors under test on a loop of their own, and what was logged there."""

    def __init__(self, log: list[Any]) -> None:
        self.log = log
        self.runner = asyncio.Runner(loop_factory=uvloop.new_event_loop)
        self.problems: list[dict[str, Any]] = []
        self.runner.get_loop().set_exception_handler(lambda _, context: self.problems.append(context))
        self.plain = self.runner.run(self._open())
        self.proxied = self.runner.run(self._open(proxy_protocol=True))

    @staticmethod
    async def _open(**listen: Any) -> Door:
        limits = {"command_timeout": "2s", "data_timeout": "2s"}
        receive = {"max_header_size": 1000, "max_message_size": 5000}
        return Door(listen=listen, limits=limits, receive=receive)

    def close(self) -> None:
        self.runner.run(self.plain.close())
        self.runner.run(self.proxied.close())
        self.runner.close()

    def survives(self, door: Door, stream: bytes, cuts: list[int]) -> None:
        """The stream ends in replies and a closed connection, whole and cut alike."""
        whole = self.runner.run(_said(door, [stream]))
        pieces = []
        for cut in cuts:
            pieces.append(stream[:cut])
            stream = stream[cut:]
        parts = self.runner.run(_said(door, [*pieces, stream]))
        # A server that hangs up on unread octets resets the connection, and the client may lose the last replies.
        shorter, longer = sorted((whole[0], parts[0]), key=len)
        assert longer.startswith(shorter)
        assert whole[1] == parts[1], "the messages taken"
        for line in longer.splitlines(keepends=True):
            assert REPLY.fullmatch(line), line
        for content in whole[1]:
            assert len(content) <= 5000 and not has_bare_newline(content)
        assert not self.problems, self.problems
        assert not [line for line in self.log if line["log_level"] in ("error", "critical")], self.log
        self.log.clear()


async def _said(door: Door, pieces: list[bytes]) -> tuple[bytes, list[bytes]]:
    """All replies to a client that says this, stops sending, and reads to the end; and the messages that were taken."""
    door.taker.taken.clear()
    reader, writer = await within_patience(asyncio.open_connection(*door.address))
    replies = bytearray()
    try:
        for piece in pieces:
            writer.write(piece)
            await asyncio.sleep(0)
            await asyncio.sleep(0)  # for the other side to read just that
        writer.write_eof()
        while block := await within_patience(reader.read(65536)):
            replies += block
    except (ConnectionError, RuntimeError):
        pass  # hung up on before all was said
    writer.close()
    with contextlib.suppress(ConnectionError):
        await within_patience(writer.wait_closed())
    await within_patience(door.listener.finished())
    return bytes(replies), door.contents


@pytest.fixture(scope="module")
def house() -> Iterator[House]:
    with structlog.testing.capture_logs() as log:
        house = House(log)
        yield house
        for door, header in ((house.plain, b""), (house.proxied, b"PROXY TCP4 192.0.2.7 127.0.0.1 1 25\r\n")):
            replies, taken = house.runner.run(_said(door, [header + DIALOGUE]))
            assert taken == [
                b"From: a@b.test\r\nSubject: x\r\n\r\n.dot\r\n\xff\r\n",
                b"A: b\r\n\r\n.\r\n.\r\n",
                b"",
            ]
            assert replies.endswith(b"221 2.0.0 Bye\r\n")
        house.close()
        gc.collect()  # a task that failed says so when it goes
        assert not house.problems, house.problems


cuts = st.lists(st.integers(0, 30), max_size=20) | st.just([1] * len(DIALOGUE) * 2)


@settings(seeded, max_examples=300)
@given(commands, cuts)
def test_random_commands(house: House, stream: bytes, cuts: list[int]) -> None:
    house.survives(house.plain, stream, cuts)


@settings(seeded, max_examples=300)
@given(mutations(), cuts)
def test_mutations_of_a_good_dialogue(house: House, stream: bytes, cuts: list[int]) -> None:
    house.survives(house.plain, stream, cuts)


@settings(seeded, max_examples=200)
@given(contents, cuts)
def test_random_content(house: House, stream: bytes, cuts: list[int]) -> None:
    house.survives(house.plain, stream, cuts)


@settings(seeded, max_examples=200)
@given(v1 | v2 | octets, st.just(DIALOGUE) | octets, cuts)
def test_random_proxy_headers(house: House, header: bytes, stream: bytes, cuts: list[int]) -> None:
    house.survives(house.proxied, header + stream, cuts)
