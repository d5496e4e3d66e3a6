"""The words of a bounce: each class of enhanced status code has its own, and none is left without."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.bounce.reasons import reason, span


@pytest.mark.parametrize("status", ["5.1.1", "5.1.10", "4.4.4"])
def test_an_alias_is_there_whatever_becomes_of_the_mailbox_behind_it(status: str) -> None:
    assert "mailbox behind the address" in reason(status, aliased=True).cause
    assert reason("5.7.1", aliased=True) == reason("5.7.1")


@pytest.mark.parametrize(
    ("status", "words"),
    [
        ("5.1.1", "address does not exist"),
        ("5.1.10", "domain of the address"),
        ("4.4.4", "domain of the address"),
        ("5.1.8", "your own address"),
        ("5.2.1", "switched off"),
        ("4.2.2", "full"),
        ("5.3.4", "larger"),
        ("4.3.2", "problem of its own"),
        ("4.4.1", "could not be reached"),
        ("5.4.6", "circle"),
        ("5.5.2", "did not understand"),
        ("5.6.7", "ASCII"),
        ("5.6.0", "this form"),
        ("5.7.26", "its own rules"),
        ("5.7.30", "encryption all the way"),
        ("5.7.10", "encryption all the way"),
        ("4.7.5", "as safe as it has to be"),
        ("5.0.0", "no particular reason"),
        ("5.9.9", "no particular reason"),
    ],
)
def test_the_cause_fits_the_code(status: str, words: str) -> None:
    assert words in reason(status).cause


@given(st.from_regex(r"[45]\.\d{1,3}\.\d{1,3}", fullmatch=True))
def test_every_code_has_one_sentence_of_each(status: str) -> None:
    cause, remedy = reason(status)
    assert cause.endswith(".") and cause.count(". ") == 0
    assert remedy.endswith(".")


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(5, "a moment"), (60, "1 minute"), (1200, "20 minutes"), (3600, "1 hour"), (86399, "1 day"), (432000, "5 days")],
)
def test_span(seconds: float, said: str) -> None:
    assert span(seconds) == said
