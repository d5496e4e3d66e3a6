"""Name servers on loopback that do what the checks look for: validate, find signatures wrong, answer late or never."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import dns.flags
import dns.message
import dns.rcode

from relay.cli.zone import ZoneServer

ZONE = {
    ("fwd.example", "MX"): ["10 mx.fwd.example."],
    ("fwd.example", "SOA"): ["ns.fwd.example. hostmaster.fwd.example. 1 3600 900 86400 60"],
    ("mx.fwd.example", "A"): ["203.0.113.5"],
}


class Validating(ZoneServer):
    """Says that every answer is proven.

    Args:
        bogus: names whose signatures are wrong: SERVFAIL, unless the question says not to validate.
    """

    def __init__(self, bogus: tuple[str, ...] = ()) -> None:
        super().__init__(ZONE)
        self._bogus = bogus

    def answer(self, request: dns.message.Message) -> dns.message.Message | None:
        response = super().answer(request)
        assert response is not None
        if request.flags & dns.flags.CD:
            return response
        if request.question[0].name.to_text(omit_final_dot=True) in self._bogus:
            response.set_rcode(dns.rcode.SERVFAIL)
        elif request.flags & dns.flags.AD:
            response.flags |= dns.flags.AD
        return response


class Refusing(ZoneServer):
    """Answers nobody."""

    def __init__(self) -> None:
        super().__init__({})

    def answer(self, request: dns.message.Message) -> dns.message.Message | None:
        response = super().answer(request)
        assert response is not None
        response.set_rcode(dns.rcode.REFUSED)
        return response


@asynccontextmanager
async def running(server: ZoneServer) -> AsyncIterator[str]:
    """`address:port` of a server, while it runs."""
    host, port = await server.start()
    try:
        yield f"{host}:{port}"
    finally:
        await server.close()
        await asyncio.sleep(0)
