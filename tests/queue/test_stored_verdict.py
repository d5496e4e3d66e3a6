"""What the queue keeps of an examination: its JSON is read by operators and by newer versions."""

from __future__ import annotations

import json
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.queue.stored_verdict import OWN_MESSAGE, NextSeal, StoredVerdict

VALIDATION: list[Literal["none", "pass"]] = ["none", "pass"]
SEALS = st.none() | st.builds(
    NextSeal, cv=st.sampled_from(VALIDATION), instance=st.integers(1, 50), useful=st.booleans()
)
VERDICTS = st.builds(
    StoredVerdict,
    trusted=st.booleans(),
    spf=st.sampled_from(["", "none", "pass", "fail", "softfail", "neutral", "temperror", "permerror"]),
    dmarc=st.sampled_from(["", "none", "pass", "fail", "temperror", "permerror"]),
    aligned=st.sampled_from([(), ("spf",), ("dkim",), ("spf", "dkim")]),
    sender_signed=st.booleans(),
    unforwardable=st.booleans(),
    authors=st.lists(st.text(max_size=20), max_size=3).map(tuple),
    seal=SEALS,
)


@given(VERDICTS)
def test_what_is_stored_comes_back(verdict: StoredVerdict) -> None:
    assert StoredVerdict.from_json(json.loads(json.dumps(verdict.to_json()))) == verdict


def test_the_keys_are_those_that_queue_show_prints() -> None:
    verdict = StoredVerdict(
        trusted=True,
        spf="pass",
        dmarc="fail",
        aligned=("spf", "dkim"),
        sender_signed=True,
        unforwardable=True,
        authors=("a.test", "b.test"),
        seal=NextSeal("pass", 3),
    )
    assert verdict.to_json() == {
        "trusted": True,
        "spf": "pass",
        "dmarc": "fail",
        "aligned": ["spf", "dkim"],
        "sender_aligned": True,
        "unforwardable": True,
        "authors": ["a.test", "b.test"],
        "seal": {"cv": "pass", "instance": 3, "useful": True},
    }
    assert StoredVerdict().to_json() == {
        "trusted": False,
        "spf": "",
        "dmarc": "",
        "aligned": [],
        "sender_aligned": False,
        "unforwardable": False,
        "authors": [],
        "seal": None,
    }


def test_a_message_of_ours_is_stored_as_trusted_and_ours() -> None:
    assert OWN_MESSAGE.to_json() == {"trusted": True, "ours": True}
    assert StoredVerdict.from_json(OWN_MESSAGE.to_json()) == OWN_MESSAGE
    assert OWN_MESSAGE.sender_proven and OWN_MESSAGE.author_proven


FULL = StoredVerdict(
    trusted=True,
    spf="pass",
    dmarc="pass",
    aligned=("spf",),
    sender_signed=True,
    unforwardable=True,
    authors=("a.test",),
    seal=NextSeal("none", 1),
)


@pytest.mark.parametrize("key", list(FULL.to_json()))
def test_a_key_that_is_missing_proves_nothing(key: str) -> None:
    stored = FULL.to_json()
    del stored[key]
    read, empty = StoredVerdict.from_json(stored), StoredVerdict().to_json()
    assert read.to_json() == {**stored, key: empty[key]}
    assert not read.own


def test_a_seal_of_an_older_version_counts_as_useful_and_ours_can_be_read_by_it() -> None:
    older = {"seal": {"cv": "pass", "instance": 2}}
    assert StoredVerdict.from_json(older).seal == NextSeal("pass", 2, useful=True)
    ours = StoredVerdict(seal=NextSeal("pass", 2, useful=False)).to_json()
    assert (ours["seal"]["cv"], ours["seal"]["instance"]) == ("pass", 2)


def test_an_empty_entry_proves_nothing_at_all() -> None:
    verdict = StoredVerdict.from_json({})
    assert verdict == StoredVerdict()
    assert not (verdict.sender_allowed or verdict.sender_proven or verdict.author_proven)


@pytest.mark.parametrize(
    ("given", "allowed", "proven", "author"),
    [
        ({"trusted": True}, True, True, True),
        ({"spf": "pass"}, True, True, False),
        ({"spf": "softfail"}, False, False, False),
        ({"sender_signed": True}, False, True, False),
        ({"dmarc": "pass", "aligned": ("dkim",)}, False, False, False),
        ({"authors": ("a.test",)}, False, False, True),
    ],
)
def test_what_proves_the_sender_and_the_author(
    given: dict[str, Any], allowed: bool, proven: bool, author: bool
) -> None:
    verdict = StoredVerdict(**given)
    assert (verdict.sender_allowed, verdict.sender_proven, verdict.author_proven) == (allowed, proven, author)
