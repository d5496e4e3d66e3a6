"""One message on its way in: decoded, held against every limit, and kept or refused.

What has to be refused is still read to its end, without being kept: a reply before the final dot would be taken for
the answer to something else.
"""

from __future__ import annotations

import asyncio

from relay.config_sections import Receive
from relay.message import Message
from relay.receive.data import DataDecoder, MessageBuilder, has_bare_newline, normalize_newlines
from relay.receive.limits import Account
from relay.reply import Refused

LARGE = 1 << 20  # octets from which a message is joined in a thread, which does not hold the event loop


class Incoming:
    """What has become of the message that is being read. To be used in a `with`: at its end the memory is given back.

    Args:
        account: what the connection may hold.
        normalizes: whether bare CR and LF become CRLF, instead of being refused.
    """

    def __init__(self, receive: Receive, account: Account, *, normalizes: bool) -> None:
        self._receive = receive
        self._account = account
        self._normalizes = normalizes
        self._decoder = DataDecoder()
        self._builder = MessageBuilder(receive.max_header_size)
        self._refusal: Refused | None = None
        self.size = 0

    def __enter__(self) -> Incoming:
        return self

    def __exit__(self, *_: object) -> None:
        self._account.release()

    @property
    def kept(self) -> int:
        """Octets of it that are held; none once it has to be refused."""
        return self._builder.size

    @property
    def finished(self) -> bool:
        """Whether the final dot has come."""
        return self._decoder.finished

    @property
    def rest(self) -> bytes:
        """What came after the final dot."""
        return self._decoder.rest

    def feed(self, block: bytes) -> None:
        """Take a block as it came from the client."""
        piece = self._decoder.feed(block)
        self.size += len(piece)
        if self._refusal is None and (piece or self._decoder.hides_end):
            try:
                self._keep(piece)
            except Refused as refused:
                self._refuse(refused)

    def _keep(self, piece: bytes) -> None:
        if self._decoder.hides_end:
            raise Refused(550, "5.6.0", "Message has a line that is a single dot for hosts that drop NUL")
        if self._receive.nul == "reject" and b"\0" in piece:
            raise Refused(550, "5.6.0", "Message contains NUL, which is refused here")
        if has_bare_newline(piece):
            if not self._normalizes:
                raise Refused(550, "5.6.0", "Message contains bare CR or LF, which RFC 5321 forbids")
            piece = normalize_newlines(piece)
        if self._builder.size + len(piece) > self._receive.max_message_size:
            raise Refused(552, "5.3.4", f"Message size exceeds fixed limit of {self._receive.max_message_size} octets")
        self._account.hold(len(piece))
        self._builder.add(piece)

    def _refuse(self, refused: Refused) -> None:
        self._refusal = refused
        self._builder = MessageBuilder(0)
        self._account.release()

    async def message(self) -> Message:
        """The whole message.

        Raises:
            Refused: it was one to refuse.
        """
        if self._refusal is not None:
            raise self._refusal
        if self._builder.size < LARGE:
            return self._builder.message()
        return await asyncio.to_thread(self._builder.message)
