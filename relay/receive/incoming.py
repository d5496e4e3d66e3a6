"""The message that a session receives: read, decoded, checked against the limits, and kept or refused.

A message that must be refused is still read to its end, without being kept, because a client expects no reply before
the final dot. A large message is kept on disk until its end, where there is room, and is then read into memory, so that
a slow client does not hold memory for long.
"""

from __future__ import annotations

import asyncio

import structlog

from relay.config.sections import ReceiveSection
from relay.mail.message import Message
from relay.mail.off_loop import LARGE
from relay.mail.reply import Refused
from relay.receive.chunk_decoder import ChunkDecoder
from relay.receive.data_decoder import DataDecoder, MessageBuilder, has_bare_newline, normalize_newlines
from relay.receive.limits import Account
from relay.receive.min_rate import Transfer
from relay.receive.room import SPOOL_FROM
from relay.receive.spool import SpoolFile
from relay.receive.stream import BLOCK, Stream, TimedOut

log = structlog.get_logger()

SLOWEST = 1000  # octets a second below which a message may not take longer than twice `limits.data_timeout`


class Incoming:
    """The message that is being received, for the time of a `with`, at whose end its room is given back.

    Args:
        account: the room that the connection takes.
        normalizes: whether bare CR and LF become CRLF, instead of being refused.
        decoder: how the message comes, by DATA or in chunks.

    Attributes:
        size: octets of content so far, also of a refused message.
        refusal: why the message must be refused; None as long as it can be taken.
    """

    def __init__(
        self,
        receive: ReceiveSection,
        account: Account,
        *,
        normalizes: bool,
        decoder: DataDecoder | ChunkDecoder | None = None,
    ) -> None:
        self.refusal: Refused | None = None
        self._receive = receive
        self._account = account
        self._normalizes = normalizes
        self._decoder = decoder or DataDecoder()
        self._builder = MessageBuilder(receive.max_header_size)
        self._transfer: Transfer | None = None
        self._time = asyncio.get_running_loop().time
        self._started = self._time()
        self._file: SpoolFile | None = None
        self._kept: list[bytearray] = []  # not on disk; in pieces, because one that grows would be copied
        self.size = 0

    def __enter__(self) -> Incoming:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Gives back the room that the message takes."""
        self._end_transfer()
        self._free_room()

    @property
    def kept(self) -> int:
        """Octets that are kept; 0 once the message must be refused."""
        return self._builder.size

    @property
    def finished(self) -> bool:
        """Whether the end of the message was received."""
        return self._decoder.finished

    async def read_from(self, stream: Stream, patience: float) -> None:
        """Reads the message of DATA to its final dot.

        Args:
            patience: seconds that the client may send nothing.

        Raises:
            TimedOut: the client sent nothing for that time, or the whole transfer took too long (see `SLOWEST`).
            TooSlow: the client is too slow while the room for messages is short.
            Disconnected: the connection is lost.
        """
        while not self.finished:
            await self.read_block(stream, patience)
        stream.unread(self._decoder.rest)
        self._end_transfer()

    async def read_block(self, stream: Stream, patience: float, most: int = BLOCK) -> int:
        """Reads a block of at most so many octets, and returns how many there were. For errors see `read_from`."""
        if self._transfer is None:
            self._transfer = self._account.transfer(stream.interrupt)
            self._transfer.begin()
        block = await stream.read_block(patience, most)
        if self.time_left(patience) < 0:
            raise TimedOut
        self._transfer.received += len(block)
        await self.feed(block)
        return len(block)

    def time_left(self, patience: float) -> float:
        """Seconds that the client has for the rest of the message; see `SLOWEST`."""
        return self._started + 2 * patience + self.kept / SLOWEST - self._time()

    def _end_transfer(self) -> None:
        if self._transfer is not None:
            self._transfer.finish()
            self._transfer = None

    async def feed(self, block: bytes) -> None:
        """Takes a block as the client sent it."""
        await self._take(self._decoder.feed(block))

    async def end(self) -> None:
        """Ends a message that came in chunks."""
        assert isinstance(self._decoder, ChunkDecoder)
        await self._take(self._decoder.end())
        self._end_transfer()

    async def _take(self, piece: bytes) -> None:
        self.size += len(piece)
        if self.refusal is None and (piece or self._decoder.hides_end):
            try:
                self._keep(piece)
            except Refused as refused:
                self.refuse(refused)
            if len(self._builder.held) >= SPOOL_FROM and self._builder.in_body:
                await self._spool()

    def expect(self, octets: int) -> None:
        """Refuses a message whose next chunk makes it too large, before it comes."""
        if self.refusal is None and self._builder.size + octets > self._receive.max_message_size:
            self.refuse(self._too_large())

    def _too_large(self) -> Refused:
        return Refused(552, "5.3.4", f"Message size exceeds fixed limit of {self._receive.max_message_size} octets")

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
            raise self._too_large()
        self._account.hold(len(piece))
        self._builder.add(piece)

    def refuse(self, refused: Refused) -> None:
        """Gives the message up: what was kept of it is dropped, as is all that comes."""
        self.refusal = refused
        self._builder = MessageBuilder(0)
        self._kept.clear()
        self._free_room()

    def _free_room(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None
        self._account.release()

    async def _spool(self) -> None:
        """Moves the content in memory to disk. If that fails, it stays in memory, as does the rest of the message."""
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
        """The whole message. A message on disk waits for memory where that is short.

        Raises:
            Refused: the message must be refused, or there is no memory for it.
        """
        if self.refusal is not None:
            raise self.refusal
        digest = self._builder.digest()
        if self._file is not None and self._file.size:
            return Message(await self._read_back(self._file), digest)
        return Message(await self._joined(), digest)

    async def _read_back(self, file: SpoolFile) -> bytes:
        if self._builder.held:
            await self._spool()  # so that it holds no memory while it waits
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
