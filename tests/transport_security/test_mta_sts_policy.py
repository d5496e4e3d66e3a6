"""MTA-STS policies: what is one, and which mail hosts it allows."""

from __future__ import annotations

import pytest

from relay.transport_security.mta_sts_policy import BadPolicy, Policy, is_policy_id, parse

GOOD = "version: STSv1\r\nmode: enforce\r\nmx: mx.fwd.example\r\nmx: *.Backup.test\r\nmax_age: 604800\r\n"


@pytest.mark.parametrize(
    "text", [GOOD, GOOD.replace("\r\n", "\n"), GOOD + "future: yes\n\n", GOOD + "mode: none\n", GOOD.replace(": ", ":")]
)
def test_a_policy_is_read(text: str) -> None:
    assert parse(text) == Policy("enforce", 604800, ("mx.fwd.example", "*.backup.test"))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("version: STSv1\r\n", ""),
        ("STSv1", "STSv2"),
        ("enforce", "on"),
        ("mode: enforce\r\n", ""),
        ("604800", "week"),
        ("604800", "31557601"),
        ("604800", "-1"),
        ("max_age: 604800\r\n", ""),
        ("mx: mx.fwd.example\r\nmx: *.Backup.test\r\n", ""),
        ("*.Backup.test", "b*.test"),
        ("mode: enforce", "<html>"),
        (GOOD, ""),
    ],
)
def test_what_is_none(old: str, new: str) -> None:
    with pytest.raises(BadPolicy):
        parse(GOOD.replace(old, new))


def test_a_policy_that_takes_itself_back_needs_no_hosts() -> None:
    assert parse("version: STSv1\nmode: none\nmax_age: 86400").mode == "none"


@pytest.mark.parametrize(
    ("host", "allowed"),
    [
        ("mx.fwd.example", True),
        ("a.backup.test", True),
        ("a.b.backup.test", False),
        ("backup.test", False),
        ("other.fwd.example", False),
    ],
)
def test_which_hosts_it_allows(host: str, allowed: bool) -> None:
    assert parse(GOOD).allows(host) == allowed


def test_ids() -> None:
    assert [is_policy_id(text) for text in ("20261130T1", "a" * 32, "", "a" * 33, "1-2")] == [
        True,
        True,
        False,
        False,
        False,
    ]
