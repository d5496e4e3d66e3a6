"""BDAT: chunks become the message that DATA would have brought, and what is wrong with one leaves commands in step."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.mail.reply import Refused
from relay.receive.chunk_decoder import ChunkDecoder
from relay.receive.chunking import ABSURD, Chunk, parse_bdat
from relay.receive.data_decoder import has_bare_newline
from relay.receive.spool import Spool
from tests.peers import wait_for
from tests.receive.door import Door, Talk
from tests.receive.test_data_decoder import NULS

HEADER = b"Subject: x\r\n\r\n"
LIMIT = {"max_message_size": 100_000}
TRUSTED = {"clients": {"trusted": ["127.0.0.1"]}}


def bdat(*chunks: bytes, last: bool = True) -> bytes:
    """The commands and octets of a message in chunks."""
    ends = [b""] * (len(chunks) - 1) + [b" LAST" if last else b""]
    return b"".join(b"BDAT %d%s\r\n%s" % (len(chunk), end, chunk) for chunk, end in zip(chunks, ends, strict=True))


async def begun(server: Door, recipient: str = "c@d.test", **client: Any) -> Talk:
    """A client that has a transaction open."""
    talk = await server.client(**client)
    await talk.says(f"MAIL FROM:<a@b.test>\r\nRCPT TO:<{recipient}>\r\n", 2)
    return talk


def codes(replies: str) -> list[str]:
    return [line[:9] for line in replies.splitlines()]


async def test_ehlo_offers_it_and_not_binarymime(door: Callable[..., Door]) -> None:
    talk = await door().client()
    offers = await talk.says("EHLO c\r\n")
    assert "CHUNKING" in offers and "BINARYMIME" not in offers
    assert (await talk.says("MAIL FROM:<a@b.test> BODY=BINARYMIME\r\n")).startswith("501 5.5.4")


async def test_chunks_become_one_message(door: Callable[..., Door], log: list[dict[str, Any]]) -> None:
    server = door()
    talk = await begun(server)
    assert await talk.says(bdat(HEADER, last=False)) == "250 2.0.0 14 octets received\r\n"
    assert await talk.says(b"bdat   3\r\n.\r\n") == "250 2.0.0 3 octets received\r\n"
    assert await talk.says(b"BDAT 5\tlast\r\n\xff..\r\n") == "250 2.0.0 Ok\r\n"
    assert server.contents == [HEADER + b".\r\n\xff..\r\n"]
    assert (await talk.mails(HEADER)).startswith("250"), "the session goes on"
    await talk.says("QUIT\r\n")
    (line,) = [line for line in log if line["event"] == "disconnect"]
    assert (line["bdat"], line["data"]) == ("3", "1")
    assert [line["size"] for line in log if line["event"] == "data"] == [22, 14]


@pytest.mark.parametrize(
    ("chunks", "content"),
    [
        ([b""], b""),
        ([HEADER, b""], HEADER),
        ([b"", b"", HEADER], HEADER),
        ([HEADER + b"one\r", b"\ntwo\r\n"], HEADER + b"one\r\ntwo\r\n"),
        ([HEADER + b"one\r", b"", b"\n"], HEADER + b"one\r\n"),
        ([HEADER + b"no end"], HEADER + b"no end\r\n"),
        ([b"Subject: only"], b"Subject: only\r\n"),
        ([HEADER + b".\r\n", b".\r\nMAIL FROM:<x@y>\r\n"], HEADER + b".\r\n.\r\nMAIL FROM:<x@y>\r\n"),
        ([b".", b"\r", b"\n", b"."], b".\r\n.\r\n"),
    ],
)
@pytest.mark.parametrize("pipelined", [False, True])
async def test_what_arrives(door: Callable[..., Door], chunks: list[bytes], content: bytes, pipelined: bool) -> None:
    server = door()
    talk = await begun(server)
    if pipelined:
        replies = await talk.says(bdat(*chunks) + b"NOOP\r\n", len(chunks) + 1)
    else:
        for octet in bdat(*chunks) + b"NOOP\r\n":
            talk.writer.write(bytes([octet]))
            await asyncio.sleep(0)
        replies = await talk.says(b"", len(chunks) + 1)
    assert codes(replies) == ["250 2.0.0"] * (len(chunks) + 1)
    assert server.contents == [content]


async def test_a_whole_conversation_in_one_segment(door: Callable[..., Door]) -> None:
    server = door()
    talk = await server.client()
    mail = b"MAIL FROM:<a@b.test>\r\nRCPT TO:<no@d.test>\r\nRCPT TO:<c@d.test>\r\n"
    replies = await talk.says(2 * (mail + bdat(HEADER, b"hi\r\n")) + b"QUIT\r\n", 11)
    once = ["250 2.1.0", "550 5.1.1", "250 2.1.5", "250 2.0.0", "250 2.0.0"]
    assert codes(replies) == [*once, *once, "221 2.0.0"]
    assert server.contents == [HEADER + b"hi\r\n"] * 2


# what is refused: octets are dropped, and commands stay in step

TRAP = b"QUIT\r\n.\r\nEHLO trap\r\n"


@pytest.mark.parametrize(
    ("before", "reply"),
    [
        ("RSET\r\n", "503 5.5.1"),
        ("MAIL FROM:<a@b.test>\r\n", "503 5.5.1"),
        ("MAIL FROM:<a@b.test>\r\nRCPT TO:<no@d.test>\r\n", "554 5.5.1"),
    ],
)
@pytest.mark.parametrize("last", [False, True])
async def test_without_a_recipient_the_chunk_is_read_and_dropped(
    door: Callable[..., Door], before: str, reply: str, last: bool
) -> None:
    server = door()
    talk = await server.client()
    for command in before.splitlines(keepends=True):
        await talk.says(command)
    assert codes(await talk.says(bdat(TRAP, last=last) + b"NOOP\r\n", 2)) == [reply, "250 2.0.0"]
    if last:
        assert (await talk.mails(HEADER)).startswith("250")


async def test_the_rest_of_a_message_with_a_lost_chunk_is_not_taken_for_the_whole(door: Callable[..., Door]) -> None:
    """RFC 3030 section 2: after an error only RSET helps."""
    server = door()
    talk = await server.client()
    await talk.says("MAIL FROM:<a@b.test>\r\n")
    replies = await talk.says(bdat(HEADER, last=False) + b"RCPT TO:<c@d.test>\r\n" + bdat(b"rest\r\n"), 3)
    assert codes(replies) == ["503 5.5.1"] * 3
    talk = await begun(server)
    replies = await talk.says(bdat(b"a\nb", b"rest", b"and more", last=False), 3)
    assert codes(replies) == ["550 5.6.0"] * 3
    assert codes(await talk.says(bdat(b"end\r\n") + bdat(b"past the end"), 2)) == ["550 5.6.0", "503 5.5.1"]
    assert not server.contents
    assert (await talk.mails(HEADER)).startswith("250")


async def test_chunks_sent_ahead_of_a_refusal_count_as_one_error(
    door: Callable[..., Door], log: list[dict[str, Any]]
) -> None:
    server = door(receive=LIMIT, limits={"errors": 3})
    talk = await begun(server)
    replies = await talk.says(bdat(*[b"x" * 50_000] * 40), 40)
    assert codes(replies) == ["250 2.0.0"] * 2 + ["552 5.3.4"] * 38
    assert [line["reply"][:9] for line in log if line["event"] == "data"] == ["552 5.3.4"]
    assert server.limits.memory.taken == 0
    assert (await talk.mails(HEADER)).startswith("250")


@pytest.mark.parametrize(
    ("content", "reply"),
    [
        (HEADER + b"a\nb\r\n", "550 5.6.0 Message contains bare CR or LF"),
        (HEADER + b"a\rb\r\n", "550 5.6.0 Message contains bare CR or LF"),
        (HEADER + b"a\r", "550 5.6.0 Message contains bare CR or LF"),
        (HEADER + b"a\n", "550 5.6.0 Message contains bare CR or LF"),
        (HEADER + b"a\r\n\0.\r\nb\r\n", "550 5.6.0 Message has a line that is a single dot"),
        (HEADER + b"a\r\n\0.", "550 5.6.0 Message has a line that is a single dot"),
        (b"A: " + b"x" * 300_000 + b"\r\n\r\n", "552 5.3.4 Message header exceeds"),
        (b"A:\r\n" * 10_001 + b"\r\n", "552 5.3.4 Message header has more than"),
    ],
)
@pytest.mark.parametrize("size", [1, 7, 4000, 1_000_000])
async def test_the_rules_of_data_hold(door: Callable[..., Door], content: bytes, reply: str, size: int) -> None:
    if len(content) / size > 5000:
        size = 999
    server = door()
    talk = await begun(server)
    chunks = [content[start : start + size] for start in range(0, len(content), size)]
    replies = (await talk.says(bdat(*chunks), len(chunks))).splitlines()
    assert replies[-1].startswith(reply)
    assert not server.contents and server.limits.memory.taken == 0
    assert (await talk.mails(HEADER)).startswith("250")


async def test_nul_is_refused_where_it_is_refused(door: Callable[..., Door]) -> None:
    talk = await begun(door(receive={"nul": "reject"}))
    assert (await talk.says(bdat(HEADER + b"a\0b\r\n"))).startswith("550 5.6.0 Message contains NUL")


@pytest.mark.parametrize(("end", "arrives"), [(b"a\r", b"a\r\n"), (b"a\n", b"a\r\n"), (b"a\rb\nc", b"a\r\nb\r\nc\r\n")])
async def test_bare_newlines_of_trusted_clients_become_crlf(
    door: Callable[..., Door], end: bytes, arrives: bytes
) -> None:
    server = door(**TRUSTED)
    talk = await begun(server)
    assert codes(await talk.says(bdat(HEADER, end, b""), 3)) == ["250 2.0.0"] * 3
    assert server.contents == [HEADER + arrives]


# the size


@pytest.mark.parametrize(
    "argument",
    [
        "",
        "LAST",
        "x",
        "-1",
        "+1",
        "1.0",
        "1e3",
        "0x10",
        "\u0663",
        "9" * 21,
        "5 FIRST",
        "5 LAST LAST",
        "5LAST",
        "5,LAST",
    ],
)
async def test_a_size_that_cannot_be_read_closes_the_connection(door: Callable[..., Door], argument: str) -> None:
    server = door()
    talk = await begun(server)
    talk.writer.write(f"BDAT {argument}\r\nQUIT\r\nMAIL FROM:<x@y>\r\n".encode())
    assert (await talk.reply()).startswith("501 5.5.4 Syntax: BDAT size [LAST]")
    assert await talk.closed()
    assert not server.contents


@pytest.mark.parametrize(
    "line", [b"BDAT 5\nRSET\n", b"BDAT \x005\r\n", b"bdat 5 " + b" " * 5000 + b"\r\n", b"BDAT \xff\r\n"]
)
async def test_a_line_that_is_no_command_but_for_its_bdat_closes_it_too(door: Callable[..., Door], line: bytes) -> None:
    talk = await begun(door())
    talk.writer.write(line + b"NOOP\r\n")
    assert (await talk.reply()).startswith("500 5.5.2")
    assert await talk.closed()


async def test_a_chunk_over_the_limit_is_refused_before_it_is_kept(door: Callable[..., Door]) -> None:
    server = door(receive=LIMIT)
    talk = await begun(server)
    talk.writer.write(b"BDAT 100001\r\n" + b"x" * 50_000)
    await asyncio.sleep(0.05)
    assert server.limits.memory.taken == 0
    assert (await talk.says(b"x" * 50_001)).startswith("552 5.3.4")
    await talk.says("RSET\r\n")
    assert (await talk.mails(HEADER)).startswith("250")
    exact = HEADER + b"x" * (100_000 - len(HEADER) - 2) + b"\r\n"
    await talk.says("MAIL FROM:<a@b.test>\r\nRCPT TO:<c@d.test>\r\n", 2)
    assert codes(await talk.says(bdat(exact[:60_000], exact[60_000:]), 2)) == ["250 2.0.0"] * 2
    assert server.contents[-1] == exact


async def test_an_absurd_size_closes_the_connection(door: Callable[..., Door]) -> None:
    talk = await begun(door(receive=LIMIT))
    talk.writer.write(b"BDAT %d LAST\r\n" % (ABSURD * LIMIT["max_message_size"] + 1))
    assert (await talk.reply()).startswith("552 5.3.4")
    assert await talk.closed()


# among other commands


async def test_data_rcpt_and_starttls_do_not_mix_with_it(door: Callable[..., Door]) -> None:
    server = door(tls=lambda: pytest.fail("no handshake"))
    talk = await begun(server)
    await talk.says(bdat(HEADER, last=False))
    for command in ("DATA", "RCPT TO:<e@d.test>", "STARTTLS", "MAIL FROM:<>"):
        assert (await talk.says(command + "\r\n")).startswith("503 5.5.1"), command
    for command in ("NOOP", "VRFY x"):
        assert (await talk.says(command + "\r\n")).startswith("25"), command
    assert (await talk.says(bdat(b"end\r\n"))).startswith("250")
    assert server.contents == [HEADER + b"end\r\n"]


@pytest.mark.parametrize("command", ["RSET", "EHLO again"])
async def test_a_reset_between_chunks_forgets_them(door: Callable[..., Door], command: str) -> None:
    server = door()
    talk = await begun(server)
    await talk.says(bdat(HEADER + b"forgotten\r\n", last=False))
    assert server.limits.memory.taken > 0
    assert (await talk.says(f"{command}\r\n")).startswith("250")
    assert server.limits.memory.taken == 0
    assert codes(await talk.says(bdat(b"x"))) == ["503 5.5.1"]
    await talk.says("MAIL FROM:<a@b.test>\r\nRCPT TO:<c@d.test>\r\n", 2)
    assert (await talk.says(bdat(HEADER))).startswith("250")
    assert server.contents == [HEADER]


async def test_where_tls_is_required_a_chunk_in_clear_is_no_command(door: Callable[..., Door]) -> None:
    server = door(tls=lambda: pytest.fail("no handshake"), listen={"tls": "require"})
    talk = await server.client()
    assert codes(await talk.says(bdat(TRAP) + b"NOOP\r\n", 2)) == ["530 5.7.0", "250 2.0.0"]


async def test_empty_chunks_do_not_keep_a_session_open(door: Callable[..., Door]) -> None:
    talk = await begun(door())
    talk.writer.write(b"BDAT 0\r\n" * 200)
    replies = 0
    while (reply := await talk.reply()).startswith("250"):
        replies += 1
    assert reply.startswith("421 4.7.0") and 100 < replies < 130


async def test_small_chunks_are_no_idle_commands(door: Callable[..., Door]) -> None:
    server = door()
    talk = await begun(server)
    content = HEADER + b"x" * 500 + b"\r\n"
    replies = await talk.says(bdat(*[bytes([octet]) for octet in content]), len(content))
    assert set(codes(replies)) == {"250 2.0.0"}
    assert server.contents == [content]


# slow, lost, large


@pytest.mark.parametrize("said", [b"BDAT 10\r\nhalf", b"BDAT 10 LAST\r\nhalf"])
async def test_a_connection_that_is_lost_in_a_chunk(
    door: Callable[..., Door], log: list[dict[str, Any]], said: bytes
) -> None:
    server = door()
    talk = await begun(server)
    talk.writer.write(said)
    talk.writer.write_eof()
    assert await talk.reader.read() == b""
    await wait_for(lambda: log[-1]["event"] == "disconnect", "the end of the session")
    assert [line["after"] for line in log if line["event"] == "lost"] == ["BDAT"]
    assert not server.contents and server.limits.memory.taken == 0


@pytest.mark.parametrize("said", [b"BDAT 10\r\nhalf", b"BDAT 4\r\nhalf", b"RSET\r\nBDAT 10\r\nhalf"])
async def test_a_client_that_stops_in_a_chunk_or_after_one(door: Callable[..., Door], said: bytes) -> None:
    server = door(limits={"command_timeout": "400ms", "data_timeout": "100ms"})
    talk = await begun(server)
    talk.writer.write(said)
    while not (reply := await talk.reply()).startswith("421 4.4.2"):
        assert reply.startswith("250")
    assert await talk.closed()
    assert server.limits.memory.taken == 0


@pytest.mark.parametrize("between", [b"NOOP\r\n", b"BDAT 1\r\nx"])
async def test_a_message_may_not_take_for_ever(door: Callable[..., Door], between: bytes) -> None:
    """What is done between the chunks costs the same time as the chunks."""
    server = door(limits={"data_timeout": "200ms"})
    talk = await begun(server)
    await talk.says(bdat(b"Subject: x\r\n", last=False))
    replies: list[str] = []
    while not replies or replies[-1].startswith("250"):
        talk.writer.write(between)
        replies.append(await talk.reply())
        await asyncio.sleep(0.02)
    assert replies[-1].startswith("421 4.4.2") and 3 < len(replies) < 40


async def test_a_large_message_waits_on_disk(door: Callable[..., Door], tmp_path: Path) -> None:
    server = door(spool=Spool(tmp_path))
    talk = await begun(server)
    content = HEADER + b"x" * 78 * 30_000 + b"\r\n"
    for start in range(0, len(content), 300_000):
        chunk = content[start : start + 300_000]
        assert (await talk.says(bdat(chunk, last=start + 300_000 >= len(content)))).startswith("250")
        assert server.limits.memory.taken < 300_000
    assert server.contents == [content]
    assert server.limits.disk.taken == server.limits.memory.taken == 0


async def test_a_memory_shortage_is_told_once_the_chunk_is_read(door: Callable[..., Door]) -> None:
    server = door(limits={"message_memory": "1MB"}, receive={"max_message_size": 900_000})
    first, second = await begun(server), await begun(server, source="127.0.0.2")
    await first.says(bdat(HEADER + b"x" * 600_000, last=False))
    assert codes(await second.says(bdat(HEADER + b"x" * 600_000, b"", last=False), 2)) == ["452 4.3.1"] * 2
    assert (await first.says(bdat(b"\r\n"))).startswith("250")


# without a socket


@given(NULS, st.lists(st.integers(1, 7), max_size=40))
def test_blocks_of_any_size_decode_alike(pieces: list[bytes], cuts: list[int]) -> None:
    stream = b"".join(pieces)
    decoder, decoded, position = ChunkDecoder(), [], 0
    while position < len(stream):
        size = cuts.pop() if cuts else 1
        decoded.append(decoder.feed(stream[position : position + size]))
        position += size
    decoded.append(decoder.end())
    content = b"".join(decoded)
    assert content == (stream if stream.endswith((b"\r", b"\n")) or not stream else stream + b"\r\n")
    assert any(map(has_bare_newline, decoded)) == has_bare_newline(content)
    if b"\r\n.\r\n" in (b"\r\n" + content).replace(b"\r\n.", b"\r\n..").replace(b"\0", b""):
        assert decoder.hides_end, "the next hop would see an end"


@given(st.text(max_size=30))
def test_any_argument_is_a_chunk_or_refused(argument: str) -> None:
    try:
        chunk = parse_bdat(argument, 1000)
    except Refused as refused:
        assert refused.reply.code in (501, 552)
    else:
        assert chunk == Chunk(chunk.size, argument.upper().endswith("LAST"), chunk.size)
        assert 0 <= chunk.size <= ABSURD * 1000


def test_numbers() -> None:
    assert [parse_bdat(number, 1000).size for number in ("0", "007", "00000000000000000010")] == [0, 7, 10]
