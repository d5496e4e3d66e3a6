"""An SMTP session from greeting to QUIT (RFC 5321), with the extensions that `Session._ehlo` lists.

The session implements the protocol, not the policy: at MAIL, RCPT and the end of DATA it asks its `Handler` and gives
the answer to the client. It never raises: any input ends in a reply or in a closed connection.
"""

from __future__ import annotations

import ssl
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from typing import ClassVar

import structlog

from relay.config.model import Config
from relay.mail.envelope import Client
from relay.mail.message_id import shown_message_id
from relay.mail.off_loop import read_header
from relay.mail.queue_id import QueueIds, id_text
from relay.mail.reply import Refused, Reply
from relay.receive.auth_exchange import LINE as AUTH_LINE
from relay.receive.auth_exchange import log_in
from relay.receive.authenticator import Authenticator, LoginFailed
from relay.receive.chunk_decoder import ChunkDecoder
from relay.receive.chunking import Chunk, parse_bdat
from relay.receive.command import Command, Transaction, beginning_of, parse_line, parse_mail, parse_rcpt
from relay.receive.command_counts import CommandCounts, counted_as
from relay.receive.data_decoder import DataDecoder
from relay.receive.handler import Handler
from relay.receive.incoming import Incoming
from relay.receive.limits import Account
from relay.receive.min_rate import TooSlow
from relay.receive.sasl_mechanism import sasl_mechanism
from relay.receive.stream import BEGINNING, Disconnected, LineTooLong, Stream, TimedOut

log = structlog.get_logger()

COMMAND_LINE = 2048  # octets: 512 of RFC 5321 section 4.5.3.1.4 and what SMTPUTF8 and DSN parameters add
HANDSHAKE_TIMEOUT = 60.0  # seconds
IDLE_COMMANDS = 100  # commands without a message, after which each counts as an error
NOT_SMTP = frozenset({"CONNECT", "GET", "POST", "PUT", "HEAD", "OPTIONS"})
NOT_IMPLEMENTED = frozenset({"ETRN", "EXPN", "SAML", "SEND", "SOML", "TURN"})
WITHOUT_LOGIN = frozenset({"AUTH", "EHLO", "HELO", "HELP", "NOOP", "QUIT", "RSET", "STARTTLS"})  # RFC 4954 section 4
# Where TLS is required (RFC 3207 section 4). AUTH has a refusal of its own there.
IN_CLEAR = frozenset({"AUTH", "EHLO", "HELO", "HELP", "NOOP", "QUIT", "STARTTLS"})

OK = Reply(250, "2.0.0", "Ok")
SENDER_OK = Reply(250, "2.1.0", "Ok")
RECIPIENT_OK = Reply(250, "2.1.5", "Ok")
BYE = Reply(221, "2.0.0", "Bye")
GO_AHEAD = Reply(354, "", "End data with <CR><LF>.<CR><LF>")


class _Draining(Exception):
    """The relay stops, and this session has no transaction."""


class _Close(Exception):
    """The session ends after the last reply."""


