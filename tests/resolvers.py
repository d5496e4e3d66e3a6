"""A resolver for tests that remembers its questions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from relay.dns import Answer, StaticResolver


class RecordingResolver(StaticResolver):
    """Remembers every question: name and type."""

    def __init__(self, zone: Mapping[tuple[str, str], Sequence[Any] | Exception]) -> None:
        super().__init__(zone)
        self.asked: list[tuple[str, str]] = []

    async def query(self, name: str, rdtype: str) -> Answer:
        self.asked.append((name, rdtype))
        return await super().query(name, rdtype)


class LastingResolver(RecordingResolver):
    """Its answers hold for some seconds, by a clock that the test moves.

    Attributes:
        now: what the clock says.
        ttl: seconds, for the names that are not in `ttls`.
        ttls: for a name and a type.
    """

    def __init__(self, zone: Mapping[tuple[str, str], Sequence[Any] | Exception], ttl: float = 100.0) -> None:
        super().__init__(zone)
        self.now = 1000.0
        self.ttl = ttl
        self.ttls: dict[tuple[str, str], float] = {}

    def clock(self) -> float:
        return self.now

    async def query(self, name: str, rdtype: str) -> Answer:
        answer = await super().query(name, rdtype)
        return replace(answer, expires=self.now + self.ttls.get((name, rdtype), self.ttl))
