"""The file of an access table: its lines, the order in which they are tried, and those that cannot be used."""

from __future__ import annotations

import textwrap
import time

import pytest
from structlog.testing import capture_logs

from relay.access.access_file import AccessTable, Match, parse_access


def table(text: str) -> AccessTable:
    with capture_logs():
        return parse_access(textwrap.dedent(text), "access")


def shown(match: Match | None) -> str:
    """The action and the key of a match; for a refusal its text."""
    if match is None:
        return ""
    reply = match.action.reply
    return f"{match.action.verb if reply is None else reply.text} {match.key}"


def test_the_form_of_the_file() -> None:
    read = table(
        """\
        # clients
        192.0.2.1   REJECT one
          # a comment in between

           and the same
        192.0.2.2\tREJECT\ttwo
        "a b"@x.example REJECT three
        """
    )
    assert shown(read.client("192.0.2.1", "")) == "one and the same 192.0.2.1"
    assert shown(read.client("192.0.2.2", "")) == "two 192.0.2.2"
    assert shown(read.address('"a b"@x.example')) == 'three "a b"@x.example'
    assert not read.bad.lines


def test_a_file_from_windows_and_an_empty_one() -> None:
    assert shown(table("192.0.2.1 REJECT one\r\n  two\r\n").client("192.0.2.1", "")) == "one two 192.0.2.1"
    assert table("# nothing\n").client("192.0.2.1", "x.example") is None


CLIENTS = """\
192.0.2.0/24        REJECT net
192.0.2.128/25      REJECT half
192.0.2.129         OK
192.0               REJECT prefix
2001:db8::/32       REJECT six
2001:db8:7          OK
mail.good.example   OK
good.example        REJECT domain
.good.example       REJECT below
dunno.example       DUNNO
/^pool-/            REJECT pattern
/^198\\.51\\.100\\./   REJECT numbers
!/./                REJECT never
"""


@pytest.mark.parametrize(
    ("ip", "name", "expected"),
    [
        ("192.0.2.1", "", "net 192.0.2.0/24"),
        ("192.0.2.130", "", "half 192.0.2.128/25"),
        ("192.0.2.129", "", "OK 192.0.2.129"),
        ("192.0.3.1", "", "prefix 192.0"),
        ("192.1.0.1", "", ""),
        ("2001:db8:1::1", "", "six 2001:db8::/32"),
        ("2001:db8:7:1::1", "", "OK 2001:db8:7"),
        ("192.0.2.1", "mail.good.example", "OK mail.good.example"),
        ("192.0.2.1", "good.example", "domain good.example"),
        ("192.0.2.1", "x.mail.good.example", "OK mail.good.example"),
        ("192.0.2.1", "x.good.example", "below .good.example"),
        ("192.0.2.1", "notgood.example", "net 192.0.2.0/24"),
        ("192.0.2.1", "x.dunno.example", "DUNNO dunno.example"),
        ("192.0.2.129", "pool-1.isp.example", "OK 192.0.2.129"),
        ("203.0.113.1", "pool-1.isp.example", "pattern /^pool-/"),
        ("203.0.113.1", "x.pool-1.isp.example", ""),
        ("198.51.100.9", "a.isp.example", "numbers /^198\\.51\\.100\\./"),
    ],
)
def test_the_order_for_clients(ip: str, name: str, expected: str) -> None:
    """The name goes before the address, the longer before the shorter, and all of them before patterns."""
    assert shown(table(CLIENTS).client(ip, name)) == expected


SENDERS = """\
joe+list@x.example   REJECT detail
joe@x.example        REJECT address
x.example            REJECT domain
y.example            REJECT domain
.y.example           OK
root@                REJECT user
<>                   REJECT null
192.0.2.0/24         REJECT a client
/\\.TOP$/             REJECT any case
/^exact@/i           REJECT lower case
!/@.*\\./             REJECT no dot
"""


@pytest.mark.parametrize(
    ("sender", "expected"),
    [
        ("Joe+List@X.example", "detail joe+list@x.example"),
        ("joe+other@x.example", "address joe@x.example"),
        ("ann@x.example", "domain x.example"),
        ("ann@a.x.example", "domain x.example"),
        ("ann@y.example", "domain y.example"),
        ("ann@a.y.example", "OK .y.example"),
        ("root@elsewhere.example", "user root@"),
        ("root+cron@elsewhere.example", "user root@"),
        ("", "null <>"),
        ("ann@elsewhere.top", "any case /\\.TOP$/"),
        ("Exact@elsewhere.example", "lower case /^exact@/i"),
        ("other@elsewhere.example", ""),
        ("ann@localhost", "no dot !/@.*\\./"),
        ("ann@notx.example", ""),
    ],
)
def test_the_order_for_addresses(sender: str, expected: str) -> None:
    assert shown(table(SENDERS).address(sender)) == expected


