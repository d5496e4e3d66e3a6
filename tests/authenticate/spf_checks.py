"""Checks SPF over records that a test writes down."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from relay.authenticate.spf import SpfVerdict, check
from relay.dns import StaticResolver

PTR = "1.2.0.192.in-addr.arpa"
Records = Sequence[Any] | Exception
Zone = Mapping[tuple[str, str], Records]


def txt(*records: str) -> list[tuple[bytes, ...]]:
    return [(record.encode(),) for record in records]


async def verdict(
    zone: Zone,
    ip: str = "192.0.2.1",
    sender: str = "user@d.example",
    helo: str = "mx.helo.example",
) -> SpfVerdict:
    return await check(StaticResolver(zone), ip=ip, helo=helo, sender=sender, receiver="here.example")


async def result(record: str, others: Zone | None = None, **arguments: str) -> str:
    return (await verdict({("d.example", "TXT"): txt(record), **(others or {})}, **arguments)).result
