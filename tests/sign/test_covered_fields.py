"""Which fields a signature covers, as values: names for `h=`, fields in the order of verifiers, canonical octets."""

from __future__ import annotations

import pytest

from relay.mail.message import HeaderField, Message
from relay.sign.covered_fields import CLOSED, CLOSED_IN_OURS, CoveredFields, covered_fields, names_octets


def fields(*lines: bytes) -> tuple[HeaderField, ...]:
    return Message(b"".join(line + b"\r\n" for line in lines) + b"\r\n").fields


def covered(*lines: bytes, ours: bool = False, also: tuple[str, ...] = ()) -> CoveredFields:
    found = covered_fields(fields(*lines), ours=ours, also=also)
    assert found is not None
    return found


def test_a_closed_name_is_listed_once_more_than_it_occurs() -> None:
    names = covered(b"From: a@a.example", b"Subject: 1", b"Subject: 2", b"Date: d", b"List-Id: l", b"X: x").names
    counts = {name: names.count(name) for name in names}
    assert counts == dict.fromkeys(CLOSED, 1) | {"from": 2, "subject": 3, "date": 2, "list-id": 1}


def test_the_instances_of_a_name_go_from_the_bottom_to_the_top() -> None:
    found = covered(b"Subject: 1", b"From: a@a.example", b"Subject: 2")
    assert [field.raw for field in found.fields] == [b"From: a@a.example\r\n", b"Subject: 2\r\n", b"Subject: 1\r\n"]


def test_further_names_are_signed_as_often_as_they_occur() -> None:
    names = covered(b"X: 1", b"X: 2", b"From: a@a.example", also=("x",)).names
    assert names.count("x") == 2
    assert "x" not in covered(b"X: 1", b"From: a@a.example").names


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
    names = covered(*lines, ours=ours).names
    assert len(":\r\n ".join(names)) <= names_octets(fields(*lines), ours=ours)
