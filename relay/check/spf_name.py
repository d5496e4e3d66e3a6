"""A name that we send for, as SPF (RFC 7208) sees it: with the record that DNS has, or with another one."""

from __future__ import annotations

from dataclasses import dataclass

from relay.authenticate import spf
from relay.authenticate.spf import SpfVerdict
from relay.check.site import Site
from relay.dns import Answer, Resolver
from relay.mail.address import normal_domain


@dataclass(frozen=True, slots=True)
class SpfName:
    """The name.

    Attributes:
        is_host: it is the host name, which stands for the null sender (RFC 7208 section 2.4).
    """

    site: Site
    name: str
    is_host: bool = False

    def __str__(self) -> str:
        return self.name

    async def verdict(self, ip: str, record: str | None = None) -> SpfVerdict:
        """What a receiver finds for mail from an address.

        Args:
            record: takes the place of the records that DNS has.
        """
        host, resolver = self.site.config.hostname, self.site.resolver
        return await spf.check(
            resolver if record is None else _Instead(resolver, self.name, record),
            ip=ip,
            helo=self.name if self.is_host else host,
            sender="" if self.is_host else f"postmaster@{self.name}",
            receiver=host,
        )


@dataclass(frozen=True, slots=True)
class _Instead:
    """DNS as it would be with another TXT record."""

    resolver: Resolver
    name: str
    record: str

    async def query(self, name: str, rdtype: str) -> Answer:
        if rdtype == "TXT" and normal_domain(name) == self.name:
            return Answer(((self.record.encode("latin-1"),),))
        return await self.resolver.query(name, rdtype)
