"""The DNS resolver. Nothing else in the relay asks DNS.

`Resolver` is the interface for every stage, `CachingResolver` asks name servers, and `StaticResolver` answers from a
mapping.
"""

from __future__ import annotations

import asyncio
import ipaddress
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple, Protocol

import dns.asyncquery
import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.query
import dns.rcode
import dns.rdatatype
import dns.resolver

from relay.mail.address import normal_domain
from relay.network import host_port

DNS_PORT = 53
MAX_TTL = 86400.0  # seconds that an answer is kept at most, so that a mistake in a zone ends within a day
MAX_NEGATIVE_TTL = 10800.0  # seconds; RFC 2308 section 5 found one to three hours sensible
MIN_TTL = 1.0  # seconds; TTL 0 is for "the transaction in progress" (RFC 1035 section 3.2.1), about that long
EDNS_PAYLOAD = 1232  # octets that are not fragmented on any path (dnsflagday.net/2020)
TCP_OCTETS = 16384  # of one answer: twice the longest useful one; parsing takes 0.2 s at worst
AD_FLAGS = dns.flags.RD | dns.flags.AD  # AD asks whether DNSSEC proves the answer (RFC 6840 section 5.7)
CHAIN_LENGTH = 8  # answers followed from CNAME to CNAME; within an answer the server has followed them
DOCKER = ipaddress.ip_address("127.0.0.11")  # the name server that containers see
ROUNDS = 2  # times that each server is asked within the timeout, because datagrams get lost
ENTRY_OCTETS = 512  # mean size of an answer: the cache may take entries x this


class DnsFailure(Exception):
    """DNS gives no answer now: a timeout, SERVFAIL, REFUSED. A later try may succeed.

    The text may be told to strangers: it names the question and the reason, and no name server.
    """


class TooManyQuestions(DnsFailure):
    """The question was not asked, because a check has used up its questions (see `authenticate.dns_budget`)."""


class Tlsa(NamedTuple):
    """A TLSA record (RFC 6698 section 2.1). The numbers may have no meaning, and the octets a wrong length."""

    usage: int
    selector: int
    matching: int
    data: bytes


UNREADABLE_TLSA = Tlsa(255, 255, 255, b"")  # has no usage that anybody uses, as the record that it stands for


@dataclass(frozen=True, slots=True)
class Answer:
    """The records of a name and a type, CNAMEs followed.

    Attributes:
        records: addresses (`str`) for A, AAAA; names (`str`, lower case, no final dot) for PTR, NS, CNAME;
            `(preference, name)` for MX, where the null MX of RFC 7505 is the name `""`;
            the character-strings as a `tuple[bytes, ...]` for TXT; `Tlsa` for TLSA, where `UNREADABLE_TLSA` stands for
            a record that cannot be read. Octets that host names do not have are escaped in names as in a zone file
            (RFC 1035 section 5.1). Other types are text as in a zone file.
        exists: False for NXDOMAIN; True with no records for NODATA.
        secure: DNSSEC proves the answer with all its CNAMEs, or that there is none: a name server that the resolver
            believes says so (RFC 4035 section 3.2.3).
        canonical: the name that the CNAMEs lead to, written as in `records`; empty where the name has no CNAME.
        expires: until when the answer holds, by the clock of the resolver; 0 for an answer that only holds now.
    """

    records: tuple[Any, ...] = ()
    exists: bool = True
    secure: bool = False
    canonical: str = ""
    expires: float = field(default=0.0, compare=False)


class Resolver(Protocol):
    """Answers questions to DNS."""

    async def query(self, name: str, rdtype: str) -> Answer:
        """The records of a name and a type (`"A"`, `"MX"`, …).

        Raises:
            DnsFailure: there is no answer now; the caller defers.
        """
        ...