class Session:
    """An SMTP session with one client.

    Args:
        stream: the connection, after PROXY and implicit TLS.
        client: the client, without what EHLO and STARTTLS will tell.
        account: the connection, memory and disk space that the client takes.
        tls: returns the context for STARTTLS; None where it is not offered.
        require_tls: whether mail without TLS is refused (RFC 3207 section 4).
        authenticator: checks logins; None where the listener takes none.
        require_login: whether mail without a login is refused (RFC 4954 section 6).
    """

    def __init__(
        self,
        stream: Stream,
        client: Client,
        handler: Handler,
        config: Config,
        account: Account,
        ids: QueueIds,
        *,
        tls: Callable[[], ssl.SSLContext] | None = None,
        require_tls: bool = False,
        authenticator: Authenticator | None = None,
        require_login: bool = False,
    ) -> None:
        self._stream = stream
        self._client = client
        self._handler = handler
        self._config = config
        self._account = account
        self._ids = ids
        self._tls = tls
        self._require_tls = require_tls
        self._authenticator = authenticator
        self._require_login = require_login
        self._transaction: Transaction | None = None
        self._chunk: Chunk | None = None  # of the last command, if that was BDAT, until it is read
        self._incoming: Incoming | None = None  # the message of the transaction, once it has begun to come
        self._errors = 0
        self._idle = 0
        self._last = "connect"
        self._counts = CommandCounts()
        self._draining = False
        self._at_rest = False
        self._log = log.bind(ip=client.ip)

    async def run(self) -> None:
        """Runs the session to its end. The last reply may be left for `Stream.close` to send."""
        self._log.info("connect", port=self._client.port, tls=self._tls_shown)
        self._stream.write(f"220 {self._config.hostname} ESMTP srs-relay\r\n".encode())
        try:
            while True:
                await self._turn()
        except _Draining:
            self._farewell("4.3.2", "the system is shutting down, try again shortly")
        except TimedOut:
            self._farewell("4.4.2", "Error: timeout exceeded")
            self._log.info("timeout")
        except TooSlow as slow:
            if self._transaction is not None and self._incoming is not None:
                bound = self._log.bind(id=id_text(self._transaction.id))
                bound.info("too_slow", size=self._incoming.size, octets_a_second=slow.rate)
            self._farewell("4.4.2", "Error: too slow while others wait for room, try again later")
        except Disconnected:
            self._log.info("lost", after=self._last)
        except _Close:
            pass
        except Exception:
            self._log.exception("session_failed")
            self._farewell("4.3.0", "internal error, try again later")
        finally:
            self._forget_transaction()
            self._log.info("disconnect", port=self._client.port, **self._counts.fields())

    def drain(self) -> None:
        """Ends the session as soon as it has no transaction."""
        self._draining = True
        if self._at_rest:
            self._stream.interrupt(_Draining())

    async def _turn(self) -> None:
        if not self._stream.corked:
            await self._stream.flush()
            if self._draining and self._transaction is None:
                raise _Draining
        try:
            await self._dispatch(await self._next_command())
        except Refused as refused:
            if self._chunk is not None:
                await self._drop_chunk(self._chunk, refused)
            else:
                self._refuse(refused.reply)

    async def _next_command(self) -> Command:
        """The next command, counted. Raises: Refused, for a line that is none."""
        self._at_rest = self._transaction is None
        try:
            longest = AUTH_LINE if self._takes_logins else COMMAND_LINE
            line = await self._stream.read_line(longest, self._command_timeout)
            if len(line) > COMMAND_LINE and beginning_of(line[:BEGINNING]).verb != "AUTH":
                raise LineTooLong(line[:BEGINNING])
        except LineTooLong as too_long:
            refused = Refused(500, "5.5.2", "Error: command line too long")
            self._note_refused_line(too_long.beginning, refused)
            raise refused from None
        self._at_rest = False
        try:
            command = parse_line(line)
        except Refused as refused:
            self._note_refused_line(line, refused)
            raise
        self._came(command.verb)
        if command.verb == "BDAT":
            self._chunk = self._parse_chunk(command.argument)
        return command

    def _note_refused_line(self, line: bytes, refused: Refused) -> None:
        """Counts a line that is no command by its verb, and logs a try to log in, which often has odd octets in it.

        Raises: _Close, after BDAT, whose chunk cannot be told from commands.
        """
        verb, argument = beginning_of(line)
        self._came(verb)
        if verb == "BDAT":
            self._refuse(refused.reply)
            raise _Close
        if verb == "AUTH":
            self._log_auth(argument, refused)

    def _came(self, verb: str) -> None:
        self._last = counted_as(verb)
        self._counts.came(self._last)

    def _log_auth(self, argument: str, refused: Refused) -> None:
        user = refused.user if isinstance(refused, LoginFailed) and refused.known else None
        self._log.info("auth", mechanism=sasl_mechanism(argument), user=user, reply=str(refused.reply))

    async def _dispatch(self, command: Command) -> None:
        verb = command.verb
        if verb in NOT_SMTP:
            self._reply(Reply(521, "5.7.0", "Error: this is a mail server"))
            raise _Close
        action = self._ACTIONS.get(verb)
        if action is None:
            if verb in NOT_IMPLEMENTED:
                raise Refused(502, "5.5.1", "Error: command not implemented")
            raise Refused(500, "5.5.1", "Error: command not recognized")
        if self._require_tls and not self._client.tls and verb not in IN_CLEAR:
            raise Refused(530, "5.7.0", "Must issue a STARTTLS command first")
        if self._require_login and not self._client.user and verb not in WITHOUT_LOGIN:
            raise Refused(530, "5.7.0", "Authentication required")
        if not command.argument.isascii() and verb not in ("AUTH", "MAIL", "RCPT", "VRFY"):
            raise Refused(501, "5.5.4", "Error: only ASCII is allowed here")
        ends = verb == "DATA" or (self._chunk is not None and self._chunk.last)
        serves = verb in ("MAIL", "RCPT") or (self._chunk is not None and self._chunk.size > 0)
        self._idle = 0 if ends else self._idle + (not serves)
        await action(self, command.argument)
        self._counts.was_good(self._last)
        if self._idle > IDLE_COMMANDS:
            self._count_error()

    # greetings

    @property
    def _tls_shown(self) -> str | None:
        return self._client.tls or None

    @property
    def _offers_tls(self) -> bool:
        return self._tls is not None and not self._client.tls

    async def _ehlo(self, argument: str) -> None:
        self._greet(argument, "ESMTP")
        offers = [
            self._config.hostname,
            "PIPELINING",
            f"SIZE {self._config.receive.max_message_size}",
            *(["STARTTLS"] if self._offers_tls else []),
            *(["REQUIRETLS"] if self._client.tls else []),  # RFC 8689 section 2
            "ENHANCEDSTATUSCODES",
            "8BITMIME",
            "DSN",
            "SMTPUTF8",
            "CHUNKING",
            *([f"AUTH {' '.join(mechanisms)}"] if (mechanisms := self._mechanisms()) else []),
        ]
        lines = [f"250-{offer}\r\n" for offer in offers[:-1]] + [f"250 {offers[-1]}\r\n"]
        self._stream.write("".join(lines).encode())

    async def _helo(self, argument: str) -> None:
        self._greet(argument, "SMTP")
        self._stream.write(f"250 {self._config.hostname}\r\n".encode())

    def _greet(self, argument: str, protocol: str) -> None:
        name = argument.partition(" ")[0]  # any name: RFC 5321 section 4.1.4 forbids to refuse mail because of it
        if not name:
            raise Refused(501, "5.5.4", "Syntax: EHLO hostname")
        self._forget_transaction()
        self._client = replace(self._client, helo=name, protocol=protocol)
        self._name_protocol()

    def _name_protocol(self) -> None:
        """Tells in the name of the protocol that the client uses TLS, and that it has logged in (RFC 3848)."""
        if self._client.protocol.startswith("ESMTP"):
            protocol = "ESMTP" + "S" * bool(self._client.tls) + "A" * bool(self._client.user)
            self._client = replace(self._client, protocol=protocol)

    async def _starttls(self, argument: str) -> None:
        if self._client.tls:
            raise Refused(503, "5.5.1", "Error: TLS already active")
        if self._tls is None:
            raise Refused(502, "5.5.1", "Error: command not implemented")
        if argument:
            raise Refused(501, "5.5.4", "Syntax: STARTTLS")
        self._not_between_chunks()
        self._forget_transaction()
        self._reply(Reply(220, "2.0.0", "Ready to start TLS"))
        await self._stream.flush()
        try:
            await self._stream.start_tls(self._tls(), HANDSHAKE_TIMEOUT)
        except OSError as error:  # ssl.SSLError is one
            self._log.info("tls_failed", problem=str(error) or "connection lost during the TLS handshake")
            raise _Close from None
        # RFC 3207 section 4.2: what the client said before TLS does not count
        tls, bits = self._stream.tls, self._stream.cipher_bits
        self._client = replace(self._client, helo="", protocol="SMTP", tls=tls, cipher_bits=bits)
        self._log.info("starttls", tls=self._client.tls)

    # logins

    @property
    def _takes_logins(self) -> bool:
        """Whether the client can log in now: RFC 4954 section 4 lets PLAIN be used inside TLS only."""
        return self._authenticator is not None and bool(self._client.tls)

    def _mechanisms(self) -> Sequence[str]:
        """The mechanisms that EHLO offers."""
        return self._authenticator.mechanisms() if self._authenticator is not None and self._client.tls else ()

    async def _auth(self, argument: str) -> None:
        try:
            if self._transaction is not None:
                raise Refused(503, "5.5.1", "Error: AUTH is not permitted during a mail transaction")
            timeout = self._config.limits.command_timeout
            login = await log_in(self._stream, self._authenticator, self._client, argument, timeout)
        except Refused as refused:
            self._log_auth(argument, refused)
            raise
        self._client = replace(self._client, trusted=True, user=login.user)
        self._name_protocol()
        self._account.trust()
        reply = Reply(235, "2.7.0", "Authentication successful")
        self._log.info("auth", mechanism=sasl_mechanism(argument), user=login.user, reply=str(reply))
        self._reply(reply)

    # transactions

    async def _mail(self, argument: str) -> None:
        if not self._client.helo:
            raise Refused(503, "5.5.1", "Error: send EHLO first")
        if self._transaction is not None:
            raise Refused(503, "5.5.1", "Error: nested MAIL command")
        queue_id, mail = self._ids.new(), None
        bound = self._log.bind(id=id_text(queue_id))
        try:
            mail = parse_mail(argument, encrypted=bool(self._client.tls), auth=self._takes_logins)
            if mail.size > self._config.receive.max_message_size:
                raise Refused(552, "5.3.4", "Message size exceeds fixed limit")
            self._account.check(mail.size)
            transaction = Transaction(queue_id, mail)
            await self._handler.mail(self._client, transaction)
        except Refused as refused:
            self._handler.reset()
            sender = argument if mail is None else mail.sender
            bound.info("mail", sender=sender, helo=self._client.helo, tls=self._tls_shown, reply=str(refused.reply))
            raise
        self._transaction = transaction
        bound.info("mail", sender=mail.sender, helo=self._client.helo, tls=self._tls_shown)
        self._reply(SENDER_OK)

    async def _rcpt(self, argument: str) -> None:
        transaction = self._transaction
        if transaction is None:
            raise Refused(503, "5.5.1", "Error: need MAIL command")
        self._not_between_chunks()
        bound, rcpt = self._log.bind(id=id_text(transaction.id)), None
        try:
            rcpt = parse_rcpt(argument, transaction.mail.smtputf8)
            if len(transaction.recipients) >= self._config.limits.recipients:
                raise Refused(452, "4.5.3", "Error: too many recipients")
            await self._handler.rcpt(self._client, transaction, rcpt)
        except Refused as refused:
            transaction.refused += 1
            bound.info("rcpt", rcpt=argument if rcpt is None else rcpt.recipient, reply=str(refused.reply))
            raise
        transaction.recipients.append(rcpt)
        bound.info("rcpt", rcpt=rcpt.recipient)
        self._reply(RECIPIENT_OK)

    async def _data(self, argument: str) -> None:
        self._not_between_chunks()
        transaction = self._ready_transaction()
        if argument:
            raise Refused(501, "5.5.4", "Syntax: DATA")
        self._reply(GO_AHEAD)
        await self._stream.flush()
        incoming = self._incoming = self._begin(DataDecoder())
        await incoming.read_from(self._stream, self._config.limits.data_timeout)
        await self._complete(incoming, transaction)

    def _ready_transaction(self) -> Transaction:
        """The transaction whose message may come now. Raises: Refused."""
        transaction = self._transaction
        if transaction is None:
            raise Refused(503, "5.5.1", "Error: need MAIL command")
        if not transaction.recipients:
            if transaction.refused:
                raise Refused(554, "5.5.1", "Error: no valid recipients")
            raise Refused(503, "5.5.1", "Error: need RCPT command")
        return transaction

    def _begin(self, decoder: DataDecoder | ChunkDecoder) -> Incoming:
        normalizes = self._client.trusted or self._config.receive.bare_newline == "normalize"
        return Incoming(self._config.receive, self._account, normalizes=normalizes, decoder=decoder)

    async def _complete(self, incoming: Incoming, transaction: Transaction) -> None:
        """Answers the end of a message, and of its transaction. Raises: Refused, if it is not taken."""
        try:
            reply = await self._take(incoming, transaction)
        finally:
            self._forget_transaction()
        if not reply.positive:
            raise Refused.of(reply)
        self._errors = 0
        self._account.accepted()
        self._reply(reply)

    async def _take(self, incoming: Incoming, transaction: Transaction) -> Reply:
        """Asks the handler for the reply to a message that has come to its end."""
        bound = self._log.bind(id=id_text(transaction.id))
        try:
            message = await incoming.message()
            await read_header(message)
        except Refused as refused:
            bound.info("data", size=incoming.size, reply=str(refused.reply))
            return refused.reply
        bound.info("data", size=len(message.content), message_id=shown_message_id(message))
        return await self._handler.data(self._client, transaction, message, self._stream.ended)

    # a message in chunks (RFC 3030)

    def _parse_chunk(self, argument: str) -> Chunk:
        """The chunk behind BDAT. Raises: _Close, where nobody knows at which octet the next command begins."""
        try:
            return parse_bdat(argument, self._config.receive.max_message_size)
        except Refused as refused:
            self._refuse(refused.reply)
            raise _Close from None

    async def _bdat(self, argument: str) -> None:
        transaction, chunk = self._ready_transaction(), self._chunk
        assert chunk is not None
        incoming = self._incoming = self._incoming or self._begin(ChunkDecoder())
        if incoming.refusal is not None:
            raise incoming.refusal
        self._chunk = None
        await self._stream.flush()
        await chunk.read(incoming, self._stream, self._config.limits.data_timeout)
        if chunk.last:
            await self._complete(incoming, transaction)
        elif incoming.refusal is not None:
            self._log.info("data", id=id_text(transaction.id), size=incoming.size, reply=str(incoming.refusal.reply))
            raise incoming.refusal
        else:
            self._reply(Reply(250, "2.0.0", f"{chunk.size} octets received"))

    async def _drop_chunk(self, chunk: Chunk, refused: Refused) -> None:
        """Answers BDAT with a refusal, once its octets are read and dropped.

        The transaction is lost with it: what comes after a chunk that is missing must not pass for the whole message.
        A client that has sent more chunks ahead gets the same answer for each, which counts as one error.
        """
        self._chunk = None
        await self._stream.flush()
        await chunk.drop(self._stream, self._config.limits.data_timeout)
        if self._incoming is not None and self._incoming.refusal is not None:
            self._reply(refused.reply)
        else:
            if self._transaction is not None:
                self._incoming = self._incoming or self._begin(ChunkDecoder())
                self._incoming.refuse(refused)
            self._refuse(refused.reply)
        if chunk.last:
            self._forget_transaction()

    def _not_between_chunks(self) -> None:
        """Raises: Refused, 503, the message of the transaction has begun to come in chunks."""
        if self._incoming is not None:
            raise Refused(503, "5.5.1", f"Error: {self._last} after BDAT")

    @property
    def _command_timeout(self) -> float:
        """Seconds to wait for a command; a message that has begun to come in chunks must not take longer than one by
        DATA."""
        limits = self._config.limits
        if self._incoming is None:
            return limits.command_timeout
        return min(limits.command_timeout, self._incoming.time_left(limits.data_timeout))

    # other commands

    async def _rset(self, argument: str) -> None:
        if argument:
            raise Refused(501, "5.5.4", "Syntax: RSET")
        self._forget_transaction()
        self._reply(OK)

    async def _noop(self, argument: str) -> None:
        self._reply(OK)

    async def _vrfy(self, argument: str) -> None:
        self._reply(Reply(252, "2.5.2", "Cannot VRFY a user, send mail and see"))

    async def _help(self, argument: str) -> None:
        hidden = {"STARTTLS": not self._offers_tls, "AUTH": not self._takes_logins}
        commands = (verb for verb in self._ACTIONS if not hidden.get(verb))
        self._reply(Reply(214, "2.0.0", f"{' '.join(commands)}, see RFC 5321"))

    async def _quit(self, argument: str) -> None:
        self._reply(BYE)
        self._counts.was_good("QUIT")
        raise _Close

    _ACTIONS: ClassVar[Mapping[str, Callable[[Session, str], Awaitable[None]]]] = {
        "EHLO": _ehlo,
        "HELO": _helo,
        "MAIL": _mail,
        "RCPT": _rcpt,
        "DATA": _data,
        "BDAT": _bdat,
        "RSET": _rset,
        "NOOP": _noop,
        "QUIT": _quit,
        "VRFY": _vrfy,
        "HELP": _help,
        "STARTTLS": _starttls,
        "AUTH": _auth,
    }

    def _forget_transaction(self) -> None:
        if self._transaction is not None:
            self._transaction = None
            self._handler.reset()
        if self._incoming is not None:
            self._incoming.close()
            self._incoming = None

    def _reply(self, reply: Reply) -> None:
        self._stream.write(f"{reply}\r\n".encode("ascii", "replace"))

    def _farewell(self, enhanced: str, text: str) -> None:
        self._reply(Reply(421, enhanced, f"{self._config.hostname} {text}"))

    def _refuse(self, reply: Reply) -> None:
        self._reply(reply)
        self._handler.refused(reply)
        self._count_error()

    def _count_error(self) -> None:
        """Counts an error since the last accepted message, and ends the session after too many."""
        self._errors += 1
        if self._errors >= self._config.limits.errors and not self._client.trusted:
            self._farewell("4.7.0", "Error: too many errors")
            self._log.info("too_many_errors")
            raise _Close
