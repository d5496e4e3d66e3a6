"""Bounces that come back to a sender: replaced by ours, or passed on with the reason in the log."""

from __future__ import annotations

import threading

import pytest
from structlog.testing import capture_logs

from relay.bounce.rebuild import ReportingMta, rebuilt
from relay.bounce.returns import AT_ONCE, OCTETS, Returns
from relay.mail.message import Message
from relay.mail.queue_id import id_text
from relay.queue.stored_verdict import OWN_MESSAGE
from relay.route.loops import is_looping, mark_fields
from tests.bounce.samples import ALIAS, HOST, MAILBOX, postfix

JOE = "joe@origin.example"
NOW = 1700000100.0
MTA = ReportingMta(HOST, "fwd.example", (b"secret", b"old"))
RETURNS = Returns(MTA)
NUMBER = 4711


async def test_a_bounce_is_replaced_by_ours_under_the_same_id() -> None:
    with capture_logs() as lines:
        stored = await RETURNS.rebuilt(Message(postfix()), NUMBER, JOE, NOW)
    assert stored is not None
    assert (stored.id, stored.received, stored.sender, stored.verdict) == (NUMBER, NOW, "", OWN_MESSAGE)
    assert ALIAS.encode() in stored.message.content and MAILBOX.encode() not in stored.message.content
    (line,) = lines
    assert (line["event"], line["id"], line["home"], line["size"]) == (
        "bounce_rebuilt",
        id_text(NUMBER),
        JOE,
        len(postfix()),
    )


async def test_ours_bears_a_mark_of_the_sender_and_those_that_it_came_with() -> None:
    other = mark_fields([["else@fwd.example"]], MTA.secrets)
    stored = await RETURNS.rebuilt(Message(other + postfix()), NUMBER, JOE, NOW)
    assert stored is not None
    marked = Message(stored.trace + b"\r\n")
    for alias in (JOE, "else@fwd.example"):
        assert is_looping(marked, [[alias]], MTA.secrets)


async def passed_for(content: bytes) -> str:
    with capture_logs() as lines:
        assert await RETURNS.rebuilt(Message(content), NUMBER, JOE, NOW) is None
    (line,) = lines
    assert (line["event"], line["id"]) == ("bounce_passed", id_text(NUMBER))
    return str(line["reason"])


async def test_what_is_no_report_passes() -> None:
    assert await passed_for(b"Subject: failed\r\n\r\nSorry.\r\n")


async def test_a_bounce_that_was_rebuilt_for_the_same_sender_passes() -> None:
    for secret in MTA.secrets:
        mark = mark_fields([[JOE]], (secret,))
        assert await passed_for(mark + postfix()) == "it has been rebuilt for the same sender before"


async def test_a_report_that_is_too_large_is_not_read() -> None:
    assert await passed_for(postfix() + b"x" * OCTETS) == f"larger than {OCTETS} octets"


@pytest.mark.parametrize(("octets", "in_thread"), [(0, False), (AT_ONCE, True)])
async def test_a_large_report_is_read_in_a_thread(
    octets: int, in_thread: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads: list[bool] = []

    def noting(message: Message, ours: ReportingMta, *, to: str, unique: str, now: float) -> bytes:
        threads.append(threading.current_thread() is not threading.main_thread())
        return rebuilt(message, ours, to=to, unique=unique, now=now)

    monkeypatch.setattr("relay.bounce.returns.rebuilt", noting)
    assert await RETURNS.rebuilt(Message(postfix() + b"x" * octets), NUMBER, JOE, NOW) is not None
    assert threads == [in_thread]
