"""What of an AUTH command may stand in the log."""

from __future__ import annotations

import pytest

from relay.receive.sasl_mechanism import sasl_mechanism


@pytest.mark.parametrize(
    ("argument", "shown"),
    [
        ("PLAIN AGpvZQBodW50ZXIy", "PLAIN"),
        ("login", "LOGIN"),
        ("PLAIN\thunter2", "PLAIN"),
        ("CRAM-MD5", "CRAM-MD5"),
        ("Scram-Sha-256 biws", "SCRAM-SHA-256"),
        ("AGpvZQBodW50ZXIy", "unknown"),
        ("hunter2", "unknown"),
        ("PLAIN=AGpvZQBodW50ZXIy", "unknown"),
        ("", "unknown"),
    ],
)
def test_it_is_the_name_of_a_mechanism_and_nothing_else(argument: str, shown: str) -> None:
    assert sasl_mechanism(argument) == shown