BAD = "a table of access rules here has a bad line, try again later"


def test_a_bad_action_defers_what_its_line_is_for_and_nothing_else() -> None:
    read = table("192.0.2.1 REJEKT\n192.0.2.0/24 OK\nbad.example\n/^spam/ BOUNCE\n*.worse.example REJECT\n")
    assert shown(read.client("192.0.2.1", "")) == f"{BAD} 192.0.2.1"
    assert shown(read.client("192.0.2.2", "")) == "OK 192.0.2.0/24"
    assert shown(read.address("ann@bad.example")) == f"{BAD} bad.example"
    assert shown(read.address("spam@x.example")) == f"{BAD} /^spam/"
    assert shown(read.address("ann@a.worse.example")) == f"{BAD} worse.example"
    assert read.address("ann@x.example") is None
    assert len(read.bad.lines) == 4


@pytest.mark.parametrize("bad", ["192.0.2.0/33", "192.0.2.256", "192.0.2.2-192.0.2.9"])
def test_a_line_that_cannot_be_read_defers_what_no_other_line_decides(bad: str) -> None:
    read = table(f"{bad} REJECT\n192.0.2.1 OK\nx.example OK\n/./ OK\n")
    assert shown(read.client("192.0.2.1", "")) == "OK 192.0.2.1"
    assert shown(read.client("192.0.2.2", "")) == f"{BAD} a line that cannot be read"
    assert shown(read.address("ann@x.example")) == "OK x.example"
    assert shown(read.address("ann@y.example")) == f"{BAD} a line that cannot be read"


@pytest.mark.parametrize(
    "bad", ["/a(/ REJECT", "/a REJECT", "if /x/", "endif", "/a/q REJECT", "!x/ REJECT", "/a)(b/ OK"]
)
def test_a_bad_pattern_defers_what_no_line_before_it_decides(bad: str) -> None:
    read = table(f"x.example OK\n/^early/ OK\n{bad}\n/^late/ OK\n")
    assert shown(read.address("ann@x.example")) == "OK x.example"
    assert shown(read.address("early@y.example")) == "OK /^early/"
    assert shown(read.address("late@y.example")) == f"{BAD} a line that cannot be read"
    assert len(read.bad.lines) == 1


def test_an_indented_line_that_continues_nothing() -> None:
    read = table("  192.0.2.1 REJECT\nx.example OK\n")
    assert shown(read.client("192.0.2.1", "")) == f"{BAD} 192.0.2.1"
    assert read.client("192.0.2.2", "") is None


def test_the_first_of_two_lines_with_one_key_counts() -> None:
    with capture_logs() as logs:
        read = parse_access("x.example OK\nX.example REJECT\n192.0.2 OK\n192.0.2.0/24 REJECT\n192.0.2 OK\n", "access")
    assert shown(read.address("ann@x.example")) == "OK x.example"
    assert shown(read.client("192.0.2.1", "")) == "OK 192.0.2"
    assert [(line["at"], line["effect"]) for line in logs] == [
        ("access:2", "the line above counts"),
        ("access:4", "the line above counts"),
    ]


def test_a_file_without_a_good_line_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"^access:2: RELAY is none of our actions"):
        parse_access("# all\n192.0.2.1 RELAY\n", "access")


def test_names_are_only_asked_for_where_a_line_may_be_for_one() -> None:
    assert not table("192.0.2.1 OK\nann@x.example OK\n<> OK\nroot@ OK\n2001:db8::/32 OK\n").asks_for_names
    assert table("x.example OK\n").asks_for_names
    assert table("/x/ OK\n").asks_for_names


def test_groups_of_a_pattern_stand_in_the_text() -> None:
    read = table(
        "/^(.*)@(.*)\\.bad$/ REJECT 5.1.8 $2 is no ${1}$$\n/^x@/ REJECT $1\n!/(@)/ REJECT $1\n/^(a)?b@/ HOLD $1.\n"
    )
    match = read.address("ann@x.bad")
    assert match is not None and str(match.action.reply) == "550 5.1.8 x is no ann$"
    assert shown(read.address("x@y.example")) == f"{BAD} /^x@/"
    held = read.address("b@y.example")
    assert held is not None and held.action.text == "."
    assert [line.problem for line in read.bad.lines] == ["$1: the pattern has 0 groups"] * 2


def test_no_sender_can_make_a_pattern_take_long() -> None:
    """Python's own expressions take a second for twenty-five letters here, and twice that for each more."""
    read = table("/^([a-z0-9]+[-.]?)+@x/ REJECT\n/.*a.*a.*a.*a.*@y/ REJECT\n")
    started = time.process_time()
    assert read.address("a" * 640 + "@" + "b." * 120 + "example") is None
    assert time.process_time() - started < 0.1
