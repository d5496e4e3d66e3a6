"""Fetches the MTA-STS policy of a domain from its policy host (RFC 8461 section 3.3)."""

from __future__ import annotations

import asyncio
import ipaddress
import itertools
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Literal

from relay.dns import DnsFailure, Resolver
from relay.transport_security.mta_sts_policy import BadPolicy, Policy, parse_off_loop

PATH = "/.well-known/mta-sts.txt"
SECONDS = 60.0  # for the whole of it; RFC 8461 section 3.3 suggests this limit
OCTETS = 64 * 2**10  # RFC 8461 section 3.3 suggests this limit

_RDTYPE = {"ipv4": "A", "ipv6": "AAAA"}

IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address

Fault = Literal["sts-policy-fetch-error", "sts-policy-invalid", "sts-webpki-invalid"]
"""What is wrong with a policy, in the words of TLS reports (RFC 8460 section 4.3.2.2)."""


class NotFetched(Exception):
    """There is no usable answer; the text says why, and `fault` tells programs."""

    def __init__(self, problem: str, fault: Fault = "sts-policy-fetch-error") -> None:
        self.fault: Fault = fault
        super().__init__(problem)


class PolicyHosts:
    """The policy hosts of domains.

    Args:
        families: the address families to connect with, the preferred one first.
        sources: the addresses to connect from, at most one of each family.
        is_allowed: whether a policy host may have an address; by default any. DNS answers may come from a stranger,
            who must not be able to make us connect to hosts of our own network.
    """

    def __init__(
        self,
        resolver: Resolver,
        families: Sequence[str] = ("ipv6", "ipv4"),
        sources: Sequence[IPAddress] = (),
        is_allowed: Callable[[IPAddress], bool] | None = None,
    ) -> None:
        self._resolver = resolver
        self._families = families
        self._sources = sources
        self._is_allowed = is_allowed

    async def policy(self, domain: str) -> tuple[str, Policy]:
        """The policy of a domain, as it came and as it was read.

        Raises:
            NotFetched: there is none to be had now.
        """
        host = host_of(domain)
        try:
            text = await fetch(host, await self._addresses(host), self._sources)
            return text, await parse_off_loop(text)
        except DnsFailure as error:
            raise NotFetched(f"DNS has no answer: {error}") from None
        except BadPolicy as error:
            raise NotFetched(f"the policy cannot be read: {error}", "sts-policy-invalid") from None

    async def _addresses(self, host: str) -> list[str]:
        """The addresses of a policy host, the families in turn.

        Raises:
            DnsFailure: there is none, and a family got no answer.
            NotFetched: none of them is allowed.
        """
        questions = (self._resolver.query(host, _RDTYPE[family]) for family in self._families)
        answers = await asyncio.gather(*questions, return_exceptions=True)
        records = [() if isinstance(answer, BaseException) else answer.records for answer in answers]
        addresses = [address for turn in itertools.zip_longest(*records) for address in turn if address]
        if not addresses:
            for answer in answers:
                if isinstance(answer, BaseException):
                    raise answer
        if addresses and self._is_allowed is not None:
            addresses = [address for address in addresses if self._is_allowed(ipaddress.ip_address(address))]
            if not addresses:
                raise NotFetched(f"{host} has no public address")
        return addresses


def host_of(domain: str) -> str:
    """The name of the policy host of a domain."""
    return f"mta-sts.{domain}"


async def fetch(host: str, addresses: Sequence[str], sources: Sequence[IPAddress] = ()) -> str:
    """The text of `https://HOST/.well-known/mta-sts.txt`.

    The certificate has to be good for the host, the status 200, without a redirect, and the media type text/plain,
    because of hosts where anybody may put HTML at a path (section 3.2).

    Args:
        addresses, sources: see `relay.https.request`.

    Raises:
        NotFetched: there is none, or it is longer than `OCTETS`, the certificate is not good, or time is up.
    """
    https = await asyncio.to_thread(_https)
    try:
        answer = await https.request(host, PATH, addresses, seconds=SECONDS, octets=OCTETS, sources=sources)
    except https.BadCertificate as error:
        raise NotFetched(str(error), "sts-webpki-invalid") from None
    except https.RequestFailed as error:
        raise NotFetched(str(error)) from None
    if answer.status != 200:
        raise NotFetched(f"https://{host}{PATH} gives {answer.status}")
    if answer.media_type != "text/plain":
        raise NotFetched(f"https://{host}{PATH} is {answer.media_type or 'of no media type'}, and not text/plain")
    text: str = answer.body.decode("utf-8", "replace")
    return text


def _https() -> ModuleType:
    """The HTTPS client, which is slow to load: a relay that meets no policy has no use for it."""
    from relay import https

    return https
