"""What a transaction says to the server, octet by octet, and what it makes of several recipients."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Iterable, Iterator
from typing import Any

import pytest

from relay.deliver.dot_stuffing import BLOCK
from relay.mail.envelope import Recipient
from tests.deliver.scripted import ESMTP, FINE, HANG_UP, STALL, ScriptedServer
from tests.deliver.sending import CONTENT, agent, hop, job

# content


@pytest.mark.parametrize("offers", [ESMTP, ()])
async def test_a_message_arrives_as_it_is(offers: tuple[str, ...]) -> None:
    server = ScriptedServer(offers=offers)
    content = b"From: a\r\n\r\n" + bytes(range(11, 256)) + b"\r\n" + b"y" * 70_000 + b"\r\n.\r\n..\r\n.\r\n"
    async with server(), agent() as sender:
        (outcome,) = await sender.deliver_to("d.test", hop(server.port), job(content=content, is_8bit=True))
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
        (whole,) = await sender.deliver_to("d.test", hop(server.port), job(content=content))
        (blocks,) = await sender.deliver_to("d.test", hop(server.port), job(content=in_blocks))
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
            (await sender.deliver_to("d.test", hop(server.port), job(content=content)))[0]
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
        outcomes = await sender.deliver_to("d.test", hop(server.port), job(*(f"{x}@d.test" for x in "abcde")))
    assert [(o.status, o.code, o.enhanced) for o in outcomes] == [
        ("delivered", 250, "2.0.0"),
        ("failed", 550, "5.1.1"),
        ("deferred", 450, "4.2.1"),
        ("deferred", 552, "4.5.3"),
        ("delivered", 250, "2.0.0"),
    ]
    assert [o.individual for o in outcomes] == [False, True, True, True, False]
    assert len(server.contents) == 1


async def test_a_refusal_of_the_sender_the_session_or_the_content_is_about_all_recipients() -> None:
    for part, reply in {
        "MAIL": "550 5.7.1 no",
        "RCPT": "421 4.3.2 bye",
        "DATA": "554 5.7.1 no",
        "dot": "554 5.6.0 no",
    }.items():
        server = ScriptedServer(script={part: reply})
        async with server(), agent() as sender:
            outcomes = await sender.deliver_to("d.test", hop(server.port), job("a@d.test", "b@d.test"))
        assert [(o.words, o.individual) for o in outcomes] == [(reply[10:], False)] * 2


@pytest.mark.parametrize("offers", [("PIPELINING",), ()])
async def test_content_is_made_only_for_accepted_recipients(offers: tuple[str, ...]) -> None:
    made = []

    def content() -> list[bytes]:
        made.append(1)
        return [CONTENT]

    server = ScriptedServer(offers=offers, RCPT="550 5.1.1 unknown")
    async with server(), agent() as sender:
        outcomes = await sender.deliver_to("d.test", hop(server.port), job("a@d.test", "b@d.test", content=content))
    assert [o.status for o in outcomes] == ["failed", "failed"]
    assert made == [] and server.contents == []


async def test_no_empty_message_where_data_is_taken_without_recipients() -> None:
    server = ScriptedServer(RCPT=["550 5.1.1 unknown", FINE], DATA="354 go on")
    async with server(), agent() as sender:
        first = await sender.deliver_to("d.test", hop(server.port), job())
        second = await sender.deliver_to("d.test", hop(server.port), job())
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
        outcomes = await sender.deliver_to("d.test", hop(server.port, "lmtp"), job(*to))
        (after,) = await sender.deliver_to("d.test", hop(server.port, "lmtp"), job())
    assert [(o.status, o.enhanced, o.text) for o in outcomes] == [
        ("delivered", "2.1.5", "stored"),
        ("failed", "5.1.1", "unknown"),
        ("deferred", "4.2.2", "full"),
        ("failed", "5.6.0", "no"),
    ]
    assert after.status == "failed" and all(o.individual for o in outcomes)
    assert server.sessions[0].verbs()[:2] == ["LHLO", "MAIL"] and len(server.sessions) == 1


async def test_lmtp_that_ends_between_its_replies() -> None:
    server = ScriptedServer(lmtp=True, dot=["250 2.1.5 stored", HANG_UP])
    async with server(), agent() as sender:
        outcomes = await sender.deliver_to("d.test", hop(server.port, "lmtp"), job("a@d.test", "b@d.test", "c@d.test"))
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
        outcomes = await sender.deliver_to("d.test", hop(server.port, "lmtp"), job("a@d.test", "b@d.test"))
    assert [o.status for o in outcomes] == ["delivered", "delivered"]
    assert server.commands.count("RCPT TO:<b@d.test>") == 2


# pipelining


@pytest.mark.parametrize(("offers", "pipelined"), [(("PIPELINING",), True), (("8BITMIME",), False), ((), False)])
async def test_pipelining_only_where_it_is_offered(offers: tuple[str, ...], pipelined: bool) -> None:
    server = ScriptedServer(offers=offers)
    async with server(), agent() as sender:
        for _ in range(2):
            outcomes = await sender.deliver_to("d.test", hop(server.port), job("a@d.test", "b@d.test"))
            assert [o.status for o in outcomes] == ["delivered", "delivered"]
    assert server.sessions[0].pipelined is pipelined
    assert server.sessions[0].verbs() == ["EHLO", *["MAIL", "RCPT", "RCPT", "DATA"] * 2, "QUIT"]


async def test_a_thousand_recipients_at_once() -> None:
    server = ScriptedServer(RCPT=lambda line: "550 5.1.1 no" if line.endswith("7@d.test>") else FINE)
    async with server(), agent() as sender:
        outcomes = await sender.deliver_to("d.test", hop(server.port), job(*(f"r{n}@d.test" for n in range(1000))))
    assert [o.status for o in outcomes].count("failed") == 100
    assert all((o.status == "failed") == (n % 10 == 7) for n, o in enumerate(outcomes))


async def test_one_reply_too_many_is_not_taken_for_the_answer_to_the_message() -> None:
    server = ScriptedServer(DATA="354 go on\r\n250 2.0.0 taken")
    async with server(), agent() as sender:
        (outcome,) = await sender.deliver_to("d.test", hop(server.port), job())
    assert (outcome.status, outcome.enhanced) == ("deferred", "4.5.0")
    assert server.contents == []


# parameters


async def test_the_commands_carry_what_the_server_offers() -> None:
    server = ScriptedServer(offers=("SIZE", "8BITMIME", "DSN", "SMTPUTF8"))
    carol = Recipient("carol@d.test", "SUCCESS,FAILURE", "rfc822;c+40d.test")
    async with server(), agent() as sender:
        await sender.deliver_to(
            "d.test", hop(server.port), job(carol, size=1000, is_8bit=True, ret="HDRS", envid="QQ1")
        )
    assert server.commands[1:3] == [
        "MAIL FROM:<bob@origin.test> SIZE=1000 BODY=8BITMIME RET=HDRS ENVID=QQ1",
        "RCPT TO:<carol@d.test> NOTIFY=SUCCESS,FAILURE ORCPT=rfc822;c+40d.test",
    ]


@pytest.mark.parametrize(
    ("envelope", "needed"),
    [
        ({}, False),
        ({"needs_smtputf8": True}, True),
        ({"sender": "jörg@d.test"}, True),
        ({"to": "jörg@d.test"}, True),
        ({"to": "carol@bücher.test"}, False),
    ],
)
async def test_smtputf8_only_where_an_address_or_a_header_needs_it(envelope: dict[str, Any], needed: bool) -> None:
    server = ScriptedServer(offers=("SMTPUTF8",))
    async with server(), agent() as sender:
        await sender.deliver_to("d.test", hop(server.port), job(envelope.pop("to", "carol@d.test"), **envelope))
    assert server.commands[1].endswith(" SMTPUTF8") is needed


async def test_a_message_that_is_too_large_is_not_begun() -> None:
    server = ScriptedServer(offers=("SIZE 999",))
    async with server(), agent() as sender:
        (outcome,) = await sender.deliver_to("d.test", hop(server.port), job(size=1000))
        (fits,) = await sender.deliver_to("d.test", hop(server.port), job(size=999))
    assert (outcome.status, outcome.code, outcome.enhanced, outcome.remote) == ("failed", 552, "5.3.4", False)
    assert fits.status == "delivered"
    assert server.sessions[0].verbs() == ["EHLO", "MAIL", "RCPT", "DATA", "QUIT"]


@pytest.mark.parametrize("size", ["SIZE 0", "SIZE", "SIZE x", "SIZE -1", "SIZE " + "9" * 5000, "SIZE ٣"])
async def test_a_limit_that_is_none(size: str) -> None:
    server = ScriptedServer(offers=(size,))
    async with server(), agent() as sender:
        (outcome,) = await sender.deliver_to("d.test", hop(server.port), job(size=10**9))
    assert outcome.status == "delivered"


@pytest.mark.parametrize("offers", [("DSN",), ()])
async def test_the_outcome_says_whether_dsn_was_taken_over(offers: tuple[str, ...]) -> None:
    server = ScriptedServer(offers=offers)
    async with server(), agent() as sender:
        (outcome,) = await sender.deliver_to("d.test", hop(server.port), job())
    assert outcome.dsn is bool(offers)


# addresses


async def test_what_needs_smtputf8_fails_where_it_is_not_offered() -> None:
    server = ScriptedServer(offers=())
    async with server(), agent() as sender:

        async def outcomes(*to: str, **more: object) -> list[tuple[str, str]]:
            return [
                (o.status, o.enhanced) for o in await sender.deliver_to("d.test", hop(server.port), job(*to, **more))
            ]

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
        outcomes = await sender.deliver_to("d.test", hop(server.port), job(address, "carol@d.test"))
        assert [(o.status, o.enhanced) for o in outcomes] == [("failed", "5.1.3"), ("delivered", "2.0.0")]
        if address:
            (outcome,) = await sender.deliver_to("d.test", hop(server.port), job(sender=address))
            assert (outcome.status, outcome.enhanced) == ("failed", "5.1.7")
    assert [line for line in server.commands if "RCPT" in line] == ["RCPT TO:<carol@d.test>"]
