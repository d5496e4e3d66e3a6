"""What pyspf, as it is published, makes of a sender: many next hops run just that (policyd-spf).

`relay.authenticate.spf_evaluation` is built on pyspf, too, but replaces its macros, modifiers, limits and DNS. Here all
of that is pyspf's own; only the records come from our resolver.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import spf

from relay.cli.asking_thread import Ask, in_thread
from relay.dns import DnsFailure, Resolver
from relay.mail.address import normal_domain, split
from relay.mail.reply import printable

NAME = f"pyspf {version('pyspf')}"

RECORD_OCTETS = 8192  # pyspf takes the square of the length of some records
_hook = threading.Lock()  # pyspf has one look-up function for all


@dataclass(frozen=True, slots=True)
class PyspfOpinion:
    """The opinion on one sender. All text is printable ASCII.

    Attributes:
        result: RFC 7208 section 2.6; empty where pyspf has none.
        problem: what went wrong, in the words of pyspf.
    """

    result: str
    problem: str = ""


async def ask_pyspf(resolver: Resolver, *, ip: str, helo: str, sender: str, receiver: str) -> PyspfOpinion:
    """Have pyspf evaluate a sender, or the EHLO name for the null sender. Never raises for what is in DNS."""
    if sender:
        local, domain = split(sender)
        sender = f"{local}@{normal_domain(domain)}"
    return await in_thread(resolver, lambda ask: _check(ask, ip, helo, sender, receiver))


def _check(ask: Ask, ip: str, helo: str, sender: str, receiver: str) -> PyspfOpinion:
    def look_up(name: str, rdtype: str, strict: object = True, timeout: float = 0) -> list[tuple[tuple[str, str], Any]]:
        try:
            records = ask(name, rdtype).records
        except DnsFailure as failure:
            raise spf.TempError(f"DNS {failure}") from failure
        if rdtype == "TXT" and any(sum(map(len, record)) > RECORD_OCTETS for record in records):
            raise spf.PermError(f"a TXT record of {name} is longer than {RECORD_OCTETS} octets")
        return [((name, rdtype), record) for record in records]

    with _hook:
        before, spf.DNSLookup = spf.DNSLookup, look_up
        try:
            result, explanation = spf.check2(i=ip, s=sender, h=helo, receiver=receiver)
        except Exception as error:
            return PyspfOpinion("", printable(f"pyspf cannot evaluate it: {type(error).__name__}: {error}", 200))
        finally:
            spf.DNSLookup = before
    failed = result in ("temperror", "permerror")
    return PyspfOpinion(result, printable(str(explanation).partition(": ")[2], 200) if failed else "")
