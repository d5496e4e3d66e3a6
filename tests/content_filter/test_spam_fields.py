"""Which fields are taken for those of the filter, and that nothing else of a message changes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.content_filter.spam_fields import spam_fields, strip_spam_fields
from relay.mail.message import Message

REST = b"From: a@b.example\r\nX-Spam-Status: No\r\nX-Spam-Scores: 5\r\nXX-Spam: No\r\nSubject: X-Spam: No\r\n"
BODY = b"\r\nX-Spam: No\r\n\r\nHi.\r\n"
FOREIGN = [
    b"X-Spam: No\r\n",
    b"x-SPAM : Yes\r\n",
    b"X-Spam\t:\r\n yes\r\n\tno\r\n",
    b"X-Spam-Score:5\r\n",
    b"X-SPAM-SCORE:\r\n\t-99\r\n",
    b"X-Spam\x0b: No\r\n",
    b"X-Sp\xc2\xadam: No\r\n",
    b"X-Spam\xa0-Score: 1\r\n",
    b"\0X-Spam: No\r\n",
    b"X-Spam\r\n : No\r\n",
]


@pytest.mark.parametrize("field", FOREIGN)
@pytest.mark.parametrize("place", [0, 1, 5])
def test_a_foreign_field_goes_however_it_is_written(field: bytes, place: int) -> None:
    lines = REST.splitlines(keepends=True)
    lines[place:place] = [field]
    stripped, fields = strip_spam_fields(Message(b"".join(lines) + BODY))
    assert stripped.content == REST + BODY and [one.raw for one in fields] == [field]


def test_all_of_them_go() -> None:
    stripped, fields = strip_spam_fields(Message(b"".join(FOREIGN) + REST + b"".join(FOREIGN) + BODY))
    assert stripped.content == REST + BODY and len(fields) == 2 * len(FOREIGN)


def test_a_message_without_such_fields_is_the_same() -> None:
    for message in (
        Message(REST + BODY),
        Message(b"Hi.\r\n\r\nX-Spam: No\r\n"),
        Message(b"\r\nX-Spam: No\r\n"),
        Message(b""),
    ):
        assert strip_spam_fields(message) == (message, ())


@given(st.lists(st.sampled_from([*FOREIGN, *REST.splitlines(keepends=True)]), max_size=12))
def test_what_is_left_is_what_there_was_without_them(lines: list[bytes]) -> None:
    message = Message(b"From: a@b.example\r\n" + b"".join(lines) + BODY)
    stripped, _ = strip_spam_fields(message)
    kept = [line for line in lines if line not in FOREIGN]
    assert stripped.content == b"From: a@b.example\r\n" + b"".join(kept) + BODY
    assert stripped.fields == Message(stripped.content).fields


@pytest.mark.parametrize(
    ("score", "is_spam", "fields"),
    [
        (7.314, True, b"X-Spam: Yes\r\nX-Spam-Score: 7.31\r\n"),
        (0.0, False, b"X-Spam-Score: 0.00\r\n"),
        (-0.004, False, b"X-Spam-Score: 0.00\r\n"),
        (None, True, b"X-Spam: Yes\r\n"),
        (None, False, b""),
    ],
)
def test_our_fields(score: float | None, is_spam: bool, fields: bytes) -> None:
    assert spam_fields(score, is_spam=is_spam) == fields
