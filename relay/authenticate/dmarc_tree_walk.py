"""The DNS tree walk of DMARC (RFC 9989 section 4.10): which names are asked, and which domain is the organization's.

Everything is concluded from `Lookups`, what has been asked so far. A conclusion that hangs on a question which has not
been asked yet raises `Unasked`; `settle` asks it and concludes again. So nothing is asked in vain or twice, and what
was asked can be shown afterwards.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeVar

from relay.authenticate.dmarc_record import Record, policy_record
from relay.dns import DnsFailure, Resolver, TooManyQuestions
from relay.mail.reply import printable

WALK = 8  # names at most (RFC 9989 section 4.10)
NAME_OCTETS = 253  # RFC 1035 section 2.3.4, as text
_LABEL_OCTETS = 63  # RFC 1035 section 2.3.4

T = TypeVar("T")
Question = tuple[str, str]  # name and type


class Unasked(Exception):
    """A conclusion hangs on a question that nobody has asked yet."""

    def __init__(self, question: Question) -> None:
        self.question = question
        super().__init__(" ".join(question))


@dataclass(frozen=True, slots=True)
class Lookup:
    """One question to DNS and what came of it.

    Attributes:
        name: that was asked for, in A-labels; `_dmarc.` in front where a record was.
        rdtype: `TXT` for a record, `A` or `CNAME` for whether the name exists at all.
        exists: False for NXDOMAIN.
        record: the DMARC Policy Record, if there is exactly one.
        failure: why there was no answer; printable ASCII.
        temporary: whether there may be one later; False where it was not asked for, see `TooManyQuestions`.
    """

    name: str
    rdtype: str
    exists: bool = True
    record: Record | None = None
    failure: str = ""
    temporary: bool = True


class Lookups(dict[Question, Lookup]):
    """What was asked, in that order.

    Its methods raise `Unasked`, and `DnsFailure` or `TooManyQuestions` where the question got no answer.
    """

    def __missing__(self, question: Question) -> Lookup:
        raise Unasked(question)

    def _answered(self, name: str, rdtype: str) -> Lookup:
        lookup = self[name, rdtype]
        if lookup.failure:
            raise DnsFailure(lookup.failure) if lookup.temporary else TooManyQuestions(lookup.failure)
        return lookup

    def record(self, domain: str) -> Record | None:
        """The DMARC Policy Record of a domain itself."""
        return self._answered("_dmarc." + domain, "TXT").record

    def exists(self, domain: str) -> bool:
        """Whether there is anything in DNS at that name (section 3.2.13, appendix A.4).

        Behind a CNAME, NXDOMAIN is about the name that it points to (RFC 6604 section 3): the CNAME itself exists.
        """
        return any(self._answered(domain, rdtype).exists for rdtype in ("A", "CNAME"))

    def walk(self, domain: str) -> Iterator[tuple[str, Record]]:
        """The records from a domain upwards, with the domains that they stand at."""
        for name in walked(domain):
            record = self.record(name)
            if record is not None:
                yield name, record
                if record.psd != "u":
                    return


def is_domain(domain: str) -> bool:
    """Whether DNS can hold that name; only such a domain can be walked up from."""
    labels = domain.split(".")
    return domain.isascii() and len(domain) <= NAME_OCTETS and all(0 < len(x) <= _LABEL_OCTETS for x in labels)


def walked(domain: str) -> list[str]:
    """The domains of a tree walk: the first itself and those above it, less what is between if it is a deep one."""
    labels = domain.split(".")
    upwards = [labels[-count:] for count in range(min(len(labels), WALK) - 1, 0, -1)]
    return [domain, *(".".join(suffix) for suffix in upwards)]


def organizational(domain: str, lookups: Lookups) -> str:
    """The Organizational Domain of a domain (section 4.10.2): itself where no record says otherwise.

    Raises:
        Unasked, DnsFailure: as `Lookups`.
    """
    result = domain
    for name, record in lookups.walk(domain):
        if record.psd == "y":
            return _one_below(name, domain)
        result = name
    return result


def _one_below(suffix: str, domain: str) -> str:
    """The domain one label below `suffix` on the way to `domain`; that itself where there is nothing below."""
    return ".".join(domain.split(".")[-suffix.count(".") - 2 :])


async def settle(conclude: Callable[[Lookups], T], lookups: Lookups, resolver: Resolver) -> T:
    """Conclude, asking one question after the other as far as they are needed; what was asked is added to `lookups`."""
    while True:
        try:
            return conclude(lookups)
        except Unasked as unasked:
            lookups[unasked.question] = await _ask(resolver, *unasked.question)


async def settle_within(seconds: float, conclude: Callable[[Lookups], T], lookups: Lookups, resolver: Resolver) -> T:
    """`settle`; a question that it still hangs on by then counts as not answered for now."""
    try:
        async with asyncio.timeout(seconds):
            return await settle(conclude, lookups, resolver)
    except TimeoutError:
        pass
    while True:
        try:
            return conclude(lookups)
        except Unasked as unasked:
            failure = printable(f"{unasked}: no result within {seconds:g} s")
            lookups[unasked.question] = Lookup(*unasked.question, failure=failure)


async def _ask(resolver: Resolver, name: str, rdtype: str) -> Lookup:
    try:
        answer = await resolver.query(name, rdtype)
    except DnsFailure as failure:
        temporary = not isinstance(failure, TooManyQuestions)
        return Lookup(name, rdtype, failure=printable(str(failure)) or "no answer", temporary=temporary)
    return Lookup(name, rdtype, answer.exists, policy_record(answer.records) if rdtype == "TXT" else None)
