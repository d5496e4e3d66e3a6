"""Multipart messages of other hosts: read strictly, and at a bounded cost."""

from __future__ import annotations

import time

import pytest

from relay.bounce.multipart import PARTS, Unreadable, content_type, decoded, parts
from relay.mail.message import Message


def multipart(*bodies: bytes, boundary: bytes = b"b1", end: bytes = b"\r\n--b1--\r\n") -> Message:
    header = b"Content-Type: multipart/mixed; boundary=%b\r\n\r\npreamble" % boundary
    return Message(header + b"".join(b"\r\n--b1\r\n" + body for body in bodies) + end + b"epilogue\r\n")


@pytest.mark.parametrize(
    ("value", "name", "parameters"),
    [
        (b"text/html", "text/html", {}),
        (b'Multipart/Report; Report-Type="delivery-status"; boundary=a=b', "multipart/report", {}),
        (b"text/plain; charset=us-ascii", "text/plain", {"charset": b"us-ascii"}),
        (b'text/plain;\r\n\tNAME = "a \\"b\\"; c"; name=second', "text/plain", {"name": b'a "b"; c'}),
        (b"nonsense", "text/plain", {}),
        (b"", "text/plain", {}),
    ],
)
def test_a_content_type_and_its_parameters(value: bytes, name: str, parameters: dict[str, bytes]) -> None:
    read = content_type(Message(b"Content-Type: " + value + b"\r\n\r\n"))
    assert read.name == name
    assert parameters.items() <= read.parameters.items()


def test_two_content_types_are_none() -> None:
    assert content_type(Message(b"Content-Type: a/b\r\nContent-Type: c/d\r\n\r\n")).name == "text/plain"
    assert content_type(Message(b"\r\nbody")).name == "text/plain"


def test_a_content_type_without_end_costs_little() -> None:
    started = time.process_time()
    content_type(Message(b"Content-Type: a/b" + b';a="\\' * 100_000 + b"\r\n\r\n"))
    assert time.process_time() - started < 1


def test_the_parts_are_what_stands_between_the_delimiters() -> None:
    first, second = parts(multipart(b"X-N: 1\r\n\r\none\r\n--b2\r\n", b"\r\ntwo"))
    assert first.content == b"X-N: 1\r\n\r\none\r\n--b2\r\n"
    assert first.all("x-n")[0].value == b"1"
    assert second.content[second.body_offset :] == b"two"


def test_a_quoted_boundary_and_white_space_behind_a_delimiter() -> None:
    message = multipart(b"\r\none", boundary=b'"b1"', end=b"\r\n--b1-- \t\r\n")
    assert [part.content for part in parts(message)] == [b"\r\none"]


@pytest.mark.parametrize(
    ("message", "problem"),
    [
        (Message(b"\r\nno multipart"), "no boundary"),
        (multipart(b"\r\none", boundary=b"x" * 201), "no boundary"),
        (multipart(), "no parts"),
        (multipart(b"\r\none", end=b"\r\n--b1-x"), "or no end"),
        (multipart(*[b"\r\nbody"] * (PARTS + 1)), f"more than {PARTS} parts"),
    ],
)
def test_what_is_not_whole_is_not_read(message: Message, problem: str) -> None:
    with pytest.raises(Unreadable, match=problem):
        parts(message)


def test_as_many_parts_as_allowed_are_read() -> None:
    assert len(parts(multipart(*[b"\r\nbody"] * PARTS))) == PARTS


@pytest.mark.parametrize(
    ("encoding", "body", "plain"),
    [
        (b"", b"a=20\r\n", b"a=20\r\n"),
        (b"8BIT", "ü\r\n".encode(), "ü\r\n".encode()),
        (b"quoted-printable", b"a=20b=\r\nc\r\n", b"a bc\r\n"),
        (b"Base64", b"b25lCnR3bw==\r\n", b"one\r\ntwo\r\n"),
    ],
)
def test_a_transfer_encoding_is_undone(encoding: bytes, body: bytes, plain: bytes) -> None:
    header = b"Content-Transfer-Encoding: " + encoding + b"\r\n" if encoding else b"X: y\r\n"
    assert decoded(Message(header + b"\r\n" + body)) == plain


@pytest.mark.parametrize("header", [b"x-uuencode", b"7bit\r\nContent-Transfer-Encoding: 8bit"])
def test_an_encoding_that_is_unknown_or_doubtful_is_not_read(header: bytes) -> None:
    with pytest.raises(Unreadable, match="an unknown transfer encoding"):
        decoded(Message(b"Content-Transfer-Encoding: " + header + b"\r\n\r\nbody"))


def test_broken_base64_is_not_read() -> None:
    with pytest.raises(Unreadable, match="base64"):
        decoded(Message(b"Content-Transfer-Encoding: base64\r\n\r\nabcde"))
