"""Questions to DNS that several checks have, and what they say where DNS has no answer."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import TypeVar

from relay.check.finding import CheckName, Finding
from relay.dns import DnsFailure, Resolver

AT_A_TIME = 50  # subjects of a check: a site may have thousands of domains, and each question takes a socket

S = TypeVar("S")
R = TypeVar("R")


async def for_each(
    check: CheckName, subjects: Iterable[S], look: Callable[[S], Awaitable[list[Finding]]]
) -> list[Finding]:
    """The findings about all subjects, in their order; one for a subject about which DNS has no answer."""

    async def findings(subject: S) -> list[Finding]:
        try:
            return await look(subject)
        except DnsFailure as failure:
            return [unanswered(check, str(subject), failure)]

    return [finding for found in await results(subjects, findings) for finding in found]


async def results(subjects: Iterable[S], look: Callable[[S], Awaitable[R]]) -> list[R]:
    """What a function returns for each subject, in their order; `AT_A_TIME` of them run at a time."""
    room = asyncio.Semaphore(AT_A_TIME)

    async def result(subject: S) -> R:
        async with room:
            return await look(subject)

    return await asyncio.gather(*(result(subject) for subject in subjects))


def unanswered(check: CheckName, subject: str, failure: DnsFailure) -> Finding:
    """The finding that DNS has no answer for what the check has to know."""
    mend = "see what `srs-relay check --only resolver,dnssec` says; the name servers of the zone may be at fault, too"
    return Finding(check, subject, "error", f"DNS has no answer: {failure}", mend)


async def texts(resolver: Resolver, name: str, version: str) -> list[str]:
    """The TXT records of a name that begin with a version tag, such as `v=DMARC1`, in this case; octets as Latin-1.

    Raises:
        DnsFailure: there is no answer.
    """
    return [record for record in await _all_texts(resolver, name) if record.startswith(version)]


async def malformed(resolver: Resolver, name: str, version: str) -> str:
    """The first TXT record of a name that has a version tag, and does not begin with it as it has to; empty if none.

    Raises:
        DnsFailure: there is no answer.
    """
    tag = version.lower().rstrip("0123456789")
    for record in await _all_texts(resolver, name):
        if tag in record.lower().replace(" ", "") and not record.startswith(version):
            return record
    return ""


async def _all_texts(resolver: Resolver, name: str) -> list[str]:
    answer = await resolver.query(name, "TXT")
    return [b"".join(strings).decode("latin-1") for strings in answer.records]


async def addresses(resolver: Resolver, name: str) -> list[str]:
    """The IPv4 and IPv6 addresses of a host. Raises DnsFailure: one of the two questions has no answer."""
    answers = await asyncio.gather(resolver.query(name, "A"), resolver.query(name, "AAAA"))
    return [str(record) for answer in answers for record in answer.records]
