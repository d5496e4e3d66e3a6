"""The resolver of `explain`: it notes what was asked."""

from __future__ import annotations

from typing import Any

import pytest

from relay.cli.noting_resolver import Asked, NotingResolver
from relay.dns import DnsFailure, StaticResolver


async def test_each_question_is_noted_once_with_what_came_back() -> None:
    zone: dict[tuple[str, str], Any] = {
        ("a.test", "A"): ["192.0.2.1", "192.0.2.2"],
        ("a.test", "TXT"): [(b"v=spf1 ", b"-all")],
        ("a.test", "MX"): [(10, "mx.a.test")],
        ("silent.test", "A"): DnsFailure("no answer"),
    }
    noting = NotingResolver(StaticResolver(zone))
    for name, rdtype in [*zone, ("a.test", "AAAA"), ("gone.test", "A"), ("a.test", "A")]:
        if name == "silent.test":
            with pytest.raises(DnsFailure):
                await noting.query(name, rdtype)
        else:
            await noting.query(name, rdtype)
    assert noting.noted() == (
        Asked("a.test", "A", ("192.0.2.1", "192.0.2.2")),
        Asked("a.test", "TXT", ("v=spf1 -all",)),
        Asked("a.test", "MX", ("10 mx.a.test",)),
        Asked("silent.test", "A", problem="no answer"),
        Asked("a.test", "AAAA", problem="no such record"),
        Asked("gone.test", "A", problem="no such name"),
    )
    assert noting.noted() == ()
