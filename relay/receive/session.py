"""An SMTP session from greeting to QUIT (RFC 5321): it reads a command, has it done, replies, and counts errors.

The commands themselves are in `greetings`, `logins` and `transactions`; those with nothing to them are here. None of
them raises out of the session: any input ends in a reply or in a closed connection.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import ClassVar, NoReturn

from relay.mail.queue_id import QueueIds, id_text
from relay.mail.reply import ComeAgain, Refused, Reply, printable
from relay.receive.auth_exchange import LINE as AUTH_LINE
from relay.receive.command import Command, beginning_of, parse_line
from relay.receive.command_counts import CommandCounts
from relay.receive.connection import Connection, SessionOver
from relay.receive.greetings import Greetings
from relay.receive.logins import Logins
from relay.receive.min_rate import TooSlow
from relay.receive.stream import BEGINNING, Disconnected, LineTooLong, TimedOut
from relay.receive.transactions import Transactions

COMMAND_LINE = 2048  # octets: 512 of RFC 5321 section 4.5.3.1.4 and what SMTPUTF8 and DSN parameters add
IDLE_COMMANDS = 100  # commands without a message, after which each counts as an error
OVERSHOOT = 1000  # recipients past a limit that come again later and are no errors, as with Postfix
NOT_SMTP = frozenset({"CONNECT", "GET", "POST", "PUT", "HEAD", "OPTIONS"})
NOT_IMPLEMENTED = frozenset({"ETRN", "EXPN", "SAML", "SEND", "SOML", "TURN"})
WITHOUT_LOGIN = frozenset({"AUTH", "EHLO", "HELO", "HELP", "NOOP", "QUIT", "RSET", "STARTTLS"})  # RFC 4954 section 4
# Where TLS is required (RFC 3207 section 4). AUTH has a refusal of its own there.
IN_CLEAR = frozenset({"AUTH", "EHLO", "HELO", "HELP", "NOOP", "QUIT", "STARTTLS"})


class _Draining(Exception):
    """The relay stops, and this session has no transaction."""


class Session:
    """An SMTP session with one client, after PROXY and implicit TLS."""

    def __init__(self, connection: Connection, ids: QueueIds) -> None:
        self._connection = connection
        self._stream = connection.stream
        self._transactions = Transactions(connection, ids)
        self._greetings = Greetings(connection, self._transactions)
        self._logins = Logins(connection, self._transactions)
        self._errors = 0  # since the last accepted message
        self._overshoot = 0  # recipients that were too many, since then
        self._idle = 0
        self._counts = CommandCounts()
        self._draining = False
        self._at_rest = False

    async def run(self) -> None:
        """Runs the session to its end. The last reply may be left for `Stream.close` to send."""
        client, config = self._connection.client, self._connection.config
        self._connection.log.info("connect", port=client.port, tls=client.tls or None)
        try:
            if self._connection.greeting_delay:
                await self._wait_for_silence(self._connection.greeting_delay)
            self._connection.reply(Reply(220, "", f"{config.hostname} ESMTP srs-relay"))
            await self._obey()
        except _Draining:
            self._farewell("4.3.2", "the system is shutting down, try again shortly")
        except TimedOut:
            self._farewell("4.4.2", "Error: timeout exceeded")
            self._connection.log.info("timeout")
        except TooSlow as slow:
            transaction, incoming = self._transactions.current, self._transactions.incoming
            if transaction is not None and incoming is not None:
                queue_id = id_text(transaction.id)
                self._connection.log.info("too_slow", id=queue_id, size=incoming.size, octets_a_second=slow.rate)
            self._farewell("4.4.2", "Error: too slow while others wait for room, try again later")
        except Disconnected:
            self._connection.log.info("lost", after=self._counts.last)
        except SessionOver:
            pass
        except Exception:
            self._connection.log.exception("session_failed")
            self._farewell("4.3.0", "internal error, try again later")
        finally:
            self._transactions.forget()
            self._connection.log.info("disconnect", port=client.port, **self._counts.fields())

    def drain(self) -> None:
        """Ends the session as soon as it has no transaction."""
        self._draining = True
        if self._at_rest:
            self._stream.interrupt(_Draining())

    async def _wait_for_silence(self, seconds: float) -> None:
        """Let the client wait for the greeting. Raises SessionOver, it has not waited (RFC 5321 section 3.1)."""
        if self._draining:
            raise _Draining
        self._at_rest = True
        if not await self._stream.is_silent_for(seconds):
            said = printable(self._stream.beginning.decode("latin-1"))
            self._connection.log.info("early_talker", said=said)
            reply = Reply(554, "5.5.1", f"{self._connection.config.hostname} Error: you spoke before the greeting")
            self._connection.reply(reply)
            self._connection.handler.refused(reply)
            raise SessionOver
        self._at_rest = False

    async def _obey(self) -> None:
        """Has one command after another done. Replies leave when no further command is there."""
        while True:
            if not self._stream.corked:
                await self._stream.flush()
                if self._draining and self._transactions.current is None:
                    raise _Draining
            try:
                await self._dispatch(await self._next_command())
            except Refused as refused:
                chunk = self._transactions.chunk
                if chunk is None or await self._transactions.drop_chunk(chunk, refused):
                    self._refuse(refused.reply, comes_again=isinstance(refused, ComeAgain))
                else:
                    self._connection.reply(refused.reply)

    # the next command

    async def _next_command(self) -> Command:
        """The next command, counted. Raises: Refused, for a line that is none."""
        self._at_rest = self._transactions.current is None
        try:
            longest = AUTH_LINE if self._connection.takes_logins else COMMAND_LINE
            line = await self._stream.read_line(longest, self._transactions.command_timeout)
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
        self._counts.came(command.verb)
        if command.verb == "BDAT":
            try:
                self._transactions.announce_chunk(command.argument)
            except Refused as refused:
                self._end_at_bdat(refused)
        return command

    def _note_refused_line(self, line: bytes, refused: Refused) -> None:
        """Counts a line that is no command by its verb, and logs a try to log in, which often has odd octets in it.

        Raises: SessionOver, after BDAT, whose chunk cannot be told from commands.
        """
        verb, argument = beginning_of(line)
        self._counts.came(verb)
        if verb == "BDAT":
            self._end_at_bdat(refused)
        if verb == "AUTH":
            self._logins.log_refused(argument, refused)

    def _end_at_bdat(self, refused: Refused) -> NoReturn:
        self._refuse(refused.reply)
        raise SessionOver from None

    async def _dispatch(self, command: Command) -> None:
        verb, client = command.verb, self._connection.client
        if verb in NOT_SMTP:
            self._connection.reply(Reply(521, "5.7.0", "Error: this is a mail server"))
            raise SessionOver
        action = self._ACTIONS.get(verb)
        if action is None:
            if verb in NOT_IMPLEMENTED:
                raise Refused(502, "5.5.1", "Error: command not implemented")
            raise Refused(500, "5.5.1", "Error: command not recognized")
        if self._connection.require_tls and not client.tls and verb not in IN_CLEAR:
            raise Refused(530, "5.7.0", "Must issue a STARTTLS command first")
        if self._connection.require_login and not client.user and verb not in WITHOUT_LOGIN:
            raise Refused(530, "5.7.0", "Authentication required")
        if not command.argument.isascii() and verb not in ("AUTH", "MAIL", "RCPT", "VRFY"):
            raise Refused(501, "5.5.4", "Error: only ASCII is allowed here")
        chunk = self._transactions.chunk
        ends = verb == "DATA" or (chunk is not None and chunk.last)
        serves = verb in ("MAIL", "RCPT") or (chunk is not None and chunk.size > 0)
        self._idle = 0 if ends else self._idle + (not serves)
        reply = await action(self, command.argument)
        if ends:  # with a message that was accepted
            self._errors = self._overshoot = 0
        if reply is not None:
            self._connection.reply(reply)
        self._counts.was_good()
        if self._idle > IDLE_COMMANDS:
            self._count_error()

    # commands with nothing to them

    async def _rset(self, argument: str) -> Reply:
        if argument:
            raise Refused(501, "5.5.4", "Syntax: RSET")
        self._transactions.forget()
        return Reply(250, "2.0.0", "Ok")

    async def _noop(self, argument: str) -> Reply:
        return Reply(250, "2.0.0", "Ok")

    async def _vrfy(self, argument: str) -> Reply:
        return Reply(252, "2.5.2", "Cannot VRFY a user, send mail and see")

    async def _help(self, argument: str) -> Reply:
        hidden = {"STARTTLS": not self._connection.offers_tls, "AUTH": not self._connection.takes_logins}
        commands = (verb for verb in self._ACTIONS if not hidden.get(verb))
        return Reply(214, "2.0.0", f"{' '.join(commands)}, see RFC 5321")

    async def _quit(self, argument: str) -> None:
        self._connection.reply(Reply(221, "2.0.0", "Bye"))
        self._stream.end_with_reply()
        self._counts.was_good()
        raise SessionOver

    # What each command does: the reply, or None where it has replied itself. The order is that of HELP.
    _ACTIONS: ClassVar[Mapping[str, Callable[[Session, str], Awaitable[Reply | None]]]] = {
        "EHLO": lambda session, argument: session._greetings.ehlo(argument),
        "HELO": lambda session, argument: session._greetings.helo(argument),
        "MAIL": lambda session, argument: session._transactions.mail(argument),
        "RCPT": lambda session, argument: session._transactions.rcpt(argument),
        "DATA": lambda session, argument: session._transactions.data(argument),
        "BDAT": lambda session, argument: session._transactions.bdat(argument),
        "RSET": _rset,
        "NOOP": _noop,
        "QUIT": _quit,
        "VRFY": _vrfy,
        "HELP": _help,
        "STARTTLS": lambda session, argument: session._greetings.starttls(argument),
        "AUTH": lambda session, argument: session._logins.auth(argument),
    }

    # refusals

    def _farewell(self, enhanced: str, text: str) -> None:
        self._connection.reply(Reply(421, enhanced, f"{self._connection.config.hostname} {text}"))

    def _refuse(self, reply: Reply, *, comes_again: bool = False) -> None:
        self._connection.reply(reply)
        self._connection.handler.refused(reply)
        self._overshoot += comes_again
        if not comes_again or self._overshoot > OVERSHOOT:
            self._count_error()

    def _count_error(self) -> None:
        """Counts an error, and ends the session of a stranger after too many."""
        self._errors += 1
        if self._errors >= self._connection.config.limits.errors and not self._connection.client.trusted:
            self._farewell("4.7.0", "Error: too many errors")
            self._connection.log.info("too_many_errors")
            raise SessionOver
