"""Dot stuffing: any content arrives as it was, in blocks of a fitting size."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

from hypothesis import given, settings
from hypothesis import strategies as st

from relay.deliver.dot_stuffing import BLOCK, stuffed


def unstuffed(wire: bytes) -> bytes:
    """What a server reads (RFC 5321 section 4.5.2): lines up to the lonely dot, without a first dot."""
    lines = wire.split(b"\r\n")
    assert lines[-2:] == [b".", b""] and b"." not in lines[:-2]
    return b"".join(line.removeprefix(b".") + b"\r\n" for line in lines[:-2])


pieces = st.sampled_from([b".", b"..", b"\r\n", b"\r\n.", b"\r\n.\r\n", b"a", b"\r", b"\n", b"\n.", b"\xff", b"x" * 40])
contents = st.lists(pieces, max_size=40).map(b"".join)


@given(contents, st.lists(st.integers(0, 200), max_size=8))
@settings(max_examples=200, deadline=None)
def test_any_content_arrives_octet_for_octet(content: bytes, cuts: list[int]) -> None:
    bounds = sorted({0, len(content), *(cut for cut in cuts if cut < len(content))})
    chunks = [content[start:end] for start, end in itertools.pairwise(bounds)]
    end = b"" if content.endswith(b"\r\n") or not content else b"\r\n"
    assert unstuffed(b"".join(stuffed(chunks))) == content + end


@given(contents, st.integers(-12, 12))
@settings(max_examples=200, deadline=None)
def test_dots_at_the_edge_of_a_block(content: bytes, offset: int) -> None:
    content = b"x" * (BLOCK + offset) + content + b"\r\n"
    assert unstuffed(b"".join(stuffed([content]))) == content
    assert unstuffed(b"".join(stuffed([content[:BLOCK], content[BLOCK:]]))) == content


def test_blocks_are_neither_tiny_nor_huge() -> None:
    sizes = [len(block) for block in stuffed([b"head\r\n", *([b"x" * 10 + b"\r\n"] * 20_000)])]
    assert all(BLOCK - 4 <= size <= BLOCK + 4 for size in sizes[:-1])
    assert len(list(stuffed([b"From: a\r\n", b"\r\n", b"body\r\n"]))) == 1


def test_the_empty_content_is_a_lonely_dot() -> None:
    assert b"".join(stuffed([])) == b"".join(stuffed([b""])) == b".\r\n"


async def test_the_content_is_not_read_ahead() -> None:
    produced = 0

    def content() -> Iterator[bytes]:
        nonlocal produced
        for _ in range(1000):
            produced += 1
            yield b"x" * BLOCK

    blocks = stuffed(content())
    next(blocks)
    assert produced <= 3
