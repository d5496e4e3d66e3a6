"""MTA-STS policies: what is one, and which mail hosts it allows."""

from __future__ import annotations

import pytest

from relay.transport_security.mta_sts_policy import BadPolicy, Policy, parse, parse_off_loop

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
        ("*.Backup.test", "*.*.test"),
        ("*.Backup.test", "**.test"),
        ("*.Backup.test", ""),
        ("max_age: 604800", "max_age: 01234567890"),
        ("max_age: 604800", "max_age: \x00604800"),
        (GOOD, ""),
    ],
)
def test_what_is_none(old: str, new: str) -> None:
    with pytest.raises(BadPolicy):
        parse(GOOD.replace(old, new))


@pytest.mark.parametrize("max_age", [0, 1, 31557600])
def test_how_long_it_holds(max_age: int) -> None:
    assert parse(GOOD.replace("604800", str(max_age))).max_age == max_age


def test_hosts_in_u_labels() -> None:
    policy = parse("version: STSv1\nmode: testing\nmx: *.Bücher.example\nmax_age: 1\n")
    assert policy.patterns == ("*.xn--bcher-kva.example",) and policy.allows("mx.xn--bcher-kva.example")


async def test_a_long_policy_is_read_as_well() -> None:
    hosts = "".join(f"mx: mx{n}.fwd.example\n" for n in range(1000))
    policy = await parse_off_loop(f"version: STSv1\nmode: enforce\n{hosts}max_age: 1\n")
    assert policy.allows("mx999.fwd.example") and not policy.allows("mx1000.fwd.example")


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
