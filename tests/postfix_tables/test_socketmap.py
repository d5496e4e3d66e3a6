"""The socketmap protocol: requests in pieces of any size, what is no request, and replies in netstrings."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.postfix_tables.request import KEPT_OCTETS, REQUEST_OCTETS, Answer, BadRequest, Request
from relay.postfix_tables.socketmap import Socketmap


def netstring(content: bytes) -> bytes:
    return b"%d:%s," % (len(content), content)


def fed(*pieces: bytes, dialect: Socketmap | None = None) -> list[Request | BadRequest]:
    dialect = dialect or Socketmap()
    return [request for piece in pieces for request in dialect.feed(piece)]


def test_a_request_names_its_map() -> None:
    assert fed(b"18:forward joe@a.test,23:reverse SRS0=a@fwd.test,") == [
        Request("forward", b"joe@a.test"),
        Request("reverse", b"SRS0=a@fwd.test"),
    ]


def test_a_key_may_be_empty_and_may_hold_anything() -> None:
    for key in (b"", b" ", b"a b", b",", b"1:a,", b"\0\xff\n"):
        assert fed(netstring(b"forward " + key)) == [Request("forward", key)]


@pytest.mark.parametrize("content", [b"", b"forward", b"joe@a.test", b"Forward joe@a.test", b"other joe@a.test"])
def test_what_is_no_lookup_is_refused_and_the_next_request_is_read(content: bytes) -> None:
    first, second = fed(netstring(content) + netstring(b"forward joe@a.test"))
    assert isinstance(first, BadRequest) and not first.final
    assert second == Request("forward", b"joe@a.test")


@pytest.mark.parametrize(
    "octets",
    [
        b"get joe@a.test\n",
        b":forward a,",
        b"-1:a,",
        b"+9:forward a,",
        b" 9:forward a,",
        b"9 :forward a,",
        b"9.0:forward a,",
        "९:forward a,".encode(),
        b"9:forward a;",
        b"8:forward a,",
        b"100001:",
        b"100001",
        b"18446744073709551616:some data",
        b"0000000000",
        b"9" * 100_000,
    ],
)
def test_what_is_no_netstring_ends_the_connection(octets: bytes) -> None:
    for pieces in ([octets], [octets[i : i + 1] for i in range(min(len(octets), 50))]):
        found: list[Request | BadRequest] = []
        dialect = Socketmap()
        for piece in pieces:
            found += dialect.feed(piece)
            if found:
                break
        [bad] = found
        assert isinstance(bad, BadRequest) and bad.final
        assert dialect.refusal(bad).partition(b":")[2].startswith(b"PERM ")


def test_a_table_of_one_direction_has_one_map() -> None:
    request, bad = fed(netstring(b"reverse a") + netstring(b"forward a"), dialect=Socketmap("reverse"))
    assert request == Request("reverse", b"a")
    assert isinstance(bad, BadRequest) and not bad.final


@pytest.mark.parametrize("length", [KEPT_OCTETS, KEPT_OCTETS + 1, REQUEST_OCTETS])
def test_of_a_long_request_the_beginning_is_kept(length: int) -> None:
    dialect = Socketmap()
    octets = netstring(b"forward " + b"a" * (length - 8)) + netstring(b"reverse b")
    last = len(octets) - len(b",9:reverse b,")
    for start in range(0, last, 1000):
        assert list(dialect.feed(octets[start : min(start + 1000, last)])) == []
        assert len(dialect._content) <= KEPT_OCTETS
    long, short = dialect.feed(octets[last:])
    assert long == Request("forward", b"a" * (min(length, KEPT_OCTETS) - 8))
    assert short == Request("reverse", b"b")
    assert not dialect.begun


@given(
    st.lists(st.binary(max_size=40)),
    st.lists(st.integers(1, 60)),
    st.sampled_from([b"forward ", b"reverse ", b"x", b""]),
)
def test_pieces_of_any_size_make_the_same_requests(keys: list[bytes], cuts: list[int], name: bytes) -> None:
    octets = b"".join(netstring(name + key) for key in keys)
    assert fed(*cut(octets, cuts)) == fed(octets)
    assert len(fed(octets)) == len(keys)


@given(st.binary(max_size=200), st.lists(st.integers(1, 60)))
def test_arbitrary_octets_make_requests_or_end_the_connection(octets: bytes, cuts: list[int]) -> None:
    dialect = Socketmap()
    for piece in cut(octets, cuts):
        for request in dialect.feed(piece):
            if isinstance(request, BadRequest) and request.final:
                return
            assert isinstance(request, Request | BadRequest)
    assert len(dialect._content) + len(dialect._digits) <= len(octets)


def cut(octets: bytes, cuts: Sequence[int]) -> list[bytes]:
    pieces = []
    for length in cuts:
        pieces.append(octets[:length])
        octets = octets[length:]
    return [*pieces, octets]


@pytest.mark.parametrize(
    ("answer", "reply"),
    [
        (Answer("ok", "SRS0=a@fwd.test"), b"18:OK SRS0=a@fwd.test,"),
        (Answer("ok", "jörg@a.test"), "15:OK jörg@a.test,".encode()),
        (Answer("notfound"), b"9:NOTFOUND ,"),
        (Answer("forged", problem="forged SRS address"), b"9:NOTFOUND ,"),
        (Answer("expired", problem="x"), b"9:NOTFOUND ,"),
        (Answer("malformed", problem="x"), b"9:NOTFOUND ,"),
        (Answer("too-long", problem="x"), b"9:NOTFOUND ,"),
        (Answer("unavailable", problem="later"), b"10:TEMP later,"),
    ],
)
def test_only_what_may_be_asked_again_is_an_error(answer: Answer, reply: bytes) -> None:
    assert Socketmap().answer(answer) == reply


def test_a_request_has_begun_with_its_first_octet() -> None:
    dialect = Socketmap()
    begun = [(list(dialect.feed(octet)), dialect.begun)[1] for octet in (b"9", b":", b"forward ", b"a", b",")]
    assert begun == [True, True, True, True, False]
