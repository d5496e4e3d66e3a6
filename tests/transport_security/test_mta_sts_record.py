"""The TXT record of MTA-STS: what counts as one, and its id."""

from __future__ import annotations

import pytest

from relay.transport_security.mta_sts_record import BadRecord, policy_id, texts_of


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        (["v=STSv1; id=20160831085700Z;"], "20160831085700Z"),
        (["v=STSv1;id=a"], "a"),
        (["v=STSv1; \t id=20160831085700Z  \t; "], "20160831085700Z"),
        (["v=STSv1; id=" + "a" * 32], "a" * 32),
        (["v=STSv1; id=a; more=a; ext-2=:x!"], "a"),
        (["v=STSv1; ext=b; id=a"], "a"),
        (["v=STSv1; id=a; id=b"], "a"),
        (["v=STSv1; id=a", "v=spf1 -all", "", "id=b; v=STSv1;"], "a"),
        (["v=STSv1; id=a", "v=STSv2; id=b", "v=STSv10; id=b"], "a"),
        ([], ""),
        (["v=spf1 -all"], ""),
        (["v=STSv1 ; id=a"], ""),
        (["v=stsv1; id=a"], ""),
        ([" v=STSv1; id=a"], ""),
        (["v=STSv1"], ""),
    ],
)
def test_records(texts: list[str], expected: str) -> None:
    assert policy_id(texts) == expected


@pytest.mark.parametrize(
    "texts",
    [
        ["v=STSv1; id=1", "v=STSv1; id=2"],
        ["v=STSv1; id=1", "v=STSv1; id=1"],
        ["v=STSv1; id=1", "v=STSv1; rubbish"],
        ["v=STSv1;"],
        ["v=STSv1; ext=1"],
        ["v=STSv1; id="],
        ["v=STSv1; ID=1"],
        ["v=STSv1; id = 1"],
        ["v=STSv1; id=" + "a" * 33],
        ["v=STSv1; id=test-123"],
        ["v=STSv1; id=ä"],
        ["v=STSv1; id=a;;"],
        ["v=STSv1; id=a; " + "x" * 33 + "=1"],
        ["v=STSv1; id=a; 1%=a"],
        ["v=STSv1; rubbish"],
    ],
)
def test_records_that_do_not_count(texts: list[str]) -> None:
    with pytest.raises(BadRecord) as bad:
        policy_id(texts)
    assert str(bad.value).isascii() and len(str(bad.value)) < 200


def test_strings_of_a_record_are_joined() -> None:
    assert texts_of([(b"v=STSv1; i", b"d=20", b"26"), (b"\xff",)]) == ["v=STSv1; id=2026", "\xff"]
