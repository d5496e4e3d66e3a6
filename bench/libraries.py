"""`python -m bench.libraries`: what we do ourselves beside the library that could do it, in processor time.

Each line is the best of several runs in one process; the ratio says how many times as long the library takes. The
figures of docs/decisions/0012-five-mail-libraries.md come from here.
"""

from __future__ import annotations

import gc
import logging
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from email import policy
from email.parser import BytesParser

import authres
import dkim
import dns.asyncresolver
import dns.resolver
import spf as pyspf
import uvloop

from bench import mail, smtp_libraries
from bench.dns_thread import dns_thread
from relay import log
from relay.authenticate import arc, spf
from relay.authenticate import dkim as our_dkim
from relay.authenticate.results_field import read_results
from relay.dns import CachingResolver, StaticResolver
from relay.mail.message import Message
from relay.sign.arc_seal import seal
from relay.sign.dkim_signature import sign
from relay.sign.keys import SigningKey, generate, parse

RUNS = 7
OCTETS = 10_240
_NOW = int(time.time())
_PEM = generate("rsa2048")
_KEY = SigningKey(mail.DOMAIN, mail.SELECTOR, parse(_PEM))
_RECORD = _KEY.public_record().encode()
_SPF = {
    "short": {"sender.test": "v=spf1 ip4:127.0.0.1 -all"},
    "long": {
        "sender.test": "v=spf1 include:a.test include:b.test include:c.test ~all",
        "a.test": "v=spf1 " + " ".join(f"ip4:10.{n}.0.0/16" for n in range(20)) + " ~all",
        "b.test": "v=spf1 " + " ".join(f"ip4:11.{n}.0.0/16" for n in range(20)) + " ~all",
        "c.test": "v=spf1 ip4:127.0.0.0/8 ~all",
    },
}
_RESULTS = (
    "mx.fwd.test; spf=pass smtp.mailfrom=bob@sender.test; dkim=pass header.d=sender.test header.s=s1"
    " header.a=rsa-sha256; arc=none; dmarc=pass header.from=sender.test policy.dmarc=reject"
)


def line(what: str, library: str, theirs: float, ours: float, unit: str = "ms") -> None:
    """Print one comparison; both figures are seconds of processor time."""
    factor = {"ms": 1e3, "µs": 1e6}[unit]
    print(f"{what:<44} {library:<11} {theirs * factor:8.2f} {unit}   ours {ours * factor:8.2f} {unit}", end="")
    print(f"   x {theirs / ours:.1f}", flush=True)


async def best(work: Callable[[], Awaitable[object] | object], times: int) -> float:
    """Seconds of processor time that one piece of work takes, at best, in this thread."""
    seconds = []
    for _ in range(RUNS):
        gc.collect()
        began = time.thread_time()
        for _ in range(times):
            result = work()
            if isinstance(result, Awaitable):
                await result
        seconds.append((time.thread_time() - began) / times)
    return min(seconds)


async def signatures() -> None:
    """DKIM and ARC, verified and made."""
    message = mail.signed(OCTETS)
    plain = message.partition(b"From: ")
    unsigned = plain[1] + plain[2]
    message = sign(Message(unsigned), _KEY, _NOW) + unsigned
    names = [name for name, _ in dkim.DKIM(unsigned).headers]
    resolver = StaticResolver({(_KEY.record_name, "TXT"): [(_RECORD,)]})

    def record(name: bytes, timeout: float = 0) -> bytes:
        return _RECORD

    def theirs() -> None:
        assert dkim.verify(message, dnsfunc=record)

    async def ours() -> None:
        (verdict,) = await our_dkim.verify(Message(message), resolver, _NOW)
        assert verdict.result == "pass"

    line("DKIM: verify a signature, 10 KiB", "dkimpy", await best(theirs, 100), await best(ours, 100))

    def their_signature() -> None:
        dkim.sign(unsigned, b"s1", b"sender.test", _PEM, canonicalize=(b"relaxed", b"relaxed"), include_headers=names)

    line(
        "DKIM: sign, 10 KiB",
        "dkimpy",
        await best(their_signature, 100),
        await best(lambda: sign(Message(unsigned), _KEY, _NOW), 100),
    )
    sealed = seal(Message(message), b"", b"mx.fwd.test; spf=pass", "none", 1, _KEY, _NOW) + message

    def their_chain() -> None:
        assert dkim.arc_verify(sealed, dnsfunc=record)[0] == dkim.CV_Pass

    async def our_chain() -> None:
        assert (await arc.verify(Message(sealed), resolver, _NOW)).result == "pass"

    line("ARC: verify a chain of one, 10 KiB", "dkimpy", await best(their_chain, 100), await best(our_chain, 100))


