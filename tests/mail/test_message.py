"""The message is read as DKIM verifiers read it, and what is not touched stays octet for octet.

dkimpy's parser and canonicalization are the second opinion: they share no code with ours.
"""

from __future__ import annotations

import hashlib

import dkim
import pytest
from dkim.canonicalization import Relaxed, Simple
from hypothesis import given
from hypothesis import strategies as st

from relay.mail.message import HeaderField, Message
from tests import corpus

MADE = dict(corpus.made())

# Octets that mean something to a parser, more often than chance would bring them.
pieces = st.sampled_from(
    [b"\r\n", b"\r\n\r\n", b" ", b"\t", b"  ", b" \r\n", b"a", b"B: c", b"x :", b":", b".", b"\xff", b"\0"]
)
octets = st.lists(pieces, max_size=20).map(b"".join)
wsp = st.text(" \t", max_size=3).map(str.encode)
names = st.sampled_from([b"From", b"to", b"SUBJECT", b"X-A", b"-", b"X!#~"])
folds = st.tuples(wsp, st.sampled_from([b"\r\n ", b"\r\n\t"]), wsp).map(b"".join)
values = st.lists(st.one_of(st.sampled_from([b"a", b"b:c", b"\xc3\xa4", b"=?q?"]), wsp, folds), max_size=6).map(
    b"".join
)
headers = st.lists(st.tuples(names, values), min_size=1, max_size=6)


@given(octets)
def test_a_message_hashes_its_body_either_way(body: bytes) -> None:
    body += b"\r\n"
    message = Message(b"A: b\r\n\r\n" + body)
    assert message.hashed_body("relaxed") == hashlib.sha256(Relaxed.canonicalize_body(body)).digest()
    assert message.hashed_body("simple") == hashlib.sha256(Simple.canonicalize_body(body)).digest()
    assert message.body_octets("simple") == len(Simple.canonicalize_body(body))


def test_the_hash_that_is_known_is_believed_and_the_length_is_found_all_the_same() -> None:
    message = Message(b"A: b\r\n\r\na  b\r\n", body_hash=bytes(32))
    assert message.hashed_body("relaxed") == bytes(32)
    assert message.body_octets("relaxed") == len(b"a b\r\n")


@given(headers, octets)
def test_header_is_read_as_dkimpy_reads_it(header: list[tuple[bytes, bytes]], body: bytes) -> None:
    body += b"\r\n"
    content = b"".join(name + b":" + value + b"\r\n" for name, value in header) + b"\r\n" + body
    fields, rest = dkim.rfc822_parse(content)
    message = Message(content)
    assert [(f.name, f.raw) for f in message.fields] == [
        (name.decode().lower(), name + b":" + value) for name, value in fields
    ]
    assert content[message.body_offset :] == rest


@given(octets)
def test_no_octet_is_lost_between_the_fields(content: bytes) -> None:
    message = Message(content)
    header = b"".join(f.raw for f in message.fields)
    assert content.startswith(header)
    assert content[len(header) : message.body_offset] in (b"", b"\r\n")
    assert b"".join(message.wire()).endswith(content)


@pytest.mark.parametrize(
    ("name", "has_header", "body"),
    [
        ("plain", True, b"One line,\r\nand another.\r\n"),
        ("nothing", True, b""),
        ("blank-line", True, b""),
        ("blank-line-then-fields", True, b"From: ann@author.example\r\n\r\nOne line,\r\nand another.\r\n"),
        ("no-header", False, MADE["no-header"]),
        ("no-header-blank-line", False, MADE["no-header-blank-line"]),
        ("no-blank-line", True, b""),
        ("begins-with-a-fold", True, b"One line,\r\nand another.\r\n"),
    ],
)
def test_where_the_body_begins(name: str, has_header: bool, body: bytes) -> None:
    message = Message(MADE[name])
    assert message.has_header is has_header
    assert message.content[message.body_offset :] == body


def test_fields_are_found_by_name_from_top_to_bottom() -> None:
    message = Message(b"To: a\r\nX : y\r\nno field\r\n of ours\r\nTO:\r\n b\r\n\r\nTo: body\r\n")
    assert [f.value for f in message.all("to")] == [b"a", b"b"]
    assert message.all("X") == (HeaderField("x", b"X : y\r\n"),)
    assert message.all("") == (HeaderField("", b"no field\r\n of ours\r\n"),)


