"""The counts of a `disconnect` line."""

from __future__ import annotations

from relay.receive.command_counts import UNKNOWN, CommandCounts


def test_they_have_the_form_and_the_order_that_postfix_uses() -> None:
    counts = CommandCounts()
    for verb, good in [
        ("QUIT", True),
        ("RCPT", False),
        ("RCPT", True),
        ("MAIL", True),
        ("EHLO", True),
        (UNKNOWN, False),
    ]:
        counts.came(verb)
        if good:
            counts.was_good()
    assert list(counts.fields().items()) == [
        ("ehlo", "1"),
        ("mail", "1"),
        ("rcpt", "1/2"),
        ("quit", "1"),
        ("unknown", "0/1"),
        ("commands", "4/6"),
    ]


def test_a_client_that_says_nothing_has_no_commands() -> None:
    assert CommandCounts().fields() == {"commands": "0/0"}  # as Postfix


def test_what_is_no_command_has_one_name() -> None:
    counts, names = CommandCounts(), []
    for verb in ("MAIL", "AUTH", "HUNTER2", "", "id", "TURN"):
        counts.came(verb)
        names.append(counts.last)
    assert names == ["MAIL", "AUTH", UNKNOWN, UNKNOWN, UNKNOWN, UNKNOWN]
