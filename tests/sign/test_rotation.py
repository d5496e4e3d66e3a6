"""The names of new keys, and how long a record is kept."""

from __future__ import annotations

from dataclasses import replace

import pytest

from relay.sign.keys import SigningKey, generate, parse
from relay.sign.rotation import kind_after, next_selector, record_needed_until
from tests import corpus


@pytest.mark.parametrize(
    ("taken", "name"),
    [
        ([], "relay1"),
        (["relay1"], "relay2"),
        (["relay9", "relay10"], "relay11"),
        (["relay3", "relay1"], "relay4"),
        (["mail"], "mail2"),
        (["mail", "mail2"], "mail3"),
        (["20260101", "relay1"], "20260102"),
        (["7"], "8"),
    ],
)
def test_a_new_selector_has_the_next_number(taken: list[str], name: str) -> None:
    assert next_selector(taken) == name


def test_a_record_outlives_its_key_by_the_queues_patience_and_a_week() -> None:
    assert record_needed_until(replace(corpus.RSA, active_until=1000.0), 5 * 86400.0) == 1000.0 + 12 * 86400.0


def test_what_follows_a_key_is_of_its_kind_and_no_shorter_than_2048_bits() -> None:
    large = SigningKey("x.example", "s", parse(generate("rsa4096")))
    assert [kind_after(key) for key in (corpus.RSA, corpus.ED25519, large)] == ["rsa2048", "ed25519", "rsa4096"]
