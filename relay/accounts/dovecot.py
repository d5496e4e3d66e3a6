"""Checks logins with Dovecot: SASL goes through its authentication socket, whatever the mechanism.

A worker has one connection, made at its start and again in the background when it was lost. Where Dovecot is not there
yet, the relay starts without it, offers no login, and connects as soon as it can.

The connection is replaced every minute, because Dovecot's authentication process outlives a reload, and even its
master, for as long as a client is connected: it would go on with the users and passwords of before.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from pathlib import Path

import structlog

from relay.accounts.dovecot_connection import Disconnected, DovecotConnection, Unreachable
from relay.accounts.dovecot_protocol import LINE, Accepted, Continued, Failed, auth_line, cont_line
from relay.mail.envelope import Client
from relay.mail.reply import Refused
from relay.receive.authenticator import Challenge, LoggedIn

log = structlog.get_logger()

RENEWED_AFTER = 60.0  # seconds after which a connection is replaced
FIRST_PAUSE = 0.2  # seconds before the first new try to connect
LONGEST_PAUSE = 5.0  # seconds; the pause doubles up to here, as long as in Dovecot's own clients
PATIENCE = 5.0  # seconds that a login waits for a connection
SAID_AGAIN = 600.0  # seconds after which the log names the same trouble again
_TROUBLES = 50  # that are remembered


class DovecotAuthenticator:
    """The `Authenticator` of `[auth] dovecot`. `run` keeps the connection and belongs to the worker's background tasks.

    Args:
        path: the socket.
        quiet: whether another worker logs what all of them see: that the socket is there or not.
    """

    def __init__(self, path: Path, *, quiet: bool = False) -> None:
        self._path = path
        self._quiet = quiet
        self._mechanisms: tuple[str, ...] = ()
        self._connection: DovecotConnection | None = None
        self._reading: dict[DovecotConnection, asyncio.Task[None]] = {}  # those that were replaced, too
        self._connected = asyncio.Event()
        self._wanted = asyncio.Event()  # a login waits
        self._said: dict[str, float] = {}  # the troubles that the log has, and when they were logged
        self._well = False  # whether the log says that there is a connection

    def mechanisms(self) -> Sequence[str]:
        """Those of the last good handshake; none before the first."""
        return self._mechanisms

    def login(self, mechanism: str, client: Client) -> DovecotLogin:
        return DovecotLogin(self, mechanism, client)

    async def connection(self) -> DovecotConnection:
        """The connection; waits a little for a new one.

        Raises:
            Disconnected: there is none.
        """
        self._wanted.set()
        try:
            async with asyncio.timeout(PATIENCE):
                while self._connection is None or self._connection.ended:
                    self._connected.clear()
                    await self._connected.wait()
        except TimeoutError:
            raise Disconnected("no connection to Dovecot") from None
        return self._connection

    async def run(self) -> None:
        """Keeps the connection until cancelled."""
        pause = FIRST_PAUSE
        try:
            while True:
                lasted = 0.0
                try:
                    lasted = await self._connect_once()
                except Exception:
                    log.exception("dovecot_failed", path=str(self._path))
                if lasted < RENEWED_AFTER:
                    pause = FIRST_PAUSE if lasted > LONGEST_PAUSE else min(2 * pause, LONGEST_PAUSE)
                    await self._pause(pause)
        finally:
            readings = list(self._reading.values())
            for connection in self._reading:
                connection.retire()
                connection.end("the relay stops")
            await asyncio.gather(*readings)

    async def _pause(self, pause: float) -> None:
        """Waits; a login that wants a connection cuts it short."""
        self._wanted.clear()
        await asyncio.sleep(FIRST_PAUSE)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(pause - FIRST_PAUSE):
                await self._wanted.wait()

    async def _connect_once(self) -> float:
        """Makes a connection that takes the place of the one before; returns for how many seconds it has lasted.

        It lasts for `RENEWED_AFTER` seconds at most; then it goes on only with the logins that it has.
        """
        loop = asyncio.get_running_loop()
        try:
            connection = await DovecotConnection.connect(self._path)
        except Unreachable as error:
            self._retire()
            if self._is_news(str(error)) and not self._quiet:
                log.error("dovecot_unreachable", path=str(self._path), problem=str(error), mend=error.mend)
            return 0.0
        self._retire()
        self._connection, self._mechanisms = connection, connection.mechanisms
        self._connected.set()
        if not self._well and not self._quiet:
            log.info("dovecot_connected", path=str(self._path), mechanisms=list(self._mechanisms))
        self._well = True
        began = loop.time()
        reading = self._reading[connection] = asyncio.create_task(self._read(connection))
        await asyncio.wait([reading], timeout=RENEWED_AFTER)
        return RENEWED_AFTER if not reading.done() else loop.time() - began

    def _retire(self) -> None:
        if self._connection is not None:
            self._connection.retire()
            self._connection = None

    async def _read(self, connection: DovecotConnection) -> None:
        """Reads a connection to its end, and says why it has ended."""
        began = asyncio.get_running_loop().time()
        try:
            await connection.read()
        except Exception:
            log.exception("dovecot_failed", path=str(self._path))
        finally:
            connection.end("the relay gave it up")
            del self._reading[connection]
        if asyncio.get_running_loop().time() > began + LONGEST_PAUSE:
            self._said.clear()  # what was wrong before is over
        if not connection.retired and self._is_news(connection.ended):
            if connection.faulty:
                log.error("dovecot_lost", path=str(self._path), problem=connection.ended)
            elif not self._quiet:
                log.info("dovecot_lost", path=str(self._path), problem=connection.ended)

    def _is_news(self, trouble: str) -> bool:
        """Whether the log has not said so lately. News ends what it says of a good connection."""
        now = asyncio.get_running_loop().time()
        if now < self._said.get(trouble, -SAID_AGAIN) + SAID_AGAIN:
            return False
        if len(self._said) == _TROUBLES:
            self._said.clear()
        self._said[trouble] = now
        self._well = False
        return True


class DovecotLogin:
    """A `Login` that Dovecot checks: each response of the client goes to it, and each answer comes back."""

    def __init__(self, authenticator: DovecotAuthenticator, mechanism: str, client: Client) -> None:
        self._authenticator = authenticator
        self._mechanism = mechanism
        self._client = client
        self._connection: DovecotConnection | None = None
        self._number = 0
        self._refused: Refused | None = None  # decided; the client has yet to answer the mechanism's error

    async def step(self, response: bytes | None) -> Challenge | LoggedIn:
        if self._refused is not None:
            raise self._refused
        try:
            answer = await self._ask(response)
        except Disconnected:
            raise _not_now() from None
        if isinstance(answer, Continued):
            return Challenge(answer.challenge)
        if isinstance(answer, Accepted):
            return LoggedIn(answer.user, answer.last)
        refused = _refusal(answer)
        if answer.last is None:
            raise refused
        self._refused = refused
        return Challenge(answer.last)

    async def _ask(self, response: bytes | None) -> Continued | Accepted | Failed:
        if self._connection is not None:
            line = cont_line(self._number, response or b"")
        else:
            connection = await self._authenticator.connection()
            if self._mechanism not in connection.mechanisms:  # an unknown one ends the connection, for all logins
                raise Refused(504, "5.5.4", "Error: this mechanism is not offered any more")
            self._number = connection.begin()
            self._connection = connection
            line = auth_line(self._number, self._mechanism, self._client, response)
        if len(line) > LINE:  # likewise
            raise Refused(500, "5.5.6", "Error: authentication exchange line is too long")  # RFC 4954 section 4
        return await self._connection.ask(self._number, line)

    def close(self) -> None:
        if self._connection is not None:
            self._connection.cancel(self._number)


def _not_now(reason: str = "") -> Refused:
    return Refused(454, "4.7.0", f"Temporary authentication failure: {reason or 'try again later'}")


def _refusal(failed: Failed) -> Refused:
    """RFC 4954 section 6."""
    if failed.temporary:
        return _not_now(failed.reason)
    return Refused(535, "5.7.8", f"Authentication failed{failed.reason and ': ' + failed.reason}")
