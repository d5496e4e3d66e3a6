"""A reply is one printable line, whatever text it is made of."""

from __future__ import annotations

import pytest

from relay.mail.reply import Refused, Reply, printable


@pytest.mark.parametrize(
    ("reply", "line", "positive", "permanent"),
    [
        (Reply(250, "2.0.0", "Ok"), "250 2.0.0 Ok", True, False),
        (Reply(354, "", "End data"), "354 End data", True, False),
        (Reply(451, "4.3.0", "later"), "451 4.3.0 later", False, False),
        (Reply(550, "5.1.1", "no such user"), "550 5.1.1 no such user", False, True),
    ],
)
def test_a_reply_and_its_class(reply: Reply, line: str, positive: bool, permanent: bool) -> None:
    assert str(reply) == line
    assert (reply.positive, reply.permanent) == (positive, permanent)


def test_a_refusal_cannot_break_the_line() -> None:
    refused = Refused(550, "5.7.1", "no: a\r\n250 Ok\x00\u202e \u00e9")
    assert str(refused.reply) == str(refused) == "550 5.7.1 no: a??250 Ok?? ?"


def test_text_from_elsewhere_is_cut() -> None:
    assert len(printable("x" * 1000)) == 400
    assert printable("x" * 1000, 7) == "x" * 7