async def sender_policy() -> None:
    """SPF: pyspf as it is, and our class over it with the greenlet."""
    for length, records in _SPF.items():
        zone = {(name, "TXT"): [(text.encode(),)] for name, text in records.items()}
        resolver = StaticResolver(zone)

        def look_up(
            name: str, rdtype: str, strict: bool, timeout: float, zone: dict[tuple[str, str], list[tuple[bytes]]] = zone
        ) -> list[object]:
            return [((name, rdtype), record) for record in zone.get((name, rdtype), [])]

        pyspf.DNSLookup = look_up

        def theirs() -> None:
            assert pyspf.check2(i="127.0.0.1", s="bob@sender.test", h="mx.sender.test")[0] == "pass"

        async def ours(resolver: StaticResolver = resolver) -> None:
            verdict = await spf.check(
                resolver, ip="127.0.0.1", helo="mx.sender.test", sender="bob@sender.test", receiver="mx.fwd.test"
            )
            assert verdict.result == "pass"

        line(f"SPF: a {length} record", "pyspf", await best(theirs, 200), await best(ours, 200), "µs")


async def resolvers() -> None:
    """A question to DNS, from the cache and to a server on loopback."""
    with dns_thread({("sender.test", "TXT"): ['"v=spf1 -all"'], ("*.sender.test", "A"): ["127.0.0.1"]}) as (host, port):
        their_resolver = dns.asyncresolver.Resolver(configure=False)
        their_resolver.nameservers, their_resolver.port = [host], port
        their_resolver.cache = dns.resolver.LRUCache(20_000)
        our_resolver = CachingResolver([f"{host}:{port}"])
        line(
            "DNS: an answer from the cache",
            "dnspython",
            await best(lambda: their_resolver.resolve("sender.test", "TXT"), 500),
            await best(lambda: our_resolver.query("sender.test", "TXT"), 500),
            "µs",
        )
        their_resolver.cache = None
        uncached = CachingResolver([f"{host}:{port}"], cache_entries=0)
        line(
            "DNS: an answer from a server",
            "dnspython",
            await best(lambda: their_resolver.resolve("sender.test", "TXT"), 200),
            await best(lambda: uncached.query("sender.test", "TXT"), 200),
            "µs",
        )
        await our_resolver.close()
        await uncached.close()


async def headers() -> None:
    """The header of a message, and Authentication-Results."""
    message = mail.signed(OCTETS)
    parser = BytesParser(policy=policy.compat32)
    line(
        "Message: header fields, 10 KiB",
        "email",
        await best(lambda: parser.parsebytes(message).items(), 200),
        await best(lambda: Message(message).fields, 200),
        "µs",
    )
    line(
        "Authentication-Results: read",
        "authres",
        await best(lambda: authres.AuthenticationResultsHeader.parse(f"Authentication-Results: {_RESULTS}"), 200),
        await best(lambda: read_results(_RESULTS), 200),
        "µs",
    )


async def main() -> None:
    log.configure("json", "error", sys.stderr)
    logging.disable()
    comparisons: Sequence[Callable[[], Awaitable[None]]] = (signatures, sender_policy, resolvers, headers)
    for compare in comparisons:
        await compare()
    for name, figures in (("receive", smtp_libraries.servers), ("send", smtp_libraries.clients)):
        theirs, ours = await figures(OCTETS)
        library = "aiosmtpd" if name == "receive" else "aiosmtplib"
        line(f"SMTP: {name} a message of 10 KiB", library, theirs, ours)


if __name__ == "__main__":
    uvloop.run(main())
