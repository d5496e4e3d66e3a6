"""One connection to Dovecot's authentication socket, shared by all logins of a worker.

Each login has a number, and the answers come in any order. A login whose answer does not come gets `Disconnected`:
because the connection has ended, or because Dovecot takes too long.
"""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

from relay.accounts.dovecot_protocol import (
    LARGEST_ID,
    LINE,
    Answer,
    BadLine,
    Continued,
    Failed,
    Handshake,
    cancel_line,
    greeting,
    parse_answer,
)
from relay.accounts.dovecot_unreachable import OTHER_SOCKET, Unreachable, not_connected, not_greeted

HANDSHAKE_TIMEOUT = 10.0  # seconds, as in Postfix
ANSWER_TIMEOUT = 30.0  # seconds: Dovecot itself delays the answer to a client that guesses, by up to 17
UNSENT = 256 * 1024  # octets that Dovecot has not read yet, above which no login begins


class Disconnected(Exception):
    """The answer to a login does not come; the text says why."""


class DovecotConnection:
    """A connection after its handshake; `connect` makes it.

    Attributes:
        mechanisms: what Dovecot offers on it.
        ended: why it has ended; empty while it is open.
        faulty: whether that was a fault, and not Dovecot being stopped.
        retired: whether it takes no more logins, and ends with the last one.
    """

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, mechanisms: list[str]) -> None:
        self.mechanisms = tuple(mechanisms)
        self.ended = ""
        self.faulty = False
        self.retired = False
        self._reader = reader
        self._writer = writer
        self._loop = asyncio.get_running_loop()
        self._heard = self._loop.time()
        self._last_number = 0
        # The logins under way: what waits for an answer, or has one that nobody has asked for yet; None where it is the
        # client's turn.
        self._logins: dict[int, asyncio.Future[Answer] | None] = {}

    @classmethod
    async def connect(cls, path: Path, user: str = "") -> DovecotConnection:
        """Connects and shakes hands.

        Args:
            user: who has to be able to connect; default: the user of this process.

        Raises:
            Unreachable: nobody listens there, we may not connect, or it is not Dovecot's socket for clients.
        """
        handshake = Handshake()
        try:
            async with asyncio.timeout(HANDSHAKE_TIMEOUT):
                reader, writer = await asyncio.open_unix_connection(path, limit=LINE)
                try:
                    writer.write(greeting(os.getpid()))
                    while not handshake.take((await reader.readuntil(b"\n"))[:-1]):
                        pass
                except BaseException:
                    writer.transport.abort()
                    raise
        except TimeoutError:
            raise not_greeted(handshake, f"it does not greet within {HANDSHAKE_TIMEOUT:g} seconds") from None
        except (asyncio.IncompleteReadError, BrokenPipeError, ConnectionResetError):
            raise not_greeted(handshake, "it closes the connection at once") from None
        except OSError as error:
            raise not_connected(error, path, user) from None
        except asyncio.LimitOverrunError:
            raise Unreachable(f"it sends a line of more than {LINE} octets", OTHER_SOCKET) from None
        except BadLine as bad:
            raise Unreachable(str(bad), OTHER_SOCKET) from None
        return cls(reader, writer, handshake.mechanisms)

    async def read(self) -> None:
        """Gives the logins their answers until the connection ends."""
        try:
            while not self.ended:
                line = await self._reader.readuntil(b"\n")
                self._heard = self._loop.time()
                if (answer := parse_answer(line[:-1])) is not None:
                    self._take(answer)
        except (asyncio.IncompleteReadError, ConnectionError):
            self.end("it closed the connection")
        except asyncio.LimitOverrunError:
            self.end(f"it sent a line of more than {LINE} octets", faulty=True)
        except BadLine as bad:
            self.end(f"it sent {bad}", faulty=True)
        except OSError as error:
            self.end(error.strerror or str(error), faulty=True)

    def _take(self, answer: Answer) -> None:
        if not 0 < answer.id <= self._last_number:
            raise BadLine("an answer to a login that never was")
        if answer.id not in self._logins:
            return  # the client has given up, which Dovecot did not know yet
        waiting = self._logins[answer.id]
        if waiting is None:
            if not isinstance(answer, Failed):
                raise BadLine("an answer before the client's turn was over")
            waiting = self._logins[answer.id] = self._loop.create_future()  # it does not wait for the client any more
        if not waiting.done():
            waiting.set_result(answer)

    def end(self, why: str, *, faulty: bool = False) -> None:
        """Closes the connection. The logins under way get `Disconnected`."""
        if self.ended:
            return
        self.ended, self.faulty = why, faulty
        self._writer.transport.abort()
        for waiting in self._logins.values():
            if waiting is not None and not waiting.done():
                waiting.set_exception(Disconnected(why))
        self._logins.clear()

    def retire(self) -> None:
        """Takes no more logins, and ends with the last that is under way."""
        self.retired = True
        self._end_if_over()

    def _end_if_over(self) -> None:
        if self.retired and not self._logins:
            self.end("another has taken its place")

    def begin(self) -> int:
        """The number of a new login, which `ask` or `cancel` ends.

        Raises:
            Disconnected: the connection has ended, or Dovecot does not read.
        """
        if self._last_number == LARGEST_ID:
            self.end("its numbers are used up")
        if self.ended or self._writer.is_closing():
            raise Disconnected(self.ended or "it is broken")
        if self._writer.transport.get_write_buffer_size() > UNSENT:
            raise Disconnected("it does not read")
        self._last_number += 1
        self._logins[self._last_number] = None
        return self._last_number

    async def ask(self, number: int, line: bytes) -> Answer:
        """Sends a line of a login and waits for the answer.

        Raises:
            Disconnected: no answer comes. The login is over.
        """
        if number not in self._logins:
            raise Disconnected(self.ended or "the login is over")
        answer = self._logins[number]
        if answer is None:
            answer = self._logins[number] = self._loop.create_future()
            self._write(line)
        sent = self._loop.time()
        try:
            async with asyncio.timeout(ANSWER_TIMEOUT):
                came = await answer
        except TimeoutError:
            self.cancel(number)
            if self._heard < sent:  # not to this login alone
                self.end(f"it did not answer for {ANSWER_TIMEOUT:g} seconds", faulty=True)
            raise Disconnected("it did not answer in time") from None
        if not isinstance(came, Continued):
            self._logins.pop(number, None)
            self._end_if_over()
        elif number in self._logins:  # the connection may have ended since
            self._logins[number] = None
        return came

    def cancel(self, number: int) -> None:
        """Ends a login that the client has given up; nothing, where it is over."""
        if number in self._logins:
            del self._logins[number]
            self._write(cancel_line(number))
            self._end_if_over()

    def _write(self, line: bytes) -> None:
        """Sends a line; where the connection is broken, `read` is about to end it."""
        if not self._writer.is_closing():  # uvloop raises RuntimeError
            self._writer.write(line)
