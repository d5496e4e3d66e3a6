"""A part as it is written, and whether its body may stay as it is."""

from __future__ import annotations

import pytest

from relay.bounce.mime_part import MimePart, identity_encoding, is_transportable


def test_a_part_has_its_header_above_its_body() -> None:
    part = MimePart("text/plain; charset=utf-8", "Notification", "8bit", "ü\r\n".encode())
    assert (
        bytes(part)
        == (
            "Content-Type: text/plain; charset=utf-8\r\nContent-Description: Notification\r\n"
            "Content-Transfer-Encoding: 8bit\r\n\r\nü\r\n"
        ).encode()
    )


@pytest.mark.parametrize(
    ("body", "encoding", "transportable"),
    [
        (b"plain\r\n", "7bit", True),
        ("ü\r\n".encode(), "8bit", True),
        (b"x" * 998 + b"\r\n", "7bit", True),
        (b"x" * 999 + b"\r\n", "7bit", False),
        (b"a\0b\r\n", "7bit", False),
    ],
)
def test_what_may_stay_as_it_is(body: bytes, encoding: str, transportable: bool) -> None:
    assert identity_encoding(body) == encoding
    assert is_transportable(body) is transportable
