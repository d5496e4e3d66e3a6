"""A resolver for tests that remembers its questions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
