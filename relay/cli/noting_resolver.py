"""A resolver that notes what is asked, so that `explain` can show it."""

from __future__ import annotations

from dataclasses import dataclass

from relay.dns import Answer, DnsFailure, Resolver


@dataclass(frozen=True, slots=True)
class Asked:
    """A question to DNS and what came back: records as text, or why there are none."""

    name: str
    rdtype: str
    records: tuple[str, ...] = ()
    problem: str = ""


class NotingResolver:
    """Passes questions on, and remembers each with its answer, in the order in which they were first asked."""

    def __init__(self, resolver: Resolver) -> None:
        self._resolver = resolver
        self._noted: dict[tuple[str, str], Asked] = {}

    async def query(self, name: str, rdtype: str) -> Answer:
        """As any `Resolver`. Raises DnsFailure."""
        try:
            answer = await self._resolver.query(name, rdtype)
        except DnsFailure as failure:
            self._noted.setdefault((name, rdtype), Asked(name, rdtype, problem=str(failure)))
            raise
        nothing = "no such record" if answer.exists else "no such name"
        records = tuple(_text(record) for record in answer.records)
        self._noted.setdefault((name, rdtype), Asked(name, rdtype, records, "" if records else nothing))
        return answer

    def noted(self) -> tuple[Asked, ...]:
        """What was asked since this was called last."""
        questions = tuple(self._noted.values())
        self._noted.clear()
        return questions


def _text(record: object) -> str:
    if isinstance(record, tuple):
        if all(isinstance(part, bytes) for part in record):
            return b"".join(record).decode("utf-8", "replace")
        return " ".join(str(part) for part in record)
    return str(record)
