"""What a transaction says to the server, octet by octet, and what it makes of several recipients."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Iterable, Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relay.deliver.dot_stuffing import BLOCK, stuffed
from relay.mail.message import Recipient
from tests.deliver.scripted import ESMTP, FINE, HANG_UP, STALL, ScriptedServer
from tests.deliver.sending import CONTENT, agent, hop, job

# content


def unstuffed(wire: bytes) -> bytes:
    """What a server reads (RFC 5321 section 4.5.2): lines up to the lonely dot, without a first dot."""
    lines = wire.split(b"\r\n")
    assert lines[-2:] == [b".", b""] and b"." not in lines[:-2]
    return b"".join(line.removeprefix(b".") + b"\r\n" for line in lines[:-2])


pieces = st.sampled_from([b".", b"..", b"\r\n", b"\r\n.", b"\r\n.\r\n", b"a", b"\r", b"\n", b"\n.", b"\xff", b"x" * 40])
contents = st.lists(pieces, max_size=40).map(b"".join)


@given(contents, st.lists(st.integers(0, 200), max_size=8))
@settings(max_examples=200, deadline=None)
def test_any_content_arrives_octet_for_octet(content: bytes, cuts: list[int]) -> None:
    bounds = sorted({0, len(content), *(cut for cut in cuts if cut < len(content))})
    chunks = [content[start:end] for start, end in itertools.pairwise(bounds)]
    end = b"" if content.endswith(b"\r\n") or not content else b"\r\n"
    assert unstuffed(b"".join(stuffed(chunks))) == content + end


@given(contents, st.integers(-12, 12))
@settings(max_examples=200, deadline=None)
def test_dots_at_the_edge_of_a_block(content: bytes, offset: int) -> None:
    content = b"x" * (BLOCK + offset) + content + b"\r\n"
    assert unstuffed(b"".join(stuffed([content]))) == content
    assert unstuffed(b"".join(stuffed([content[:BLOCK], content[BLOCK:]]))) == content


def test_blocks_are_neither_tiny_nor_huge() -> None:
    sizes = [len(block) for block in stuffed([b"head\r\n", *([b"x" * 10 + b"\r\n"] * 20_000)])]
    assert all(BLOCK - 4 <= size <= BLOCK + 4 for size in sizes[:-1])
    assert len(list(stuffed([b"From: a\r\n", b"\r\n", b"body\r\n"]))) == 1


def test_the_empty_content_is_a_lonely_dot() -> None:
    assert b"".join(stuffed([])) == b"".join(stuffed([b""])) == b".\r\n"


async def test_the_content_is_not_read_ahead() -> None:
    produced = 0

    def content() -> Iterator[bytes]:
        nonlocal produced
        for _ in range(1000):
            produced += 1
            yield b"x" * BLOCK

    blocks = stuffed(content())
    next(blocks)
    assert produced <= 3


@pytest.mark.parametrize("offers", [ESMTP, ()])
async def test_a_message_arrives_as_it_is(offers: tuple[str, ...]) -> None:
    server = ScriptedServer(offers=offers)
    content = b"From: a\r\n\r\n" + bytes(range(11, 256)) + b"\r\n" + b"y" * 70_000 + b"\r\n.\r\n..\r\n.\r\n"
    async with server(), agent() as sender:
        (outcome,) = await sender.deliver("d.test", hop(server.port), job(content=content, is_8bit=True))
    assert outcome.status == "delivered"
    assert server.contents == [content]


async def test_a_large_message_does_not_hold_up_the_others() -> None:
    server = ScriptedServer(body_octets=1 << 20, body=STALL)  # which reads and says nothing: cheap on this loop
    line = b".x" * 38 + b"\r\n"
    content = line * (25_000_000 // len(line))
    turns: list[float] = []  # seconds of CPU
    seen: list[int] = []  # the turn in which each block was asked for

    async def watch() -> None:
        while True:
            before = time.thread_time()
            await asyncio.sleep(0)
            turns.append(time.thread_time() - before)

    def in_blocks() -> Iterator[bytes]:
        for start in range(0, len(content), BLOCK):
            seen.append(len(turns))
            yield content[start : start + BLOCK]

    async with server(), agent(final_timeout="200ms") as sender:
        watching = asyncio.create_task(watch())
        (whole,) = await sender.deliver("d.test", hop(server.port), job(content=content))
        (blocks,) = await sender.deliver("d.test", hop(server.port), job(content=in_blocks))
        watching.cancel()
    assert (whole.enhanced, blocks.enhanced) == ("4.4.2", "4.4.2")
    assert max(turns) < 0.020
    assert all(later > earlier for earlier, later in itertools.pairwise(seen[3:]))  # the first are read ahead


async def test_a_content_that_cannot_be_made_is_a_deferral() -> None:
    def broken() -> Iterable[bytes]:
        raise OSError("no key")

    def breaks_later() -> Iterator[bytes]:
        yield b"x" * 3 * BLOCK
        raise ValueError("no more")

    server = ScriptedServer()
    async with server(), agent() as sender:
        outcomes = [
            (await sender.deliver("d.test", hop(server.port), job(content=content)))[0]
            for content in (broken, breaks_later, CONTENT)
        ]
    assert [(o.status, o.enhanced) for o in outcomes] == [
        ("deferred", "4.3.0"),
        ("deferred", "4.3.0"),
        ("delivered", "2.0.0"),
    ]
    assert server.contents == [CONTENT]


# recipients


async def test_only_some_recipients_are_accepted() -> None:
    answers = {"b@d.test": "550 5.1.1 unknown", "c@d.test": "450 4.2.1 full", "d@d.test": "552 5.5.3 too many"}
    server = ScriptedServer(RCPT=lambda line: answers.get(line[9:-1], FINE))
    async with server(), agent() as sender:
        outcomes = await sender.deliver("d.test", hop(server.port), job(*(f"{x}@d.test" for x in "abcde")))
    assert [(o.status, o.code, o.enhanced) for o in outcomes] == [
        ("delivered", 250, "2.0.0"),
        ("failed", 550, "5.1.1"),
        ("deferred", 450, "4.2.1"),
        ("deferred", 552, "4.5.3"),
        ("delivered", 250, "2.0.0"),
    ]
    assert len(server.contents) == 1


@pytest.mark.parametrize("offers", [("PIPELINING",), ()])
async def test_content_is_made_only_for_accepted_recipients(offers: tuple[str, ...]) -> None:
    made = []

    def content() -> list[bytes]:
        made.append(1)
        return [CONTENT]

    server = ScriptedServer(offers=offers, RCPT="550 5.1.1 unknown")
    async with server(), agent() as sender:
        outcomes = await sender.deliver("d.test", hop(server.port), job("a@d.test", "b@d.test", content=content))
    assert [o.status for o in outcomes] == ["failed", "failed"]
    assert made == [] and server.contents == []


async def test_no_empty_message_where_data_is_taken_without_recipients() -> None:
    server = ScriptedServer(RCPT=["550 5.1.1 unknown", FINE], DATA="354 go on")
    async with server(), agent() as sender:
        first = await sender.deliver("d.test", hop(server.port), job())
        second = await sender.deliver("d.test", hop(server.port), job())
    assert (first[0].status, second[0].status) == ("failed", "delivered")
    assert [session.contents for session in server.sessions] == [[], [CONTENT_ON_THE_WIRE]]


CONTENT_ON_THE_WIRE = CONTENT.replace(b"\r\n.", b"\r\n..")


async def test_lmtp_has_a_reply_for_each_accepted_recipient() -> None:
    answers = {"b@d.test": "550 5.1.1 unknown"}
    server = ScriptedServer(
        lmtp=True,
        RCPT=lambda line: answers.get(line[9:-1], FINE),
        dot=["250 2.1.5 stored", "452 4.2.2 full", "554 5.6.0 no"],
    )
    async with server(), agent() as sender:
        to = [f"{x}@d.test" for x in "abcd"]
        outcomes = await sender.deliver("d.test", hop(server.port, "lmtp"), job(*to))
        (after,) = await sender.deliver("d.test", hop(server.port, "lmtp"), job())
    assert [(o.status, o.enhanced, o.text) for o in outcomes] == [
        ("delivered", "2.1.5", "stored"),
        ("failed", "5.1.1", "unknown"),
        ("deferred", "4.2.2", "full"),
        ("failed", "5.6.0", "no"),
    ]
    assert after.status == "failed"
    assert server.sessions[0].verbs()[:2] == ["LHLO", "MAIL"] and len(server.sessions) == 1


async def test_lmtp_that_ends_between_its_replies() -> None:
    server = ScriptedServer(lmtp=True, dot=["250 2.1.5 stored", HANG_UP])
    async with server(), agent() as sender:
        outcomes = await sender.deliver("d.test", hop(server.port, "lmtp"), job("a@d.test", "b@d.test", "c@d.test"))
    assert [(o.status, o.enhanced) for o in outcomes] == [
        ("delivered", "2.1.5"),
        ("deferred", "4.4.2"),
        ("deferred", "4.4.2"),
    ]
    assert len(server.sessions) == 1


async def test_lmtp_recipients_that_421_left_over_are_tried_again() -> None:
    server = ScriptedServer(lmtp=True, dot=["250 2.1.5 stored", "421 4.3.2 bye", FINE])
    async with server(), agent() as sender:
        assert (await sender.probe(hop(server.port, "lmtp"), "a@d.test")).status == "delivered"
        outcomes = await sender.deliver("d.test", hop(server.port, "lmtp"), job("a@d.test", "b@d.test"))
    assert [o.status for o in outcomes] == ["delivered", "delivered"]
    assert server.commands.count("RCPT TO:<b@d.test>") == 2


# pipelining


@pytest.mark.parametrize(("offers", "pipelined"), [(("PIPELINING",), True), (("8BITMIME",), False), ((), False)])
async def test_pipelining_only_where_it_is_offered(offers: tuple[str, ...], pipelined: bool) -> None:
    server = ScriptedServer(offers=offers)
    async with server(), agent() as sender:
        for _ in range(2):
            outcomes = await sender.deliver("d.test", hop(server.port), job("a@d.test", "b@d.test"))
            assert [o.status for o in outcomes] == ["delivered", "delivered"]
    assert server.sessions[0].pipelined is pipelined
    assert server.sessions[0].verbs() == ["EHLO", *["MAIL", "RCPT", "RCPT", "DATA"] * 2, "QUIT"]


async def test_a_thousand_recipients_at_once() -> None:
    server = ScriptedServer(RCPT=lambda line: "550 5.1.1 no" if line.endswith("7@d.test>") else FINE)
    async with server(), agent() as sender:
        outcomes = await sender.deliver("d.test", hop(server.port), job(*(f"r{n}@d.test" for n in range(1000))))
    assert [o.status for o in outcomes].count("failed") == 100
    assert all((o.status == "failed") == (n % 10 == 7) for n, o in enumerate(outcomes))


async def test_one_reply_too_many_is_not_taken_for_the_answer_to_the_message() -> None:
    server = ScriptedServer(DATA="354 go on\r\n250 2.0.0 taken")
    async with server(), agent() as sender:
        (outcome,) = await sender.deliver("d.test", hop(server.port), job())
    assert (outcome.status, outcome.enhanced) == ("deferred", "4.5.0")
    assert server.contents == []


# parameters


async def mail_and_rcpt(offers: tuple[str, ...], **more: object) -> tuple[str, list[str]]:
    """MAIL and RCPT as they reached a server with these offers."""
    to = more.pop("to", "carol@d.test")
    assert isinstance(to, str | Recipient)
    server = ScriptedServer(offers=offers)
    async with server(), agent() as sender:
        await sender.deliver("d.test", hop(server.port), job(to, **more))
    return server.commands[1], [line for line in server.commands if line.startswith("RCPT")]


async def test_size_is_announced_only_where_it_is_offered() -> None:
    assert (await mail_and_rcpt(("SIZE 1000",), size=1000))[0] == "MAIL FROM:<bob@origin.test> SIZE=1000"
    assert (await mail_and_rcpt(("SIZE",), size=1000))[0] == "MAIL FROM:<bob@origin.test> SIZE=1000"
    assert (await mail_and_rcpt((), size=1000))[0] == "MAIL FROM:<bob@origin.test>"


async def test_a_message_that_is_too_large_is_not_begun() -> None:
    server = ScriptedServer(offers=("SIZE 999",))
    async with server(), agent() as sender:
        (outcome,) = await sender.deliver("d.test", hop(server.port), job(size=1000))
        (fits,) = await sender.deliver("d.test", hop(server.port), job(size=999))
    assert (outcome.status, outcome.code, outcome.enhanced, outcome.remote) == ("failed", 552, "5.3.4", False)
    assert fits.status == "delivered"
    assert server.sessions[0].verbs() == ["EHLO", "MAIL", "RCPT", "DATA", "QUIT"]


@pytest.mark.parametrize("size", ["SIZE 0", "SIZE", "SIZE x", "SIZE -1", "SIZE " + "9" * 5000, "SIZE ٣"])
async def test_a_limit_that_is_none(size: str) -> None:
    server = ScriptedServer(offers=(size,))
    async with server(), agent() as sender:
        (outcome,) = await sender.deliver("d.test", hop(server.port), job(size=10**9))
    assert outcome.status == "delivered"


async def test_8bitmime_only_where_it_is_needed_and_offered() -> None:
    assert (await mail_and_rcpt(("8BITMIME",), is_8bit=True))[0] == "MAIL FROM:<bob@origin.test> BODY=8BITMIME"
    assert (await mail_and_rcpt(("8BITMIME",)))[0] == "MAIL FROM:<bob@origin.test>"
    assert (await mail_and_rcpt((), is_8bit=True))[0] == "MAIL FROM:<bob@origin.test>"


DSN_JOB = {"ret": "HDRS", "envid": "QQ314159", "to": Recipient("carol@d.test", "SUCCESS,FAILURE", "rfc822;c+40d.test")}


async def test_dsn_parameters_only_where_they_are_offered() -> None:
    mail, rcpt = await mail_and_rcpt(("DSN",), **DSN_JOB)
    assert mail == "MAIL FROM:<bob@origin.test> RET=HDRS ENVID=QQ314159"
    assert rcpt == ["RCPT TO:<carol@d.test> NOTIFY=SUCCESS,FAILURE ORCPT=rfc822;c+40d.test"]
    mail, rcpt = await mail_and_rcpt((), **DSN_JOB)
    assert (mail, rcpt) == ("MAIL FROM:<bob@origin.test>", ["RCPT TO:<carol@d.test>"])


@pytest.mark.parametrize("offers", [("DSN",), ()])
async def test_the_outcome_says_whether_dsn_was_taken_over(offers: tuple[str, ...]) -> None:
    server = ScriptedServer(offers=offers)
    async with server(), agent() as sender:
        (outcome,) = await sender.deliver("d.test", hop(server.port), job())
    assert outcome.dsn is bool(offers)


@pytest.mark.parametrize("value", ["a b", "a\r\nRSET", "ä", ""])
async def test_a_dsn_parameter_never_leaves_its_place(value: str) -> None:
    mail, rcpt = await mail_and_rcpt(("DSN",), envid=value, to=Recipient("carol@d.test", "NEVER", value))
    assert (mail, rcpt) == ("MAIL FROM:<bob@origin.test>", ["RCPT TO:<carol@d.test> NOTIFY=NEVER"])


# addresses


async def test_smtputf8_only_where_an_address_or_a_header_needs_it() -> None:
    offers = ("SMTPUTF8",)
    assert (await mail_and_rcpt(offers))[0] == "MAIL FROM:<bob@origin.test>"
    assert (await mail_and_rcpt(offers, needs_smtputf8=True))[0] == "MAIL FROM:<bob@origin.test> SMTPUTF8"
    assert (await mail_and_rcpt(offers, sender="jörg@ü.test"))[0] == "MAIL FROM:<jörg@ü.test> SMTPUTF8"
    mail, rcpt = await mail_and_rcpt(offers, to="jörg@ü.test")
    assert (mail, rcpt) == ("MAIL FROM:<bob@origin.test> SMTPUTF8", ["RCPT TO:<jörg@ü.test>"])


@pytest.mark.parametrize("offers", [("SMTPUTF8",), ()])
async def test_a_domain_alone_goes_out_in_a_labels(offers: tuple[str, ...]) -> None:
    mail, rcpt = await mail_and_rcpt(offers, sender="bob@BÜCHER.test", to="carol@bücher.test")
    assert (mail, rcpt) == ("MAIL FROM:<bob@xn--bcher-kva.test>", ["RCPT TO:<carol@xn--bcher-kva.test>"])


async def test_what_needs_smtputf8_fails_where_it_is_not_offered() -> None:
    server = ScriptedServer(offers=())
    async with server(), agent() as sender:

        async def outcomes(*to: str, **more: object) -> list[tuple[str, str]]:
            return [(o.status, o.enhanced) for o in await sender.deliver("d.test", hop(server.port), job(*to, **more))]

        assert await outcomes(sender="jörg@d.test") == [("failed", "5.6.7")]
        assert await outcomes(needs_smtputf8=True) == [("failed", "5.6.9")]
        assert server.sessions[0].verbs() == ["EHLO"]
        assert await outcomes("jörg@d.test", "carol@d.test") == [("failed", "5.6.7"), ("delivered", "2.0.0")]


HOSTILE = [
    "a@d.test> SIZE=1\r\nRCPT TO:<b@d.test",
    "a\nb@d.test",
    "a\x00b@d.test",
    "a>b@d.test",
    "a b@d.test",
    '"a"b"@d.test',
    '"a\r\nb"@d.test',
    "a@d.test\u2028",
    "a@d.te st",
    "\udcff@d.test",
    "",
]


@pytest.mark.parametrize("address", HOSTILE)
async def test_an_address_never_leaves_its_brackets(address: str) -> None:
    server = ScriptedServer()
    async with server(), agent() as sender:
        outcomes = await sender.deliver("d.test", hop(server.port), job(address, "carol@d.test"))
        assert [(o.status, o.enhanced) for o in outcomes] == [("failed", "5.1.3"), ("delivered", "2.0.0")]
        if address:
            (outcome,) = await sender.deliver("d.test", hop(server.port), job(sender=address))
            assert (outcome.status, outcome.enhanced) == ("failed", "5.1.7")
    assert [line for line in server.commands if "RCPT" in line] == ["RCPT TO:<carol@d.test>"]


@pytest.mark.parametrize("address", ['"a b"@d.test', '"a>\\"b"@d.test', "a+b=c@[192.0.2.1]", "postmaster", '""@d.test'])
async def test_unusual_addresses_go_out_as_they_are(address: str) -> None:
    assert await mail_and_rcpt((), sender=address, to=address) == (f"MAIL FROM:<{address}>", [f"RCPT TO:<{address}>"])
