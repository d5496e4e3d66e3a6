"""Listening sockets, and what a new connection passes: PROXY, limits, implicit TLS, then a session.

The supervisor binds the sockets: each worker has its own for every address (SO_REUSEPORT). The supervisor keeps them
open, so that connections that wait for a dead worker are served by its successor.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
import ssl
from collections.abc import Callable
from contextlib import AbstractContextManager

import structlog

from relay.config.model import Config
from relay.config.sections import ListenSection
from relay.mail.envelope import Client
from relay.mail.queue_id import QueueIds
from relay.network import host_port, plain_ip, within
from relay.receive import proxy_protocol as proxy
from relay.receive.authenticator import Authenticator
from relay.receive.connection import Connection
from relay.receive.greetings import HANDSHAKE_TIMEOUT
from relay.receive.handler import Handler
from relay.receive.limits import Account, Limits
from relay.receive.session import Session
from relay.receive.stream import Stream

log = structlog.get_logger()

BACKLOG = 1024
_ACCEPT_AT_ONCE = 16  # connections at most in one turn of the loop
_OUT_OF_FILES = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
_OUT_OF_FILES_PAUSE = 1.0  # seconds without accepting


def bind(address: str) -> socket.socket:
    """Opens a listening socket for `"host:port"`, an address that the sockets of other workers may share.

    Raises:
        OSError: the address is in use, not ours, or needs a privilege; the text names it.
    """
    host, port = host_port(address)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind((host, port))
        sock.listen(BACKLOG)
        sock.setblocking(False)
    except OSError as error:
        sock.close()
        raise OSError(error.errno, f"cannot listen on {address}: {error.strerror}") from None
    return sock


class Listener:
    """Accepts on one socket and runs a session for each client.

    Args:
        handler: makes the handler of a connection, for the time of a `with`.
        tls: returns the TLS context of the next handshake; None without a certificate.
        authenticator: checks logins, where the listener takes them.
    """

    def __init__(
        self,
        sock: socket.socket,
        listen: ListenSection,
        config: Config,
        limits: Limits,
        ids: QueueIds,
        handler: Callable[[Client], AbstractContextManager[Handler]],
        tls: Callable[[], ssl.SSLContext] | None,
        authenticator: Authenticator | None = None,
    ) -> None:
        self._socket = sock
        self._listen = listen
        self._config = config
        self._limits = limits
        self._ids = ids
        self._handler = handler
        self._mode = config.listener_tls(listen)
        self._tls = tls
        self._authenticator = authenticator if listen.auth != "none" else None
        # Clients that begin with TLS or have to log in are people's mail programs: their addresses say nothing.
        waits = self._mode != "implicit" and listen.auth != "required"
        self._greeting_delay = config.clients.greeting_delay if waits else 0.0
        self._loop = asyncio.get_running_loop()
        self._stopping = False
        self._expected = 1  # connections that are likely to wait: an `accept` that finds none is a wasted system call
        self._connections: set[asyncio.Task[None]] = set()
        self._sessions: set[Session] = set()

    def start(self) -> None:
        """Accepts connections from now on."""
        if not self._stopping:
            self._loop.add_reader(self._socket.fileno(), self._accept)

    def stop(self) -> None:
        """Accepts no more connections. Sessions end as soon as they have no transaction."""
        self._stopping = True
        self._loop.remove_reader(self._socket.fileno())
        for session in tuple(self._sessions):
            session.drain()

    async def finished(self) -> None:
        """Waits until every connection is closed."""
        while self._connections:
            await asyncio.wait(self._connections)

    def abort(self) -> None:
        """Drops all connections."""
        for task in tuple(self._connections):
            task.cancel()

    def _accept(self) -> None:
        for number in range(self._expected):
            try:
                sock, address = self._socket.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                self._expected = max(1, number)
                return
            except OSError as error:  # also network errors of that one client (accept(2))
                log.error("accept_failed", problem=error.strerror)
                if error.errno in _OUT_OF_FILES:
                    self._loop.remove_reader(self._socket.fileno())
                    self._loop.call_later(_OUT_OF_FILES_PAUSE, self.start)
                return
            task = self._loop.create_task(self._serve(sock, plain_ip(address[0]), address[1]))
            self._connections.add(task)
            task.add_done_callback(self._connections.discard)
        self._expected = min(2 * self._expected, _ACCEPT_AT_ONCE)  # what is left is accepted in the next turn

    async def _serve(self, sock: socket.socket, ip: str, port: int) -> None:
        with contextlib.closing(sock):
            try:
                client = await self._identify(sock, ip, port)
                with Account(self._limits, client.ip, trusted=client.trusted) as account:
                    await self._admit(sock, client, account)
            except proxy.BadProxyHeader as error:
                log.warning("proxy_refused", ip=ip, problem=str(error))
            except OSError as error:
                log.info("lost", ip=ip, problem=str(error))
            except Exception:
                log.exception("session_failed", ip=ip)

    async def _identify(self, sock: socket.socket, ip: str, port: int) -> Client:
        """The client of a new connection.

        Raises:
            BadProxyHeader: the listener expects a proxy, and the connection is not from one.
            OSError: the connection is lost.
        """
        local, local_port = sock.getsockname()[:2]
        local = plain_ip(local)
        if self._listen.proxy_protocol:
            if not within(ip, self._listen.proxies):
                raise proxy.BadProxyHeader("not one of the listener's proxies")
            proxied = await proxy.read_header(sock)
            if proxied is None:
                return Client(ip, port, known=False, local=local, local_port=local_port)  # never trusted
            ip, port = plain_ip(proxied.ip), proxied.port
        trusted = within(ip, self._config.clients.trusted)
        return Client(ip, port, trusted=trusted, local=local, local_port=local_port)

    async def _admit(self, sock: socket.socket, client: Client, account: Account) -> None:
        tls = self._tls() if self._tls is not None and self._mode == "implicit" else None
        refusal = account.refusal
        if refusal:
            log.info("refused", ip=client.ip, problem=refusal)
            if tls is not None:  # not worth a handshake
                return
        stream = Stream(sock)  # made here: with TLS, uvloop does not return the protocol that its factory makes
        try:
            await self._loop.connect_accepted_socket(
                lambda: stream, sock, ssl=tls, ssl_handshake_timeout=HANDSHAKE_TIMEOUT if tls is not None else None
            )
        except OSError as error:  # ssl.SSLError is one
            log.info("tls_failed" if tls is not None else "lost", ip=client.ip, problem=str(error))
            return
        try:
            if refusal:
                stream.write(f"421 4.7.0 {self._config.hostname} Error: {refusal}\r\n".encode("ascii"))
            else:
                if tls is not None:
                    client = client._replace(tls=stream.tls, cipher_bits=stream.cipher_bits)
                with self._handler(client) as handler:
                    session = self._session(stream, client, account, handler)
                    try:
                        await session.run()
                    finally:
                        self._sessions.discard(session)
        except asyncio.CancelledError:
            stream.abort()
            raise
        finally:
            await stream.close()

    def _session(self, stream: Stream, client: Client, account: Account, handler: Handler) -> Session:
        """A session that is about to run, and that `stop` will reach."""
        connection = Connection(
            stream=stream,
            client=client,
            handler=handler,
            config=self._config,
            account=account,
            tls=self._tls if self._mode != "none" else None,
            require_tls=self._mode == "require",
            authenticator=self._authenticator,
            require_login=self._listen.auth == "required",
            greeting_delay=0.0 if client.trusted else self._greeting_delay,
        )
        session = Session(connection, self._ids)
        self._sessions.add(session)
        if self._stopping:
            session.drain()
        return session
