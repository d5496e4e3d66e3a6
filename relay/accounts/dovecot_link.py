"""Keeps a worker connected to Dovecot's authentication socket.

The connection is made at the worker's start, and again in the background when it was lost. It is replaced every minute,
because Dovecot's authentication process outlives a reload, and even its master, for as long as a client is connected:
it would go on with the users and passwords of before.
"""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path

import structlog

from relay.accounts.dovecot_connection import Disconnected, DovecotConnection
from relay.accounts.dovecot_unreachable import Unreachable

log = structlog.get_logger()

RENEWED_AFTER = 60.0  # seconds after which a connection is replaced
FIRST_PAUSE = 0.2  # seconds before the first new try to connect
LONGEST_PAUSE = 5.0  # seconds; the pause doubles up to here, as long as in Dovecot's own clients
PATIENCE = 5.0  # seconds that a login waits for a connection
SAID_AGAIN = 600.0  # seconds after which the log names the same trouble again
_TROUBLES = 50  # that are remembered


class DovecotLink:
    """The connection of one worker, as far as there is one.

    Args:
        path: the socket.
        quiet: whether another worker logs what all of them see: that the socket is there or not.

    Attributes:
        mechanisms: those of the last good handshake; none before the first.
    """

    def __init__(self, path: Path, *, quiet: bool = False) -> None:
        self._path = path
        self._quiet = quiet
        self.mechanisms: tuple[str, ...] = ()
        self._connection: DovecotConnection | None = None
        self._reading: dict[DovecotConnection, asyncio.Task[None]] = {}  # those that were replaced, too
        self._connected = asyncio.Event()
        self._wanted = asyncio.Event()  # a login waits
        self._said: dict[str, float] = {}  # the troubles that the log has, and when they were logged
        self._well = False  # whether the log says that there is a connection

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
            if self._notes(str(error)) and not self._quiet:
                log.error("dovecot_unreachable", path=str(self._path), problem=str(error), mend=error.mend)
            return 0.0
        self._retire()
        self._connection, self.mechanisms = connection, connection.mechanisms
        self._connected.set()
        if not self._well and not self._quiet:
            log.info("dovecot_connected", path=str(self._path), mechanisms=list(self.mechanisms))
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
        if not connection.retired and self._notes(connection.ended):
            if connection.faulty:
                log.error("dovecot_lost", path=str(self._path), problem=connection.ended)
            elif not self._quiet:
                log.info("dovecot_lost", path=str(self._path), problem=connection.ended)

    def _notes(self, trouble: str) -> bool:
        """Notes a trouble, which the log names instead of a good connection; False if it has named it lately."""
        now = asyncio.get_running_loop().time()
        if now < self._said.get(trouble, -SAID_AGAIN) + SAID_AGAIN:
            return False
        if len(self._said) == _TROUBLES:
            self._said.clear()
        self._said[trouble] = now
        self._well = False
        return True
