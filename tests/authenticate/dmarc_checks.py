"""Evaluates DMARC over records that a test writes down, and remembers what DNS was asked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from relay.authenticate.dkim import DkimVerdict
from relay.authenticate.dmarc import DmarcVerdict, check
from relay.authenticate.spf import SpfVerdict
from relay.dns import Answer, DnsFailure, StaticResolver
from relay.mail.message import Message

Zone = Mapping[str, str | Sequence[str] | Exception]
SILENT = DnsFailure("timeout")


class Recording(StaticResolver):
    """`{domain: its DMARC record}`; a name with a colon is that very name and type. Remembers what it was asked."""

    def __init__(self, zone: Zone) -> None:
        records: dict[tuple[str, str], Sequence[Any] | Exception] = {}
        for name, found in zone.items():
            domain, _, rdtype = name.partition(":")
            key = (domain, rdtype) if rdtype else (f"_dmarc.{name}", "TXT")
            texts = [found] if isinstance(found, str) else found
            records[key] = texts if isinstance(texts, Exception) else [(text.encode(),) for text in texts]
        super().__init__(records)
        self.asked: list[str] = []

    async def query(self, name: str, rdtype: str) -> Answer:
        self.asked.append(name if rdtype == "TXT" else f"{name}:{rdtype}")
        return await super().query(name, rdtype)


def by_spf(domain: str, result: str = "pass", problem: str = "") -> SpfVerdict:
    return SpfVerdict(result, "mailfrom", domain, problem=problem)  # type: ignore[arg-type]


def by_dkim(domain: str, result: str = "pass", problem: str = "") -> DkimVerdict:
    return DkimVerdict(result, domain, "s", "rsa-sha256", problem=problem)  # type: ignore[arg-type]


def written(*header: str) -> Message:
    return Message("".join(f"{line}\r\n" for line in header).encode() + b"\r\n")


async def verdict(
    zone: Zone | Recording, author: str, spf: SpfVerdict | str | None = None, dkim: Sequence[DkimVerdict | str] = ()
) -> DmarcVerdict:
    resolver = zone if isinstance(zone, Recording) else Recording(zone)
    message = author if ":" in author else f"From: a@{author}"
    return await check(
        resolver,
        written(*message.split("\r\n")),
        by_spf(spf) if isinstance(spf, str) else spf,
        [by_dkim(signature) if isinstance(signature, str) else signature for signature in dkim],
    )