def test_a_removed_field_takes_its_folds_along_and_nothing_else() -> None:
    message = Message(b"A: 1\r\nB: 2\r\n folded\r\nA: 1\r\n\r\nbody  \r\n")
    top, middle, _ = message.fields
    assert message.without([middle]).content == b"A: 1\r\nA: 1\r\n\r\nbody  \r\n"
    assert message.without([top]).content == b"B: 2\r\n folded\r\nA: 1\r\n\r\nbody  \r\n"
    assert message.without([]) is message


@pytest.mark.parametrize("content", [b"A: 1\r\n\r\nbody\r\n", b"text\r\nA: 1\r\n\r\nbody\r\n", b"A: 1\r\nB: 2\r\n"])
def test_the_body_hash_stays_right_when_a_field_goes(content: bytes) -> None:
    message = Message(content, Message(content).relaxed_body_hash)
    shorter = message.without(message.all("a"))
    assert shorter.relaxed_body_hash == Message(shorter.content).relaxed_body_hash


LINES = st.sampled_from(
    [b"A: 1\r\n", b"B:\r\n", b" folded\r\n", b"no field\r\n", b"From x\r\n", b"a : 2\r\n", b"\r\n", b": x\r\n"]
)


@given(st.lists(LINES, max_size=12).map(b"".join), st.lists(st.booleans(), min_size=12, max_size=12))
def test_what_is_left_is_read_as_anew(content: bytes, gone: list[bool]) -> None:
    message = Message(content)
    left = message.without([field for field, is_gone in zip(message.fields, gone, strict=False) if is_gone])
    anew = Message(left.content)
    assert (left.fields, left.relaxed_body_hash) == (anew.fields, anew.relaxed_body_hash)
    for name in ("a", "b", ""):
        assert left.all(name) == tuple(field for field in anew.fields if field.name == name)


@pytest.mark.parametrize(
    ("content", "left"),
    [
        (b"From ann Thu Jan  1\r\nA: 1\r\n\r\nbody\r\n", b"A: 1\r\n\r\nbody\r\n"),
        (b">From ann\r\nFrom joe\r\nA: 1\r\n", b"A: 1\r\n"),
        (b"From ann\r\n folded\r\nA: 1\r\n\r\n", b" folded\r\nA: 1\r\n\r\n"),
        (b"From ann\r\nno field\r\nA: 1\r\n\r\n", b"no field\r\nA: 1\r\n\r\n"),
        (b"From : ann\r\n\r\nFrom here\r\n", None),
        (b"From: ann\r\nFrom joe\r\n\r\n", None),
        (b"From here it is text\r\nand more of it.\r\n", None),
        (b"From here it is text.\r\n\r\nA: of the text\r\n", None),
        (b"\r\nFrom here\r\nA: 1\r\n", None),
    ],
)
def test_lines_of_a_mailbox_file_go_from_the_top(content: bytes, left: bytes | None) -> None:
    message = Message(content, Message(content).relaxed_body_hash)
    without = message.without_mbox_lines()
    assert without.content == (content if left is None else left) and (without is message) is (left is None)
    assert without.relaxed_body_hash == Message(without.content).relaxed_body_hash


def test_what_is_put_on_top_is_parted_from_a_body_without_header() -> None:
    assert b"".join(Message(b"text\r\n").wire(b"X: y\r\n")) == b"X: y\r\n\r\ntext\r\n"
    assert b"".join(Message(b"A: b\r\n\r\ntext\r\n").wire(b"X: y\r\n")) == b"X: y\r\nA: b\r\n\r\ntext\r\n"
    assert b"".join(Message(b"\r\ntext\r\n").wire(b"X: y\r\n")) == b"X: y\r\n\r\ntext\r\n"


def test_which_extensions_a_message_needs() -> None:
    assert not Message(MADE["plain"]).is_8bit
    assert Message(MADE["body-utf8"]).is_8bit
    assert not Message(MADE["body-utf8"]).has_utf8_header
    assert Message(MADE["header-utf8"]).has_utf8_header
