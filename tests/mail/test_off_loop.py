"""What takes long is done in a thread, and what everybody sends is not."""

from __future__ import annotations

import threading

import pytest

from relay.mail.message import Message
from relay.mail.off_loop import LARGE, read_header, run_off_loop

HEADER = b"From: a@b.example\r\nSubject: s\r\n"


@pytest.mark.parametrize(
    ("content", "apart"),
    [
        (HEADER + b"\r\nbody\r\n", False),
        (HEADER + b"X: y\r\n" * 200 + b"\r\nbody\r\n" * 1000, False),
        (HEADER + b"A:\r\n" * 5000 + b"\r\nbody\r\n", True),
        (HEADER + b"\r\n" + b"body\r\n" * (LARGE // 6), True),
    ],
    ids=["ordinary", "many fields", "as many as there may be", "a large body"],
)
async def test_a_large_message_or_a_long_header_is_for_a_thread(content: bytes, apart: bool) -> None:
    message = Message(content)
    assert (await run_off_loop(message, threading.get_ident) != threading.get_ident()) is apart
    await read_header(message)
    assert ("fields" in vars(message)) is apart, "what is short is parsed where it is needed"


async def test_what_goes_wrong_there_is_told_here() -> None:
    def fails() -> None:
        raise KeyError("x")

    for content in (HEADER, HEADER + b"A:\r\n" * 5000):
        with pytest.raises(KeyError):
            await run_off_loop(Message(content), fails)
