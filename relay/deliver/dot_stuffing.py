"""The content of a message as it goes over the wire after DATA (RFC 5321 section 4.5.2).

The message leaves as it is. Nothing happens to its lines but dot stuffing: there is no conversion to seven bits where
the server does not offer 8BITMIME, which would break every signature that covers the body.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator

BLOCK = 65536  # octets written at a time: a socket takes them at once, and other sessions hardly wait for them


def stuffed(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """The content in blocks of about `BLOCK` octets, the final dot within the last one.

    A dot at the start of a line is doubled; a line starts after CRLF only, and at the beginning. A content that does
    not end in CRLF gets one.
    """
    unread = iter(chunks)
    read, octets = [], 0
    for chunk in unread:
        read.append(chunk)
        octets += len(chunk)
        if octets > BLOCK:
            return _stuffed_blocks(itertools.chain(read, unread))
    return iter((_stuffed_at_once(read),))


def _stuffed_at_once(chunks: Iterable[bytes]) -> bytes:
    content = b"".join(chunks)
    if b"\r\n." in content:
        content = content.replace(b"\r\n.", b"\r\n..")
    beginning = b"." if content.startswith(b".") else b""
    end = b".\r\n" if content.endswith(b"\r\n") or not content else b"\r\n.\r\n"
    return b"".join((beginning, content, end))


def _stuffed_blocks(chunks: Iterable[bytes]) -> Iterator[bytes]:
    held = b"\r\n"  # a line end whose next octet is not known yet; this one stands for the beginning and is not sent
    unsent = 2
    ready = b""
    for block in _blocks(chunks):
        if ready:
            yield ready
        block = held + block
        held = b"\r\n" if block.endswith(b"\r\n") else b"\r" if block.endswith(b"\r") else b""
        ready = block[: len(block) - len(held)].replace(b"\r\n.", b"\r\n..")[unsent:]
        unsent = 0
    end = held if held == b"\r\n" else held + b"\r\n"
    yield ready + end[unsent:] + b".\r\n"


def _blocks(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """The chunks joined and cut to blocks."""
    pending = b""
    for chunk in chunks:
        start = 0
        while len(pending) + len(chunk) - start > BLOCK:
            end = start + BLOCK - len(pending)
            yield pending + chunk[start:end]
            pending, start = b"", end
        pending += chunk[start:]
    if pending:
        yield pending
