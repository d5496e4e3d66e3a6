"""The tcp_table protocol: lines, percent encoding, and codes."""

from __future__ import annotations

from urllib.parse import quote_from_bytes

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.postfix_tables.request import KEPT_OCTETS, REQUEST_OCTETS, Answer, BadRequest, Request
from relay.postfix_tables.tcp_table import REPLY_OCTETS, TcpTable
from tests.postfix_tables.test_socketmap import cut


def fed(*pieces: bytes) -> list[Request | BadRequest]:
    dialect = TcpTable("forward")
    return [request for piece in pieces for request in dialect.feed(piece)]


def test_a_table_has_one_map() -> None:
    assert fed(b"get joe@a.test\n") == [Request("forward", b"joe@a.test")]
    assert list(TcpTable("reverse").feed(b"get joe@a.test\n")) == [Request("reverse", b"joe@a.test")]


@pytest.mark.parametrize(
    ("line", "key"),
    [
        (b"get \n", b""),
        (b"get a\r\n", b"a"),
        (b"GET a\n", b"a"),
        (b"get a%40b\n", b"a@b"),
        (b"get %22joe%20x%22@a\n", b'"joe x"@a'),
        (b'get "joe x"@a\n', b'"joe x"@a'),
        (b"get j%c3%B6rg\n", "jörg".encode()),
        (b"get %25%0a%00\n", b"%\n\0"),
        (b"get a+b\n", b"a+b"),
        (b"get %2525\n", b"%25"),
    ],
)
def test_a_key_is_decoded_once(line: bytes, key: bytes) -> None:
    assert fed(line) == [Request("forward", key)]


@pytest.mark.parametrize(
    "line", [b"", b"get", b"put a b", b"a@b.test", b"getx a", b" get a", b"get %", b"get a%4", b"get %zz"]
)
def test_what_is_no_lookup_is_an_error_and_the_next_line_is_read(line: bytes) -> None:
    bad, request = fed(line + b"\nget a\n")
    assert isinstance(bad, BadRequest) and not bad.final
    assert TcpTable("forward").refusal(bad).startswith(b"400 ")
    assert request == Request("forward", b"a")


def test_of_a_long_line_the_beginning_is_kept_and_an_endless_one_ends_the_connection() -> None:
    dialect = TcpTable("forward")
    line = b"get " + b"%61" * 30_000
    for start in range(0, len(line), 999):
        assert list(dialect.feed(line[start : start + 999])) == []
        assert len(dialect._line) <= KEPT_OCTETS
    long, short = dialect.feed(b"\nget a\n")
    assert isinstance(long, Request) and len(long.key) == KEPT_OCTETS - 4
    assert short == Request("forward", b"a")
    found = fed(*[b"get " * 1000] * (REQUEST_OCTETS // 4000 + 1))
    assert isinstance(found[0], BadRequest) and found[0].final


@given(st.lists(st.binary(max_size=40)), st.lists(st.integers(1, 60)))
def test_any_key_is_read_in_pieces_of_any_size(keys: list[bytes], cuts: list[int]) -> None:
    octets = b"".join(b"get " + quote_from_bytes(key).encode() + b"\n" for key in keys)
    assert fed(*cut(octets, cuts)) == [Request("forward", key) for key in keys]


@given(st.binary(max_size=200), st.lists(st.integers(1, 60)))
def test_arbitrary_octets_make_one_request_a_line(octets: bytes, cuts: list[int]) -> None:
    assert len(fed(*cut(octets, cuts))) == octets.count(b"\n")


@pytest.mark.parametrize(
    ("answer", "reply"),
    [
        (Answer("ok", "SRS0=a+/b@fwd.test"), b"200 SRS0=a+/b@fwd.test\n"),
        (Answer("ok", '"joe x"@a.test'), b'200 "joe%20x"@a.test\n'),
        (Answer("ok", "100%@a.test"), b"200 100%25@a.test\n"),
        (Answer("ok", "jörg@a.test"), b"200 j%c3%b6rg@a.test\n"),
        (Answer("notfound"), b"500 not found\n"),
        (Answer("forged", problem="forged: 100%\nnot ours"), b"500 forged: 100%25%0anot ours\n"),
        (Answer("expired", problem="x"), b"500 x\n"),
        (Answer("malformed", problem="x"), b"500 x\n"),
        (Answer("too-long", problem="x"), b"500 x\n"),
        (Answer("unavailable", problem="later"), b"400 later\n"),
    ],
)
def test_only_what_may_be_asked_again_is_an_error(answer: Answer, reply: bytes) -> None:
    assert TcpTable("forward").answer(answer) == reply


@given(st.text(max_size=2000))
def test_a_reply_is_one_line_that_is_not_too_long(address: str) -> None:
    try:
        address.encode()
    except UnicodeEncodeError:
        return
    reply = TcpTable("forward").answer(Answer("ok", address))
    assert reply.index(b"\n") == len(reply) - 1 < REPLY_OCTETS
    assert reply.isascii()


def test_a_line_has_begun_with_its_first_octet() -> None:
    dialect = TcpTable("forward")
    begun = [(list(dialect.feed(octets)), dialect.begun)[1] for octets in (b"g", b"et a", b"\n", b"\nge")]
    assert begun == [True, True, False, True]
