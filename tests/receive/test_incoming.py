"""Which messages are taken for their header, and what the others hear."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.config.sections import ReceiveSection
from relay.mail.message import Message
from relay.mail.reply import Refused
from relay.receive.data_decoder import HEADER_FIELDS
from relay.receive.incoming import Incoming
from relay.receive.limits import Account, Limits
from relay.receive.shared_counts import SharedCounts

LIMIT = 100_000
COUNTS = SharedCounts(1)
LINE = b"text without any colon\r\n"


async def received(content: bytes, *, block: int = 65536, max_header: int = LIMIT) -> Message:
    """The message as it is taken, or Refused."""
    account = Account(Limits(COUNTS, 0, connections=1, per_client=1, memory=50_000_000), "192.0.2.1", trusted=False)
    stream = (b"\r\n" + content).replace(b"\r\n.", b"\r\n..")[2:] + b".\r\n"
    with Incoming(ReceiveSection(max_header_size=max_header), account, normalizes=False) as incoming:
        for start in range(0, len(stream), block):
            await incoming.feed(stream[start : start + block])
        assert incoming.finished
        return await incoming.message()


@pytest.mark.parametrize(
    "content",
    [
        b"A: b\r\n" * (LIMIT // 6 + 1),
        b"A: b\r\n" * (LIMIT // 6 + 1) + b"\r\nbody\r\n",
        b"A: b\r\n" * 4_000_000,
        b"A: " + b"x" * LIMIT + b"\r\n\r\nbody\r\n",
        b"A: b\r\n" + b" fold\r\n" * (LIMIT // 6),
        LINE + b"A: b\r\n" + LINE * (LIMIT // 20),
    ],
    ids=["no body", "with a body", "24 MB of it", "one field", "one folded field", "a field among others"],
)
@pytest.mark.parametrize("block", [65536, 999])
async def test_a_header_over_the_limit_is_refused(content: bytes, block: int) -> None:
    with pytest.raises(Refused, match=rf"^552 5\.3\.4 Message header exceeds {LIMIT} octets"):
        await received(content, block=block)


@pytest.mark.parametrize("max_header", [LIMIT, 1000])
async def test_the_limit_is_exact(max_header: int) -> None:
    body = b"body\r\n" * 20_000
    header = b"A: " + b"x" * (max_header - 7) + b"\r\n\r\n"
    assert (await received(header + body, max_header=len(header))).content == header + body
    with pytest.raises(Refused, match=r"^552 5\.3\.4 "):
        await received(header + body, max_header=len(header) - 1)


async def test_too_many_fields_are_refused() -> None:
    await received(b"A:\r\n" * (HEADER_FIELDS - 2) + b"\r\nbody\r\n")
    with pytest.raises(Refused, match=rf"^552 5\.3\.4 Message header has more than {HEADER_FIELDS} fields"):
        await received(b"A:\r\n" * (HEADER_FIELDS + 1) + b"\r\nbody\r\n")
    folded = b"A: b\r\n" + b" c\r\n" * 2 * HEADER_FIELDS + b"\r\nbody\r\n"
    assert len((await received(folded)).fields) == 1


@pytest.mark.parametrize("block", [65536, 999])
@pytest.mark.parametrize(
    "content",
    [
        LINE * 100_000,
        LINE * 100_000 + b"\r\nand a blank line\r\n",
        LINE * 5_000 + b"Looks: like a field\r\n" + LINE * 100_000,
        b"\r\n" + b"A: b\r\n" * 100_000,
        b"A: b\r\n\r\n" + b"A: b\r\n" * 100_000,
    ],
    ids=["no blank line", "no field", "a field too late", "blank line first", "ordinary"],
)
async def test_a_body_of_any_size_passes_whatever_it_looks_like(content: bytes, block: int) -> None:
    message = await received(content, block=block)
    assert message.content == content
    assert message.body_hash == Message(content).relaxed_body_hash


PIECES = st.sampled_from([b"\r\n", b"\r\n\r\n", b"A: b", b" c", b"x", b"." * 3, LINE * 40, b"\xff" * 300, b":"])


@given(st.lists(PIECES, max_size=30).map(b"".join), st.integers(1, 4000), st.sampled_from([200, 2000]))
async def test_blocks_of_any_size_are_taken_alike(content: bytes, block: int, max_header: int) -> None:
    """The body hash is begun where the whole message has its body, and refused is what has too much before it."""
    content += b"\r\n"
    whole = Message(content)
    if whole.body_offset > max_header:
        with pytest.raises(Refused, match=r"^552 5\.3\.4 "):
            await received(content, block=block, max_header=max_header)
    else:
        message = await received(content, block=block, max_header=max_header)
        assert message.content == content
        assert message.body_hash == whole.relaxed_body_hash
