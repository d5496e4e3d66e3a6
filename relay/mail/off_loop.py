"""Work on large messages in a thread, so that it does not block the event loop.

While a thread works, the loop runs again every few milliseconds. A hand-over to a thread costs a tenth of one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeVar

from relay.mail.message import Message

LARGE = 1 << 20  # octets of content from which work on a message goes to a thread
HEADER_AT_ONCE = 16384  # octets of header: up to 4,000 fields, which take one to five milliseconds a step

T = TypeVar("T")


async def run_off_loop(message: Message, work: Callable[[], T]) -> T:
    """Calls `work`, in a thread where the message is large, and returns its result.

    Args:
        work: reads the whole message or its whole header.
    """
    return await asyncio.to_thread(work) if is_large(message) else work()


async def read_header(message: Message) -> None:
    """Parses the header fields of a large message in a thread; later steps find them parsed."""
    if is_large(message):
        await asyncio.to_thread(message.all, "")


def is_large(message: Message) -> bool:
    """Whether reading the whole message, or its whole header, would hold up the event loop."""
    return len(message.content) >= LARGE or message.body_offset >= HEADER_AT_ONCE
