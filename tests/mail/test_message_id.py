"""The Message-ID that the log shows."""

from __future__ import annotations

import pytest

from relay.mail.message import Message
from relay.mail.message_id import LONGEST, shown_message_id


@pytest.mark.parametrize(
    ("header", "shown"),
    [
        (b"Message-ID: <one@x.example>\r\n", "<one@x.example>"),
        (b"MESSAGE-Id:<one@x.example>\r\n", "<one@x.example>"),
        (b"Message-ID: <one@x.example>\r\nMessage-ID: <two@x.example>\r\n", "<one@x.example>"),
        (b"Message-ID:\r\n <folded@x.example>\r\n", "<folded@x.example>"),
        (b"Message-ID: no brackets at all\r\n", "no brackets at all"),
        ("Message-ID: <jörg@x.example>\r\n".encode(), "<jörg@x.example>"),
        (b"Message-ID: <j\xf6rg@x.example>\r\n", "<j\ufffdrg@x.example>"),
        (b"Message-ID:\r\n", None),
        (b"Subject: Message-ID: <no@x.example>\r\n", None),
    ],
)
def test_it_is_the_first_field_as_it_was_written(header: bytes, shown: str | None) -> None:
    content = b"From: a@x.example\r\n" + header + b"\r\nMessage-ID: <body@x.example>\r\n"
    assert shown_message_id(Message(content)) == shown


@pytest.mark.parametrize("character", ["x", "ö", "\U0001f600"])
def test_a_long_one_is_cut(character: str) -> None:
    shown = shown_message_id(Message(f"Message-ID: {character * 100_000}\r\n\r\n".encode()))
    assert shown == character * LONGEST + "…"
