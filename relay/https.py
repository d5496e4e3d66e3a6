"""HTTPS as a client: one request to a server whose addresses our own resolver has found. Only this file and
`relay.content_filter.rspamd` know aiohttp.

Nothing here asks DNS, follows a redirect, takes a proxy from the environment, keeps a cookie or unpacks what a server
has compressed. Import this module when it is needed first, and in a thread: aiohttp takes 0.1 s and 6 MiB.
"""

from __future__ import annotations

import asyncio
import builtins
import ipaddress
import os
import socket
import ssl
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult

from relay.mail.reply import printable
from relay.tls import MINIMUM_VERSION

PORT = 443
HEADER_OCTETS = 16384
ADDRESSES = 10  # of a server that are tried: a zone with hundreds must not keep us busy

IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address


class RequestFailed(Exception):
    """The server gave no usable answer; the text names it and says why."""


class BadCertificate(RequestFailed):
    """The server's certificate is not good for its name, or no authority that we trust has signed it."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a server answered.

    Attributes:
        media_type: in lower case, without parameters; empty if the server does not say.
        body: as it came, never unpacked.
    """

    status: int
    media_type: str
    body: bytes


async def request(
    host: str,
    path: str,
    addresses: Sequence[str],
    *,
    seconds: float,
    octets: int,
    method: str = "GET",
    body: bytes | None = None,
    headers: Mapping[str, str] | None = None,
    sources: Sequence[IPAddress] = (),
) -> Answer:
    """Send one request to a host, over a connection of its own, and read the answer.

    Args:
        host: its name, in A-labels; the certificate has to be good for it. `SSL_CERT_FILE` and `SSL_CERT_DIR` name
            other authorities than those of the system.
        addresses: of the host, the preferred one first. A quarter of a second after one of them the next is tried, too.
        seconds: for all of it.
        octets: the most that the body may have.
        sources: the addresses to connect from, at most one of each family; the system chooses where there is none.

    Raises:
        RequestFailed: there was no answer in time, it is no HTTP, longer than `octets`, or compressed.
        BadCertificate: the certificate is not good.
    """
    if not addresses:
        raise RequestFailed(f"{host} has no address")
    context = await asyncio.to_thread(_context, os.environ.get("SSL_CERT_FILE"), os.environ.get("SSL_CERT_DIR"), octets)
    fields = {"User-Agent": "srs-relay", "Accept-Encoding": "identity", "Connection": "close", **(headers or {})}
    sockets: list[socket.socket] = []

    def new_socket(info: tuple[Any, ...]) -> socket.socket:
        sockets.append(_socket(info[0], sources))
        return sockets[-1]

    connector = aiohttp.TCPConnector(
        ssl=context,
        resolver=_Known(addresses[:ADDRESSES]),
        use_dns_cache=False,
        force_close=True,
        socket_factory=new_socket,
    )
    session = aiohttp.ClientSession(
        connector=connector,
        auto_decompress=False,
        cookie_jar=aiohttp.DummyCookieJar(),
        timeout=aiohttp.ClientTimeout(),  # the time limit is ours
    )
    try:
        async with asyncio.timeout(seconds), session:
            url = f"https://{host}:{PORT}{path}"
            async with session.request(method, url, data=body, headers=fields, allow_redirects=False) as response:
                return await _read(host, response, octets)
    except TimeoutError:
        raise RequestFailed(f"{host}: not finished within {seconds:g} s") from None
    except aiohttp.ClientConnectorCertificateError as error:
        reason = getattr(error.certificate_error, "verify_message", "") or str(error.certificate_error)
        raise BadCertificate(f"the certificate of {host} is not good: {reason}") from None
    except aiohttp.ClientConnectorError as error:
        raise RequestFailed(f"{host} ({', '.join(addresses[:ADDRESSES])}): {_reason(error)}") from None
    except (aiohttp.ClientError, OSError, ValueError) as error:
        raise RequestFailed(f"{host}: {_reason(error)}") from None
    finally:
        for sock in sockets:  # aiohttp would wait for the server to end TLS, and asyncio gives it 30 s for that
            with suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)


async def _read(host: str, response: aiohttp.ClientResponse, octets: int) -> Answer:
    encoding = response.headers.get("Content-Encoding", "identity").strip().lower()
    if encoding != "identity":
        raise RequestFailed(f"{host}: the answer is compressed ({printable(encoding, 20)}), which we did not ask for")
    body = bytearray()
    while chunk := await response.content.readany():
        body += chunk
        if len(body) > octets:
            raise RequestFailed(f"{host}: the answer has more than {octets} octets")
    media_type = response.headers.get("Content-Type", "").partition(";")[0].strip().lower()
    return Answer(response.status, media_type, bytes(body))


class _Known(AbstractResolver):
    """Gives the addresses that we have found, whatever is asked."""

    def __init__(self, addresses: Sequence[str]) -> None:
        self._addresses = [ipaddress.ip_address(address) for address in addresses]

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        return [
            ResolveResult(
                hostname=host,
                host=str(address),
                port=port,
                family=socket.AF_INET if address.version == 4 else socket.AF_INET6,
                proto=socket.IPPROTO_TCP,
                flags=socket.AI_NUMERICHOST,
            )
            for address in self._addresses
        ]

    async def close(self) -> None:
        pass


def _socket(family: int, sources: Sequence[IPAddress]) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        version = 4 if family == socket.AF_INET else 6
        for source in sources:
            if source.version == version:
                sock.bind((str(source), 0))
    except OSError:
        sock.close()
        raise
    return sock


class _Flood(OSError):
    """A server sends without an end what is no body."""


@lru_cache(maxsize=8)
def _context(cafile: str | None, capath: str | None, octets: int) -> ssl.SSLContext:
    """A context that trusts the system's authorities, or those of the files that OpenSSL finds in the environment.

    It ends a connection after twice the octets of the longest body, and some for the header: aiohttp limits neither
    responses of class 1xx nor what frames chunks, and reading megabytes of them would hold the event loop for seconds.

    Args:
        cafile, capath: only tell one environment from another.
    """

    class Limited(ssl.SSLObject):
        _left = 2 * octets + HEADER_OCTETS

        def read(self, len: int = 1024, buffer: Any = None) -> Any:
            if self._left <= 0:
                raise _Flood("more octets than an answer has")
            taken = super().read(len) if buffer is None else super().read(len, buffer)
            self._left -= taken if isinstance(taken, int) else builtins.len(taken)
            return taken

    context = ssl.create_default_context()
    context.minimum_version = MINIMUM_VERSION
    context.sslobject_class = Limited
    return context


def _reason(error: Exception) -> str:
    """What is wrong, in one line of printable ASCII."""
    cause = error.os_error if isinstance(error, aiohttp.ClientConnectorError) else error
    if isinstance(cause, aiohttp.ServerDisconnectedError):
        text = "it closed the connection without an answer"
    elif isinstance(cause, aiohttp.ClientPayloadError):
        text = "the answer breaks off"
    elif isinstance(cause, aiohttp.ClientResponseError):  # its status is made up
        text = f"the answer cannot be read: {cause.message}"
    elif isinstance(cause, ssl.SSLError):
        text = f"TLS failed: {cause.reason or cause}"
    elif isinstance(cause, OSError) and cause.errno and not isinstance(cause, _Flood):
        text = os.strerror(cause.errno)
    else:
        text = str(cause) or type(cause).__name__
    return printable(text.partition("\n")[0], 200)
