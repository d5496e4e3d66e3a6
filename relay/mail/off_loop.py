"""Work on a message that would hold the event loop: a thread does it where the message is large.

A thread lets the loop have its turn every few milliseconds, at the price of a tenth of one for the message.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeVar

from relay.mail.message import Message

LARGE = 1 << 20  # octets of content from which work on a message goes to a thread
HEADER_AT_ONCE = 16384  # octets of header: as many as 4,000 fields, over which a step takes one to five milliseconds

T = TypeVar("T")


async def aside(message: Message, work: Callable[[], T]) -> T:
    """What `work` returns, which looks at the whole message or its whole header."""
    is_large = len(message.content) >= LARGE or message.body_offset >= HEADER_AT_ONCE
    return await asyncio.to_thread(work) if is_large else work()


async def read_header(message: Message) -> None:
    """Let the fields of a message be known to whoever asks for them from now on."""
    await aside(message, lambda: message.fields and message.all(""))
