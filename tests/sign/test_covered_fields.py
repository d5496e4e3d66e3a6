"""Which fields a signature covers, as values: names for `h=`, fields in the order of verifiers, canonical octets."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.mail.message import HeaderField, Message
from relay.sign.covered_fields import CLOSED, CLOSED_IN_OURS, CoveredFields, covered_fields


def fields(*lines: bytes) -> tuple[HeaderField, ...]:
    return Message(b"".join(line + b"\r\n" for line in lines) + b"\r\n").fields


def covered(*lines: bytes, ours: bool = False) -> CoveredFields:
    found = covered_fields(fields(*lines), ours=ours)
    assert found is not None
    return found


def test_a_closed_name_is_listed_once_more_than_it_occurs() -> None:
    names = covered(b"From: a@a.example", b"Subject: 1", b"Subject: 2", b"Date: d", b"List-Id: l", b"X: x").names
    counts = {name: names.count(name) for name in names}
    assert counts == dict.fromkeys(CLOSED, 1) | {"from": 2, "subject": 3, "date": 2, "list-id": 1}


def test_the_instances_of_a_name_go_from_the_bottom_to_the_top() -> None:
    found = covered(b"Subject: 1", b"From: a@a.example", b"Subject: 2")
    assert [raw for _, raw in found.fields] == [b"From: a@a.example\r\n", b"Subject: 2\r\n", b"Subject: 1\r\n"]


def test_further_names_are_signed_at_the_end_as_often_as_they_occur() -> None:
    found = covered(b"X: 1", b"X: 2", b"From: a@a.example")
    assert "x" not in found.names
    more = found.with_more("x", fields(b"X: 1", b"X:\t 2 ")[::-1])
    assert more.names == (*found.names, "x", "x")
    assert more.header == found.header + b"x:2\r\nx:1\r\n"
    assert found.header == b"from:a@a.example\r\n"


def test_a_further_field_can_make_the_header_simple() -> None:
    found = covered(b"From:  a@a.example")
    more = found.with_more("x", fields(b"X: 1\x0c"))
    assert (found.canonicalization, more.canonicalization) == ("relaxed", "simple")
    assert more.header == b"From:  a@a.example\r\nX: 1\x0c\r\n"


@given(st.lists(st.sampled_from([b" ", b"\t", b"a", b"\x0b", b"\r\n ", b"\r\n\t", b"  "]), max_size=12))
def test_a_value_is_canonical_as_the_rfc_says(pieces: list[bytes]) -> None:
    """RFC 6376 section 3.4.2, with regular expressions."""
    value = b"".join(pieces) + b"b"
    [field] = fields(b"From:" + value + b" \t")
    found = covered_fields((field,))
    assert found is not None
    if found.canonicalization == "relaxed":
        unfolded = field.raw.partition(b":")[2].replace(b"\r\n", b"")
        assert found.header == b"from:" + re.sub(rb"[ \t]+", b" ", unfolded).strip(b" ") + b"\r\n"


def test_in_what_we_write_every_name_that_readers_look_at_is_closed() -> None:
    assert {*covered(b"From: a@a.example", ours=True).names} == {*CLOSED_IN_OURS}


@pytest.mark.parametrize("lines", [(), (b"To: t@t.example",), (b"From: a@a.example", b"From: b@b.example")])
def test_a_header_without_exactly_one_from_is_not_signed(lines: tuple[bytes, ...]) -> None:
    assert covered_fields(fields(*lines)) is None


def test_the_canonical_octets() -> None:
    found = covered(b"SUBJECT:  a\r\n\t b ", b"From: a@a.example")
    assert found.canonicalization == "relaxed"
    assert found.header == b"from:a@a.example\r\nsubject:a b\r\n"


def test_white_space_that_verifiers_strip_differently_is_left_as_it_is() -> None:
    found = covered(b"SUBJECT:  a\x0b", b"From: a@a.example")
    assert found.canonicalization == "simple"
    assert found.header == b"From: a@a.example\r\nSUBJECT:  a\x0b\r\n"


@pytest.mark.parametrize("ours", [False, True])
def test_the_names_never_get_longer_than_announced(ours: bool) -> None:
    lines = [b"From: a@a.example", b"Subject: 1", b"Subject: 2", *(b"Content-X%d: x" % n for n in range(40))]
    found = covered(*lines, ours=ours)
    assert len(":\r\n ".join(found.names)) <= found.names_octets