class StaticResolver:
    """Answers from `{(name, type): records}`; an exception as value is raised. Other names are NXDOMAIN.

    Args:
        zone: an `Answer` in the place of records is returned as it is.
        secure: every other answer is.
    """

    def __init__(
        self, zone: Mapping[tuple[str, str], Sequence[Any] | Answer | Exception], secure: bool = False
    ) -> None:
        self._zone = {(normal_domain(name), rdtype): records for (name, rdtype), records in zone.items()}
        self._names = {name for name, _ in self._zone}
        self._secure = secure

    async def query(self, name: str, rdtype: str) -> Answer:
        name = normal_domain(name)
        records = self._zone.get((name, rdtype))
        if isinstance(records, Exception):
            raise records
        if isinstance(records, Answer):
            return records
        return Answer(tuple(records or ()), exists=name in self._names, secure=self._secure)


class _Cached(NamedTuple):
    answer: Answer
    octets: int


_Key = tuple[str, str]


class CachingResolver:
    """Asks recursive name servers over UDP, and over TCP where an answer is truncated, and caches the answers.

    Answers are cached for their TTL, negative ones as their SOA says (RFC 2308), failures never. Callers that ask for
    the same name and type at the same time share one query, which none of them can cancel for the others.

    Args:
        nameservers: addresses, or `address:port`, in the order in which they are asked; empty for those of
            /etc/resolv.conf. A server that did not answer is asked last from then on.
        timeout: seconds for a question with all its retries and CNAMEs.
        cache_entries: answers in the cache, from which the least recently used are dropped; 0 for no cache.
        clock: monotonic seconds.
        validated: False asks for answers also where DNSSEC proves them wrong (CD, RFC 4035 section 3.2.2).
        trust_ad: whether servers are believed that do not run on this host, where they say that DNSSEC proves an
            answer (`dns.trust_ad`). Those on this host always are. No answer of another one is `secure`.
        report: is told of each question without an answer: name, type, and what was wrong with each server.
    """

    def __init__(
        self,
        nameservers: Sequence[str] = (),
        timeout: float = 5.0,
        cache_entries: int = 20_000,
        clock: Callable[[], float] = time.monotonic,
        validated: bool = True,
        trust_ad: bool = False,
        report: Callable[[str, str, Mapping[str, str]], None] | None = None,
    ) -> None:
        self._servers = [_server(text) for text in nameservers or system_nameservers()]
        self._flags = AD_FLAGS if validated else AD_FLAGS | dns.flags.CD
        self._trust_ad = trust_ad
        self._timeout = timeout
        self._entries = cache_entries
        self._clock = clock
        self._report = report or (lambda _name, _rdtype, _problems: None)
        self._cache: OrderedDict[_Key, _Cached] = OrderedDict()
        self._octets = 0
        self._asking: dict[_Key, asyncio.Task[Answer]] = {}

    async def query(self, name: str, rdtype: str) -> Answer:
        """The records of a name and a type (`"A"`, `"MX"`, …). A name that DNS cannot encode does not exist.

        Raises:
            DnsFailure: no server gave a usable answer in time.
        """
        key = normal_domain(name), rdtype
        cached = self._cache.get(key)
        if cached is not None and cached.answer.expires > self._clock():
            self._cache.move_to_end(key)
            return cached.answer
        task = self._asking.get(key)
        if task is None:
            wire_name = _wire_name(key[0])
            if wire_name is None:
                return Answer(exists=False)
            task = asyncio.get_running_loop().create_task(self._ask(key, wire_name))
            self._asking[key] = task
            task.add_done_callback(lambda done: self._finished(key, done))
        return await asyncio.shield(task)

    async def close(self) -> None:
        """Cancels the questions under way."""
        tasks = tuple(self._asking.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _finished(self, key: _Key, task: asyncio.Task[Answer]) -> None:
        del self._asking[key]
        if not task.cancelled():
            task.exception()  # marks it as retrieved, where no caller waits any more

    async def _ask(self, key: _Key, name: dns.name.Name) -> Answer:
        try:
            async with asyncio.timeout(self._timeout):
                answer, ttl, octets = await self._resolve(name, key[1])
        except TimeoutError:
            self._report(*key, dict.fromkeys((host for host, _ in self._servers), "no answer in time"))
            raise DnsFailure(f"{key[0]} {key[1]}: no answer within {self._timeout:g} s") from None
        except dns.exception.DNSException as error:
            raise DnsFailure(f"{key[0]} {key[1]}: {error}") from error
        if self._entries:
            longest = MAX_TTL if answer.records else MAX_NEGATIVE_TTL
            answer = replace(answer, expires=self._clock() + min(max(ttl, MIN_TTL), longest))
            self._keep(key, _Cached(answer, octets))
        return answer

    async def _resolve(self, name: dns.name.Name, rdtype: str) -> tuple[Answer, float, int]:
        """The answer, its TTL in seconds, and its size in octets."""
        ttl, octets, secure = MAX_TTL, 0, True
        asked = name
        for _ in range(CHAIN_LENGTH):
            response, believed = await self._exchange(name, rdtype)
            octets += len(response.wire or b"")
            secure = secure and believed and bool(response.flags & dns.flags.AD)
            chain = response.resolve_chaining()
            ttl = min(ttl, chain.minimum_ttl)
            exists = response.rcode() == dns.rcode.NOERROR
            # An authoritative server stops at a CNAME that leaves its zones, and sends no SOA then.
            unfinished = exists and chain.cnames and chain.answer is None and not _has_soa(response)
            if not unfinished:
                decode = _DECODE.get(rdtype, str)
                records = *map(decode, chain.answer or ()), *(UNREADABLE_TLSA for _ in response.errors)
                canonical = "" if chain.canonical_name == asked else _name(chain.canonical_name)
                return Answer(records, exists, secure, canonical), ttl, octets
            name = chain.canonical_name
        raise DnsFailure(f"{name} {rdtype}: more than {CHAIN_LENGTH} CNAMEs")

    async def _exchange(self, name: dns.name.Name, rdtype: str) -> tuple[dns.message.QueryMessage, bool]:
        """The response, and whether its server is believed about DNSSEC."""
        servers = list(self._servers)
        patience = self._timeout / (ROUNDS * len(servers))
        problem, problems = "no answer", dict[str, str]()
        for _ in range(ROUNDS):
            for server in tuple(servers):
                query = dns.message.make_query(  # a fresh random id
                    name, rdtype, use_edns=0, payload=EDNS_PAYLOAD, flags=self._flags
                )
                host, port = server
                try:
                    response = await _ask_server(query, host, port, patience)
                except (OSError, EOFError, dns.exception.DNSException) as error:
                    problem, problems[host] = "no usable answer", str(error) or type(error).__name__
                    self._ask_last(server)
                    continue
                if response.flags & dns.flags.TC:
                    problem = problems[host] = "truncated over TCP"
                elif response.rcode() not in (dns.rcode.NOERROR, dns.rcode.NXDOMAIN):
                    problem = problems[host] = dns.rcode.to_text(response.rcode())
                elif isinstance(response, dns.message.QueryMessage):
                    return response, self._trust_ad or is_on_this_host(host)
                servers.remove(server)
        text = name.to_text(omit_final_dot=True)
        self._report(text, rdtype, problems)
        raise DnsFailure(f"{text} {rdtype}: {problem}")

    def _ask_last(self, server: tuple[str, int]) -> None:
        self._servers.remove(server)
        self._servers.append(server)

    def _keep(self, key: _Key, cached: _Cached) -> None:
        self._forget(key)
        self._cache[key] = cached
        self._octets += cached.octets
        while len(self._cache) > self._entries or self._octets > self._entries * ENTRY_OCTETS:
            self._forget(next(iter(self._cache)))

    def _forget(self, key: _Key) -> None:
        cached = self._cache.pop(key, None)
        if cached is not None:
            self._octets -= cached.octets


async def _ask_server(query: dns.message.Message, host: str, port: int, patience: float) -> dns.message.Message:
    """The answer of one server over UDP, or over TCP where that is truncated (RFC 7766 section 5).

    Answers over TCP may be long and are parsed in a thread, because a sender chooses whose zones we ask.

    dnspython drops a whole answer if one digest in it has a wrong length. To DANE that is one useless record among
    others (RFC 7671 section 4), so such an answer is asked for again, over TCP, and read without that record.

    Raises:
        OSError, EOFError, dns.exception.DNSException: there is no usable answer; TimeoutError is an OSError.
        DnsFailure: the answer is longer than any useful one.
    """
    is_tlsa = query.question[0].rdtype == dns.rdatatype.TLSA
    try:
        return await dns.asyncquery.udp(
            query, host, patience, port, ignore_unexpected=True, ignore_errors=not is_tlsa, raise_on_truncation=True
        )
    except (dns.message.Truncated, dns.exception.FormError, dns.query.BadResponse):
        pass
    async with asyncio.timeout(patience):
        wire = await _over_tcp(query, host, port)
        response = await asyncio.to_thread(dns.message.from_wire, wire, continue_on_error=is_tlsa)
    if not query.is_response(response):
        raise dns.query.BadResponse
    return response


async def _over_tcp(query: dns.message.Message, host: str, port: int) -> bytes:
    reader, writer = await asyncio.open_connection(host, port)
    try:
        wire = query.to_wire()
        writer.write(len(wire).to_bytes(2, "big") + wire)
        length = int.from_bytes(await reader.readexactly(2), "big")
        if length > TCP_OCTETS:
            raise DnsFailure(f"{query.question[0]}: an answer of {length} octets")
        return await reader.readexactly(length)
    finally:
        writer.close()


def _server(text: str) -> tuple[str, int]:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return host_port(text)
    return text, DNS_PORT


def system_nameservers() -> Sequence[str]:
    """The addresses of the name servers of /etc/resolv.conf."""
    try:
        return [str(server) for server in dns.resolver.Resolver().nameservers]
    except dns.resolver.NoResolverConfiguration:
        return ("127.0.0.1",)  # the default of resolv.conf(5)


def is_on_this_host(nameserver: str) -> bool:
    """Whether a name server of this address runs on this host, so that nobody changes its answers on their way.

    Docker's, which only passes questions on to servers elsewhere, does not count.
    """
    address = ipaddress.ip_address(nameserver)
    return address.is_loopback and address != DOCKER


def _wire_name(name: str) -> dns.name.Name | None:
    """The name, or None where DNS cannot encode it. A backslash, which SPF macros may bring, is an octet."""
    try:
        return dns.name.Name([label.encode("utf-8", "surrogateescape") for label in name.split(".")] + [b""])
    except (dns.name.LabelTooLong, dns.name.EmptyLabel, dns.name.NameTooLong):
        return None


def _has_soa(response: dns.message.Message) -> bool:
    return any(rrset.rdtype == dns.rdatatype.SOA for rrset in response.authority)


def _name(name: dns.name.Name) -> str:
    return "" if name == dns.name.root else name.to_text(omit_final_dot=True).lower()


_DECODE: dict[str, Callable[[Any], Any]] = {
    "A": lambda rdata: rdata.address,
    "AAAA": lambda rdata: rdata.address,
    "CNAME": lambda rdata: _name(rdata.target),
    "MX": lambda rdata: (rdata.preference, _name(rdata.exchange)),
    "NS": lambda rdata: _name(rdata.target),
    "PTR": lambda rdata: _name(rdata.target),
    "TLSA": lambda rdata: Tlsa(rdata.usage, rdata.selector, rdata.mtype, rdata.cert),
    "TXT": lambda rdata: tuple(rdata.strings),
}
