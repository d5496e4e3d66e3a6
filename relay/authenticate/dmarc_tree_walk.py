"""The DNS tree walk of DMARC (RFC 9989 section 4.10): which names are looked up, and the Organizational Domain.

Every conclusion is a pure function of `Lookups`, the questions asked so far and their answers. If it needs the answer
to another question, it raises `Unasked`; `conclude` asks that question and runs the function again. So no question is
asked twice or in vain, and all of them can be shown afterwards.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeVar

from relay.authenticate.dmarc_record import PolicyRecord, policy_record
from relay.dns import DnsFailure, Resolver, TooManyQuestions
from relay.mail.reply import printable

WALK = 8  # names at most (RFC 9989 section 4.10)
NAME_OCTETS = 253  # RFC 1035 section 2.3.4, as text
_LABEL_OCTETS = 63  # RFC 1035 section 2.3.4

T = TypeVar("T")
Question = tuple[str, str]  # name and type


class Unasked(Exception):
    """A conclusion needs the answer to a question that has not been asked yet."""

    def __init__(self, question: Question) -> None:
        self.question = question
        super().__init__(" ".join(question))


@dataclass(frozen=True, slots=True)
class Lookup:
    """One question to DNS and its answer.

    Attributes:
        name: the name asked for, in A-labels; with `_dmarc.` in front for a record.
        rdtype: `TXT` for a record, `A` or `CNAME` to learn whether the name exists.
        exists: False for NXDOMAIN.
        record: the DMARC Policy Record, if there is exactly one.
        failure: why there is no answer; printable ASCII.
        temporary: there may be an answer later; False if the question was not asked at all, see `TooManyQuestions`.
    """

    name: str
    rdtype: str
    exists: bool = True
    record: PolicyRecord | None = None
    failure: str = ""
    temporary: bool = True


class Lookups(dict[Question, Lookup]):
    """The questions so far and their answers, in the order in which they were asked.

    Its methods raise `Unasked`, and `DnsFailure` or `TooManyQuestions` where the question has no answer.
    """

    def __missing__(self, question: Question) -> Lookup:
        raise Unasked(question)

    def _answered(self, name: str, rdtype: str) -> Lookup:
        lookup = self[name, rdtype]
        if lookup.failure:
            raise DnsFailure(lookup.failure) if lookup.temporary else TooManyQuestions(lookup.failure)
        return lookup

    def record(self, domain: str) -> PolicyRecord | None:
        """The DMARC Policy Record of a domain itself."""
        return self._answered("_dmarc." + domain, "TXT").record

    def exists(self, domain: str) -> bool:
        """Whether the name exists in DNS (section 3.2.13, appendix A.4).

        For a CNAME, NXDOMAIN is about the name that it points to (RFC 6604 section 3): the CNAME itself exists.
        """
        return any(self._answered(domain, rdtype).exists for rdtype in ("A", "CNAME"))

    def walk(self, domain: str) -> Iterator[tuple[str, PolicyRecord]]:
        """The records from a domain upwards, each with the domain that has it."""
        for name in walk_names(domain):
            record = self.record(name)
            if record is not None:
                yield name, record
                if record.psd != "u":
                    return


def is_domain(domain: str) -> bool:
    """Whether DNS can hold that name; the tree walk needs such a name."""
    labels = domain.split(".")
    return domain.isascii() and len(domain) <= NAME_OCTETS and all(0 < len(x) <= _LABEL_OCTETS for x in labels)


def walk_names(domain: str) -> list[str]:
    """The domains of a tree walk: the domain itself and those above it; of a deep one only the topmost (`WALK`)."""
    labels = domain.split(".")
    parents = [labels[-count:] for count in range(min(len(labels), WALK) - 1, 0, -1)]
    return [domain, *(".".join(parent) for parent in parents)]


async def find_organizational_domain(resolver: Resolver, domain: str) -> str:
    """Looks up the Organizational Domain of a domain (section 4.10.2): itself where no record says otherwise.

    Args:
        domain: in A-labels, lower case.

    Raises:
        DnsFailure: a question got no answer.
    """
    if not is_domain(domain):
        return domain
    return await conclude(lambda lookups: organizational_domain(domain, lookups), Lookups(), resolver)


def organizational_domain(domain: str, lookups: Lookups) -> str:
    """The Organizational Domain of a domain (section 4.10.2), by what is looked up already.

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
    """The domain one label below `suffix` on the way to `domain`; `suffix` itself if it is the domain."""
    return ".".join(domain.split(".")[-suffix.count(".") - 2 :])


async def conclude(conclusion: Callable[[Lookups], T], lookups: Lookups, resolver: Resolver) -> T:
    """Returns a conclusion, after asking the questions that it needs, one by one; they are added to `lookups`."""
    while True:
        try:
            return conclusion(lookups)
        except Unasked as unasked:
            lookups[unasked.question] = await _ask(resolver, *unasked.question)


async def conclude_within(
    seconds: float, conclusion: Callable[[Lookups], T], lookups: Lookups, resolver: Resolver
) -> T:
    """As `conclude`; questions that are still open after the time count as not answered for now."""
    try:
        async with asyncio.timeout(seconds):
            return await conclude(conclusion, lookups, resolver)
    except TimeoutError:
        pass
    while True:
        try:
            return conclusion(lookups)
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
