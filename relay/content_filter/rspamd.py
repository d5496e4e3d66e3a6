"""Asks rspamd over HTTP. With `relay.https` this is the only file that knows aiohttp.

A connection is for one message, as rspamd ends it after its answer. Import this module where rspamd is configured only:
aiohttp takes 0.1 s and 6 MiB.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Sequence

import aiohttp

from relay.config.values import Service
from relay.content_filter.rspamd_answer import Opinion, read_answer
from relay.content_filter.scanned import NoOpinion, Unreachable
from relay.content_filter.service import CONNECT_SECONDS, addresses
from relay.dns import Resolver

ANSWER_OCTETS = 2**20  # real ones have some thousand

_BLOCK = 65536  # octets of a message that are written in one piece


class Rspamd:
    """One rspamd."""

    def __init__(self, service: Service, resolver: Resolver) -> None:
        self._service = service
        self._resolver = resolver

    async def judge(self, content: bytes, headers: Sequence[tuple[str, str]]) -> Opinion:
        """Its opinion of a message. It takes as long as rspamd does: the caller has the time limit.

        Raises:
            NoOpinion: it is away, or gives no answer that makes sense.
        """
        fields = [*headers, ("Content-Length", str(len(content))), ("Content-Type", "application/octet-stream")]
        status, body = await self._request("POST", "/checkv2", fields, content)
        if status != 200:
            raise NoOpinion(f"the answer has the status {status}")
        return read_answer(body)

    async def ping(self) -> None:
        """Raises NoOpinion: it does not answer."""
        status, _ = await self._request("GET", "/ping", ())
        if status != 200:
            raise NoOpinion(f"the answer to /ping has the status {status}")

    async def _request(
        self, method: str, path: str, fields: Sequence[tuple[str, str]], content: bytes | None = None
    ) -> tuple[int, bytes]:
        connector, hosts = await self._connector()
        headers = [("User-Agent", "srs-relay"), ("Accept-Encoding", "identity"), *fields]
        timeout = aiohttp.ClientTimeout(sock_connect=CONNECT_SECONDS)
        async with aiohttp.ClientSession(
            connector=connector, auto_decompress=False, cookie_jar=aiohttp.DummyCookieJar(), timeout=timeout
        ) as session:
            failure = NoOpinion("no address")
            for host in hosts:
                body = None if content is None else _blocks(content)
                try:
                    url = f"http://{host}{path}"
                    async with session.request(
                        method, url, data=body, headers=headers, allow_redirects=False
                    ) as response:
                        return response.status, await _read(response)
                except aiohttp.ClientConnectorError as error:
                    failure = NoOpinion(os.strerror(error.errno) if error.errno else str(error))
                except aiohttp.ConnectionTimeoutError:
                    failure = Unreachable(f"no connection within {CONNECT_SECONDS:g} s")
                except (aiohttp.ClientError, OSError, ValueError) as error:
                    raise NoOpinion(f"no usable answer: {str(error) or type(error).__name__}") from None
            raise failure

    async def _connector(self) -> tuple[aiohttp.BaseConnector, list[str]]:
        """How to connect, and the hosts for the URL."""
        service = self._service
        if service.path:
            return aiohttp.UnixConnector(service.path, force_close=True), ["localhost"]
        found = await addresses(service, self._resolver)
        hosts = [f"[{one}]:{service.port}" if ":" in one else f"{one}:{service.port}" for one in found]
        return aiohttp.TCPConnector(force_close=True), hosts


async def _blocks(content: bytes) -> AsyncIterator[memoryview]:
    view = memoryview(content)
    for start in range(0, len(view), _BLOCK):
        yield view[start : start + _BLOCK]


async def _read(response: aiohttp.ClientResponse) -> bytes:
    body = bytearray()
    while chunk := await response.content.readany():
        body += chunk
        if len(body) > ANSWER_OCTETS:
            raise NoOpinion(f"the answer has more than {ANSWER_OCTETS} octets")
    return bytes(body)
