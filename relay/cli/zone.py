"""A small authoritative DNS server on loopback, so that the demo and the tests need no other name server.

It serves one set of records as if it were the whole DNS: every other name is NXDOMAIN. For chosen names it gives no
answer or a failure, as real servers do.
"""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Iterable, Mapping
from typing import Literal

import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdata
import dns.rdataclass
import dns.rdatatype
import dns.rrset

Behaviour = Literal["timeout", "servfail", "refused", "truncated"]

PLAIN_UDP_OCTETS = 512  # RFC 1035 section 4.2.1: the largest datagram for a client without EDNS
TCP_OCTETS = 65535  # RFC 1035 section 4.2.2
TCP_IDLE_TIMEOUT = 10.0  # seconds that a connection may stay silent (RFC 7766 section 6.2.3)
PORT_ATTEMPTS = 10  # the port that TCP got may be taken for UDP
CHAIN_LENGTH = 16  # CNAMEs followed in one answer

_CODES = {"servfail": dns.rcode.SERVFAIL, "refused": dns.rcode.REFUSED}


class ZoneServer:
    """Answers for `{(name, type): [rdata as in a zone file]}`, over UDP and TCP, within the size that EDNS allows.

    Args:
        records: the text of a TXT record is quoted, as in a zone file: `'"v=spf1 -all"'`.
        failures: names for which every type without records gets no answer, SERVFAIL, REFUSED, or an answer that is
            truncated, over TCP, too.
        ttl: seconds, for every record and for the SOA that makes negative answers cacheable (RFC 2308).

    Raises:
        dns.exception.DNSException: malformed name or rdata (from `put` as well).
    """

    def __init__(
        self,
        records: Mapping[tuple[str, str], Iterable[str]],
        failures: Mapping[str, Behaviour] | None = None,
        ttl: int = 60,
    ) -> None:
        self._ttl = ttl
        self._rrsets: dict[tuple[dns.name.Name, dns.rdatatype.RdataType], dns.rrset.RRset] = {}
        self._failures = {dns.name.from_text(name): how for name, how in (failures or {}).items()}
        self._soa = self._rrset(dns.name.root, "SOA", [f"localhost. postmaster.localhost. 1 3600 600 86400 {ttl}"])
        self._tcp: asyncio.Server | None = None
        self._udp: asyncio.DatagramTransport | None = None
        for (name, rdtype), rdata in records.items():
            self.put(name, rdtype, *rdata)

    def put(self, name: str, rdtype: str, *rdata: str) -> None:
        """Replace the records of a name and a type; without rdata they are removed."""
        owner = dns.name.from_text(name)
        key = owner, dns.rdatatype.from_text(rdtype)
        if rdata:
            self._rrsets[key] = self._rrset(owner, rdtype, rdata)
        else:
            self._rrsets.pop(key, None)

    async def start(self, host: str = "127.0.0.1", port: int = 0) -> tuple[str, int]:
        """Listen; port 0 takes a free one. Returns the address.

        Raises:
            OSError: the address cannot be had.
        """
        loop = asyncio.get_running_loop()
        attempts = 1 if port else PORT_ATTEMPTS
        while True:
            attempts -= 1
            server = await asyncio.start_server(self._serve_tcp, host, port)
            taken = server.sockets[0].getsockname()[1]
            try:
                self._udp, _ = await loop.create_datagram_endpoint(lambda: _Udp(self), local_addr=(host, taken))
            except OSError:
                server.close()
                if not attempts:
                    raise
            else:
                self._tcp = server
                return host, taken

    async def close(self) -> None:
        """Stop listening."""
        if self._udp is not None:
            self._udp.close()
        if self._tcp is not None:
            self._tcp.close()

    def answer(self, request: dns.message.Message) -> dns.message.Message | None:
        """The response to a request with one question; None where there is to be no answer."""
        response = dns.message.make_response(request, recursion_available=True)
        response.flags |= dns.flags.AA
        name, rdtype = request.question[0].name, request.question[0].rdtype
        for _ in range(CHAIN_LENGTH):
            rrset = self._rrsets.get((name, rdtype))
            if rrset is not None:
                response.answer.append(rrset)
                return response
            alias = self._rrsets.get((name, dns.rdatatype.CNAME))
            if alias is None:
                break
            if alias not in response.answer:
                response.answer.append(alias)
            name = alias[0].target
        failure = self._failures.get(name)
        if failure == "timeout":
            return None
        if failure == "truncated":
            response.flags |= dns.flags.TC
            return response
        if failure is not None:
            response.set_rcode(_CODES[failure])
            return response
        if not self._exists(name):
            response.set_rcode(dns.rcode.NXDOMAIN)
        response.authority.append(self._soa)
        return response

    def respond(self, wire: bytes, limit: int = TCP_OCTETS) -> bytes:
        """The response to a request as octets, truncated to `limit` or to what EDNS allows; empty for no answer."""
        try:
            request = dns.message.from_wire(wire)
        except dns.exception.DNSException:
            return b""
        if request.flags & dns.flags.QR or len(request.question) != 1:
            return b""
        response = self.answer(request)
        if response is None:
            return b""
        if request.edns >= 0:
            limit = max(limit, request.payload)
        try:
            return response.to_wire(max_size=limit)
        except dns.exception.TooBig:
            truncated = dns.message.make_response(request, recursion_available=True)
            truncated.flags |= dns.flags.AA | dns.flags.TC
            return truncated.to_wire()

    def _rrset(self, owner: dns.name.Name, rdtype: str, rdata: Iterable[str]) -> dns.rrset.RRset:
        kind = dns.rdatatype.from_text(rdtype)
        parsed = [dns.rdata.from_text(dns.rdataclass.IN, kind, text, dns.name.root, False) for text in rdata]
        return dns.rrset.from_rdata_list(owner, self._ttl, parsed)

    def _exists(self, name: dns.name.Name) -> bool:
        """Whether the name or one below it has records (RFC 8020)."""
        return any(owner.is_subdomain(name) for owner, _ in self._rrsets)

    async def _serve_tcp(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                async with asyncio.timeout(TCP_IDLE_TIMEOUT):
                    (size,) = struct.unpack("!H", await reader.readexactly(2))
                    wire = await reader.readexactly(size)
                answer = self.respond(wire)
                if answer:
                    writer.write(struct.pack("!H", len(answer)) + answer)
                    await writer.drain()
        except (TimeoutError, asyncio.IncompleteReadError, ConnectionError):
            pass  # the client is done
        finally:
            writer.close()


class _Udp(asyncio.DatagramProtocol):
    def __init__(self, server: ZoneServer) -> None:
        self._server = server

    def connection_made(self, transport: asyncio.DatagramTransport) -> None:  # type: ignore[override]
        self._transport = transport

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        answer = self._server.respond(data, PLAIN_UDP_OCTETS)
        if answer:
            self._transport.sendto(answer, addr)
