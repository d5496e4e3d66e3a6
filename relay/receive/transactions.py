"""The mail transactions of a session (RFC 5321 section 3.3): MAIL, RCPT, and the message by DATA or in chunks (BDAT).

What the protocol does not decide, the `Handler` does: about the sender, each recipient, and the whole message.
"""

from __future__ import annotations

from relay.mail.message_id import shown_message_id
from relay.mail.off_loop import read_header
from relay.mail.queue_id import QueueIds, id_text
from relay.mail.reply import ComeAgain, Refused, Reply
from relay.receive.chunk_decoder import ChunkDecoder
from relay.receive.chunking import Chunk, parse_bdat
from relay.receive.command import Transaction, parse_mail, parse_rcpt
from relay.receive.connection import Connection
from relay.receive.data_decoder import DataDecoder
from relay.receive.incoming import Incoming

SENDER_OK = Reply(250, "2.1.0", "Ok")
RECIPIENT_OK = Reply(250, "2.1.5", "Ok")
GO_AHEAD = Reply(354, "", "End data with <CR><LF>.<CR><LF>")


class Transactions:
    """The transactions of one session, one after another.

    Attributes:
        current: the one that MAIL has begun; None between two.
        incoming: its message, once that has begun to come.
        chunk: that of the last command, if that was BDAT, until its octets are read.
    """

    def __init__(self, connection: Connection, ids: QueueIds) -> None:
        self.current: Transaction | None = None
        self.incoming: Incoming | None = None
        self.chunk: Chunk | None = None
        self._connection = connection
        self._ids = ids

    def forget(self) -> None:
        """Ends the transaction, if there is one, and gives back the room that its message takes."""
        if self.current is not None:
            self.current = None
            self._connection.handler.reset()
        if self.incoming is not None:
            self.incoming.close()
            self.incoming = None
            self._connection.account.end_message()

    # the envelope

    async def mail(self, argument: str) -> Reply:
        """MAIL: begins a transaction. Raises: Refused."""
        connection = self._connection
        if not connection.client.helo:
            raise Refused(503, "5.5.1", "Error: send EHLO first")
        if self.current is not None:
            raise Refused(503, "5.5.1", "Error: nested MAIL command")
        transaction_id, mail = self._ids.new(), None
        queue_id = id_text(transaction_id)
        client, helo, tls = connection.client, connection.client.helo, connection.client.tls or None
        try:
            mail = parse_mail(argument, encrypted=bool(client.tls), auth=connection.takes_logins)
            if mail.size > connection.config.receive.max_message_size:
                raise Refused(552, "5.3.4", "Message size exceeds fixed limit")
            connection.account.check(mail.size)
            transaction = Transaction(transaction_id, mail)
            await connection.handler.mail(client, transaction)
        except Refused as refused:
            connection.handler.reset()
            sender = argument if mail is None else mail.sender
            connection.log.info("mail", id=queue_id, sender=sender, helo=helo, tls=tls, reply=str(refused.reply))
            raise
        self.current = transaction
        connection.log.info("mail", id=queue_id, sender=mail.sender, helo=helo, tls=tls)
        return SENDER_OK

    async def rcpt(self, argument: str) -> Reply:
        """RCPT: one more recipient. Raises: Refused."""
        connection, transaction = self._connection, self.current
        if transaction is None:
            raise Refused(503, "5.5.1", "Error: need MAIL command")
        self.refuse_between_chunks("RCPT")
        queue_id, rcpt = id_text(transaction.id), None
        try:
            rcpt = parse_rcpt(argument, transaction.mail.smtputf8)
            if len(transaction.recipients) >= connection.config.limits.recipients:
                raise ComeAgain(452, "4.5.3", "Error: too many recipients")
            await connection.handler.rcpt(connection.client, transaction, rcpt)
        except Refused as refused:
            transaction.refused += 1
            recipient = argument if rcpt is None else rcpt.recipient
            connection.log.info("rcpt", id=queue_id, rcpt=recipient, reply=str(refused.reply))
            raise
        transaction.recipients.append(rcpt)
        connection.log.info("rcpt", id=queue_id, rcpt=rcpt.recipient)
        return RECIPIENT_OK

    # the message

    async def data(self, argument: str) -> Reply:
        """DATA, to the reply to the final dot.

        Raises:
            Refused: the command, or the message.
            TimedOut, TooSlow, Disconnected: see `Incoming.read_from`.
        """
        connection = self._connection
        self.refuse_between_chunks("DATA")
        transaction = self._ready()
        if argument:
            raise Refused(501, "5.5.4", "Syntax: DATA")
        connection.reply(GO_AHEAD)
        await connection.stream.flush()
        incoming = self.incoming = self._begin(DataDecoder())
        await incoming.read_from(connection.stream, connection.config.limits.data_timeout)
        return await self._complete(incoming, transaction)

    def _ready(self) -> Transaction:
        """The transaction whose message may come now. Raises: Refused."""
        transaction = self.current
        if transaction is None:
            raise Refused(503, "5.5.1", "Error: need MAIL command")
        if not transaction.recipients:
            if transaction.refused:
                raise Refused(554, "5.5.1", "Error: no valid recipients")
            raise Refused(503, "5.5.1", "Error: need RCPT command")
        return transaction

    def _begin(self, decoder: DataDecoder | ChunkDecoder) -> Incoming:
        connection = self._connection
        connection.account.begin_message()
        receive = connection.config.receive
        normalizes = connection.client.trusted or receive.bare_newline == "normalize"
        return Incoming(receive, connection.account, normalizes=normalizes, decoder=decoder)

    async def _complete(self, incoming: Incoming, transaction: Transaction) -> Reply:
        """The reply to the end of a message, which ends the transaction. Raises: Refused, if it is not taken."""
        try:
            reply = await self._take(incoming, transaction)
        finally:
            self.forget()
        if not reply.positive:
            raise Refused.of(reply)
        self._connection.account.accepted()
        return reply

    async def _take(self, incoming: Incoming, transaction: Transaction) -> Reply:
        """The reply of the handler to a message that has come to its end."""
        connection = self._connection
        queue_id = id_text(transaction.id)
        try:
            message = await incoming.message()
            await read_header(message)
        except Refused as refused:
            connection.log.info("data", id=queue_id, size=incoming.size, reply=str(refused.reply))
            return refused.reply
        message_id = shown_message_id(message)
        connection.log.info("data", id=queue_id, size=len(message.content), message_id=message_id)
        return await connection.handler.data(connection.client, transaction, message, connection.stream.ended)

    # the message in chunks (RFC 3030)

    def announce_chunk(self, argument: str) -> None:
        """Takes note of the chunk behind BDAT.

        Raises:
            Refused: nobody knows at which octet the next command begins; the session must end.
        """
        self.chunk = parse_bdat(argument, self._connection.config.receive.max_message_size)

    async def bdat(self, argument: str) -> Reply:
        """BDAT, whose chunk is announced.

        Raises:
            Refused: the command, or the message; as long as `chunk` is there its octets are still to be read.
            TimedOut, TooSlow, Disconnected: see `Incoming.read_from`.
        """
        connection, transaction, chunk = self._connection, self._ready(), self.chunk
        assert chunk is not None
        incoming = self.incoming = self.incoming or self._begin(ChunkDecoder())
        if incoming.refusal is not None:
            raise incoming.refusal
        self.chunk = None
        await connection.stream.flush()
        await chunk.read(incoming, connection.stream, connection.config.limits.data_timeout)
        if chunk.last:
            return await self._complete(incoming, transaction)
        if incoming.refusal is not None:
            reply = str(incoming.refusal.reply)
            connection.log.info("data", id=id_text(transaction.id), size=incoming.size, reply=reply)
            raise incoming.refusal
        return Reply(250, "2.0.0", f"{chunk.size} octets received")

    async def drop_chunk(self, chunk: Chunk, refused: Refused) -> bool:
        """Reads and drops the octets of a BDAT that is refused.

        The transaction is lost with it: what comes after a chunk that is missing must not pass for the whole message.

        Returns:
            Whether the refusal is a new one. A client that has sent more chunks ahead gets the same answer for each,
            which counts as one error.

        Raises:
            TimedOut, Disconnected: they did not come.
        """
        connection, self.chunk = self._connection, None
        await connection.stream.flush()
        await chunk.drop(connection.stream, connection.config.limits.data_timeout)
        is_new = self.incoming is None or self.incoming.refusal is None
        if is_new and self.current is not None:
            self.incoming = self.incoming or self._begin(ChunkDecoder())
            self.incoming.refuse(refused)
        if chunk.last:
            self.forget()
        return is_new

    def refuse_between_chunks(self, verb: str) -> None:
        """Raises: Refused, 503, the message of the transaction has begun to come in chunks."""
        if self.incoming is not None:
            raise Refused(503, "5.5.1", f"Error: {verb} after BDAT")

    @property
    def command_timeout(self) -> float:
        """Seconds to wait for a command; a message that has begun to come in chunks must not take longer than one by
        DATA."""
        limits = self._connection.config.limits
        if self.incoming is None:
            return limits.command_timeout
        return min(limits.command_timeout, self.incoming.time_left(limits.data_timeout))
