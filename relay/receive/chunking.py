"""BDAT (RFC 3030): a message that comes in chunks, each behind a command that tells its size.

A chunk is no command, whatever it looks like. So its octets are read also where the command is refused, and are
dropped then; and where its size cannot be told, nobody knows where the next command begins, so that the session ends.
"""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass

from relay.mail.reply import Refused
from relay.receive.incoming import Incoming
from relay.receive.stream import BLOCK, Stream, TimedOut

# A refused chunk is read to its end up to so many times `receive.max_message_size`, so that the sender gets our reply
# and can bounce the message. Nobody exceeds a limit that EHLO tells by more without knowing it.
ABSURD = 10

_ARGUMENT = re.compile(r"([0-9]{1,20})(?:[ \t]+(LAST))?", re.IGNORECASE)  # 20 digits: RFC 1870 section 4


@dataclass(slots=True)
class Chunk:
    """A chunk that is announced.

    Attributes:
        size: its octets.
        last: whether the message ends with it.
        left: octets that were not read yet.
    """

    size: int
    last: bool
    left: int

    async def read(self, incoming: Incoming, stream: Stream, patience: float) -> None:
        """Reads it to its end, and takes it, if the message can still be taken afterwards (`Incoming.refusal`).

        Raises:
            TimedOut, TooSlow, Disconnected: see `Incoming.read_from`.
        """
        incoming.expect(self.left)
        while self.left:
            self.left -= await incoming.read_block(stream, patience, min(self.left, BLOCK))
        if self.last:
            await incoming.end()

    async def drop(self, stream: Stream, patience: float) -> None:
        """Reads the rest of it, keeping nothing.

        Args:
            patience: seconds that the client may send nothing; the chunk may take twice that time.

        Raises:
            TimedOut, Disconnected: it did not come.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + 2 * patience
        while self.left:
            self.left -= len(await stream.read_block(patience, min(self.left, BLOCK)))
            if loop.time() > deadline:
                raise TimedOut


def parse_bdat(argument: str, limit: int) -> Chunk:
    """Parses the argument of BDAT (RFC 3030 section 2).

    Args:
        limit: octets of the largest message.

    Raises:
        Refused: 501, its size cannot be told; 552, it is absurd. The session must end.
    """
    match = _ARGUMENT.fullmatch(argument)
    if match is None:
        raise Refused(501, "5.5.4", "Syntax: BDAT size [LAST]")
    size = int(match[1])
    if size > ABSURD * limit:
        raise Refused(552, "5.3.4", f"Message size exceeds fixed limit of {limit} octets")
    return Chunk(size, match[2] is not None, size)
