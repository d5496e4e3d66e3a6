"""One message on its way in: decoded, held against every limit, and kept or refused.

What has to be refused is still read to its end, without being kept: a reply before the final dot would be taken for
the answer to something else. A large message waits for its end on disk, where there is room, and comes back into memory
to be judged and stored: so nobody who sends slowly holds memory for long.
"""

from __future__ import annotations

import asyncio

import structlog

from relay.config.sections import ReceiveSection
from relay.mail.message import Message
from relay.mail.off_loop import LARGE
from relay.mail.reply import Refused
from relay.receive.data_decoder import DataDecoder, MessageBuilder, has_bare_newline, normalize_newlines
from relay.receive.limits import Account
from relay.receive.memory import SPOOL_FROM
from relay.receive.spool import SpoolFile

log = structlog.get_logger()


class Incoming:
    """What has become of the message that is being read. To be used in a `with`: at its end the memory is given back.

    Args:
        account: what the connection may hold.
        normalizes: whether bare CR and LF become CRLF, instead of being refused.
    """

    def __init__(self, receive: ReceiveSection, account: Account, *, normalizes: bool) -> None:
        self._receive = receive
        self._account = account
        self._normalizes = normalizes
        self._decoder = DataDecoder()
        self._builder = MessageBuilder(receive.max_header_size)
        self._refusal: Refused | None = None
        self._file: SpoolFile | None = None
        self._kept: list[bytearray] = []  # in memory for good, in pieces: a large one would be copied as it grows
        self.size = 0

    def __enter__(self) -> Incoming:
        return self

    def __exit__(self, *_: object) -> None:
        self._let_go()

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

    async def feed(self, block: bytes) -> None:
        """Take a block as it came from the client."""
        piece = self._decoder.feed(block)
        self.size += len(piece)
        if self._refusal is None and (piece or self._decoder.hides_end):
            try:
                self._keep(piece)
            except Refused as refused:
                self._refuse(refused)
            if len(self._builder.held) >= SPOOL_FROM and self._builder.in_body:
                await self._spool()

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
        self._kept.clear()
        self._let_go()

    def _let_go(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None
        self._account.release()

    async def _spool(self) -> None:
        """Write what is in memory to disk. Where that cannot be, it stays, with all that follows."""
        octets = len(self._builder.held)
        if self._kept or not self._account.disk.fits(octets):
            self._kept.append(self._builder.take())
            return
        self._account.disk.take(octets)
        if self._file is None:
            self._file = self._account.spool_file()
        try:
            await self._file.write(self._builder.held)
        except OSError as error:
            self._kept.append(self._builder.take())
            self._account.disk.take(-octets)
            log.warning("not_spooled", problem=str(error), kept="in memory")
        else:
            self._builder.take()
            self._account.memory.take(-octets)

    async def message(self) -> Message:
        """The whole message. One that waited on disk waits for memory, too, where that is short.

        Raises:
            Refused: it was one to refuse, or there is no memory for it.
        """
        if self._refusal is not None:
            raise self._refusal
        digest = self._builder.digest()
        if self._file is not None and self._file.size:
            return Message(await self._read_back(self._file), digest)
        return Message(await self._joined(), digest)

    async def _read_back(self, file: SpoolFile) -> bytes:
        if self._builder.held:
            await self._spool()  # of its end nothing is in memory while it waits
        await self._account.wait_to_hold(file.size)
        try:
            content = await file.read()
        except OSError as error:
            log.error("spool_unreadable", problem=str(error))
            raise Refused(451, "4.3.0", "the message was lost before it was taken, try again later") from None
        file.close()
        self._file = None
        self._account.disk.release()
        return await self._joined(content) if self._kept else content

    async def _joined(self, start: bytes = b"") -> bytes:
        pieces: list[bytes | bytearray] = [start, *self._kept, self._builder.take()]
        self._kept = []
        if self._builder.size < LARGE:
            return b"".join(pieces)
        return await asyncio.to_thread(b"".join, pieces)
