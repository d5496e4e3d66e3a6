from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relay.mail.message import Message
from relay.receive.data_decoder import DataDecoder, MessageBuilder, has_bare_newline, normalize_newlines

PIECES = st.lists(
    st.sampled_from([b"a", b".", b"..", b"\r\n", b"\r\n.", b"\r", b"\n", b" ", b"\r\n.\r\n"]), max_size=12
)


def whole(stream: bytes) -> tuple[bytes, bytes]:
    """RFC 5321 section 4.5.2, written the slow and plain way."""
    stream = b"\r\n" + stream
    end = stream.index(b"\r\n.\r\n")
    return stream[: end + 2].replace(b"\r\n.", b"\r\n")[2:], stream[end + 5 :]


@given(PIECES, st.lists(st.integers(1, 7), max_size=40))
def test_blocks_of_any_size_decode_alike(pieces: list[bytes], cuts: list[int]) -> None:
    stream = b"".join(pieces) + b"\r\n.\r\nQUIT\r\n"
    decoder, decoded, position = DataDecoder(), [], 0
    while not decoder.finished:
        size = cuts.pop() if cuts else 1
        decoded.append(decoder.feed(stream[position : position + size]))
        position += size
    content, rest = whole(stream)
    assert b"".join(decoded) == content
    assert decoder.rest + stream[position:] == rest
    assert any(map(has_bare_newline, decoded)) == has_bare_newline(content)


NULS = st.lists(st.sampled_from([b"a", b".", b"..", b"\r\n", b"\r", b"\n", b"\0", b"\0", b"\0\0"]), max_size=12)


@settings(max_examples=2000)
@given(NULS, st.lists(st.integers(1, 7), max_size=40))
def test_an_end_that_hosts_see_which_drop_nul_is_found(pieces: list[bytes], cuts: list[int]) -> None:
    stream = b"".join(pieces) + b"\r\n.\r\n"
    stream = stream[: (b"\r\n" + stream).index(b"\r\n.\r\n") + 3]
    decoder, content, position = DataDecoder(), b"", 0
    while not decoder.finished:
        size = cuts.pop() if cuts else 1
        content += decoder.feed(stream[position : position + size])
        position += size
    # What a host that drops NUL sees of what came, and of what we send on.
    came = b"\r\n" + stream.replace(b"\0", b"")
    sent = (b"\r\n" + content).replace(b"\r\n.", b"\r\n..").replace(b"\0", b"")
    normal = (b"\r\n" + normalize_newlines(content)).replace(b"\r\n.", b"\r\n..").replace(b"\0", b"")
    if b"\r\n.\r\n" in sent or b"\r\n.\r\n" in normal or came.index(b"\r\n.\r\n") + 5 < len(came):
        assert decoder.hides_end
    if decoder.hides_end:
        assert b"\0" in stream and re.search(rb"[\r\n]\.\.?[\r\n]", came[:-3] + b"\n")


@pytest.mark.parametrize(
    "line",
    [b"\0", b"\0\0", b"..\0", b"\0..", b"a\0.", b".\0a", b".a\0", b"\0.\0.", b". \0", b"...\0", b".\0..", b"\0a."],
)
def test_other_lines_with_nul_are_content(line: bytes) -> None:
    decoder = DataDecoder()
    assert decoder.feed(b"one\r\n" + line + b"\r\n.\r\n") == b"one\r\n" + line.removeprefix(b".") + b"\r\n"
    assert decoder.finished and not decoder.hides_end


def test_what_follows_the_end_is_no_content() -> None:
    decoder = DataDecoder()
    decoder.feed(b"one\r\n.\r\n\0.\r\n")
    assert decoder.rest == b"\0.\r\n" and not decoder.hides_end


@pytest.mark.parametrize(
    "ending", [b"\n.\n", b"\n.\r\n", b"\r\n.\n", b"\r.\r", b"\r\n.\r", b"\r.\r\n", b"\r\n\x00.\r\n"]
)
def test_nothing_but_crlf_dot_crlf_ends_a_message(ending: bytes) -> None:
    decoder = DataDecoder()
    decoder.feed(b"Subject: x\r\n\r\nbody" + ending + b"MAIL FROM:<a@b>\r\n")
    assert not decoder.finished


def test_an_empty_message() -> None:
    decoder = DataDecoder()
    assert decoder.feed(b".\r\nQUIT\r\n") == b""
    assert decoder.finished and decoder.rest == b"QUIT\r\n"


@pytest.mark.parametrize(
    ("given_", "expected"), [(b"a\nb\r\n", b"a\r\nb\r\n"), (b"a\rb\r\n", b"a\r\nb\r\n"), (b"\r\r\n\n", b"\r\n\r\n\r\n")]
)
def test_normalized_newlines(given_: bytes, expected: bytes) -> None:
    assert normalize_newlines(given_) == expected


@pytest.mark.parametrize("header", [b"Subject: x\r\n\r\n", b"\r\n", b"no header at all\r\n\r\n"])
def test_a_large_body_is_hashed_while_it_arrives(header: bytes) -> None:
    content = header + b"a  line with \t white space \r\n" * 20_000 + b"\r\n\r\n"
    builder, taken = MessageBuilder(1000), b""
    for start in range(0, len(content), 9_999):
        builder.add(content[start : start + 9_999])
        if builder.in_body:
            taken += builder.take()
    assert taken + builder.held == content
    assert builder.size == len(content)
    assert builder.digest() == Message(content).relaxed_body_hash
