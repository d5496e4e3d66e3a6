"""How a key is shown at each moment of its life; `test_keys` has the commands."""

from __future__ import annotations

import math
from typing import Any

import pytest

from relay.cli import keys_view
from relay.sign import keys
from relay.sign.keys import SigningKey
from relay.sign.signing_table import AUTHORS_DOMAIN
from tests import corpus

NOW, DAY, RETRY_FOR = 1_800_000_000.0, 86400.0, 5 * 86400.0


def key(domain: str = "fwd.example", **times: float) -> SigningKey:
    return SigningKey(domain, "relay1", keys.parse(corpus.RSA_PEM), **times)


@pytest.mark.parametrize(
    ("times", "comment"),
    [
        ({}, "; In use.\n"),
        (
            {"active_from": NOW + DAY},
            "; To be published now: the key signs from 2027-01-16 08:00 UTC on.\n",
        ),
        (
            {"active_until": NOW + DAY},
            "; In use. The key signs until 2027-01-16 08:00 UTC, the record has to stay until 2027-01-28 08:00 UTC.\n",
        ),
        (
            {"active_until": NOW - DAY},
            "; Not in use any more. The key signs until 2027-01-14 08:00 UTC, "
            "the record has to stay until 2027-01-26 08:00 UTC.\n",
        ),
        (
            {"active_until": NOW - 30 * DAY},
            "; relay1._domainkey.fwd.example may go: its key is retired since 2026-12-16 08:00 UTC.",
        ),
    ],
)
def test_a_record_says_what_it_is_for(times: dict[str, Any], comment: str) -> None:
    entry = keys_view.zone_entry(key(**times), NOW, RETRY_FOR)
    assert entry.startswith(comment)
    assert ("\nrelay1._domainkey.fwd.example. " in entry) is comment.endswith("\n")
    assert keys_view.record(key(**times), NOW, RETRY_FOR)["needed"] is comment.endswith("\n")


def test_the_record_of_a_key_for_all_authors_is_theirs_to_publish() -> None:
    lines = keys_view.zone_entry(key(AUTHORS_DOMAIN), NOW, RETRY_FOR).splitlines()
    assert "in the domain of each author" in lines[0]
    assert all(line.startswith(";") for line in lines)


def test_a_key_for_ever_has_no_end() -> None:
    record = keys_view.record(key(), NOW, RETRY_FOR)
    assert (record["needed"], record["needed_until"]) == (True, None)
    assert keys_view.date(1e15) == "9999-12-31 23:59 UTC"
    assert keys_view.record(key(active_until=math.inf), NOW, RETRY_FOR)["needed_until"] is None


ROW: dict[str, Any] = {
    "record": "relay1._domainkey.fwd.example",
    "algorithm": "rsa-sha256",
    "bits": 2048,
    "state": "active",
    "active_from": None,
    "active_until": None,
    "signs": [],
    "everyone_else": False,
    "arc": False,
    "dns": "published",
    "problem": "",
}


@pytest.mark.parametrize(
    ("changes", "shown"),
    [
        ({}, ["rsa-sha256, 2048 bits; active; DNS: published", "signs nothing"]),
        ({"signs": ["a.example", "b.example"], "everyone_else": True}, ["signs a.example, b.example, everyone else"]),
        ({"everyone_else": True, "arc": True}, ["signs everyone else; seals ARC"]),
        ({"dns": None}, ["DNS: not asked"]),
        ({"dns": "different", "problem": "two\x1b records"}, [r"DNS: different (two\x1b records)"]),
        ({"active_from": "A", "active_until": "B", "state": "waiting"}, ["; waiting from A until B;"]),
    ],
)
def test_a_key_takes_three_lines_for_a_person(changes: dict[str, Any], shown: list[str]) -> None:
    text = keys_view.lines(ROW | changes)
    assert text.startswith("relay1._domainkey.fwd.example\n  ") and text.count("\n") == 2
    assert all(part in text for part in shown)
