"""The name of a client counts where its addresses confirm it, and looking for it takes a bounded effort."""

from __future__ import annotations

import asyncio

import dns.name
import pytest

from relay.authenticate.iprev import PTR_NAMES, iprev
from relay.dns import Answer, DnsFailure, StaticResolver


@pytest.mark.parametrize(
    ("ip", "result", "name"),
    [
        ("192.0.2.1", "pass", "mail.example"),
        ("2001:db8::1", "pass", "six.example"),
        ("192.0.2.9", "fail", ""),
        ("192.0.2.8", "permerror", ""),
        ("192.0.2.6", "temperror", ""),
        ("192.0.2.5", "temperror", ""),
    ],
)
async def test_a_client_name_counts_where_it_points_back(ip: str, result: str, name: str) -> None:
    six = dns.name.from_text("1" + ".0" * 23 + ".8.b.d.0.1.0.0.2.ip6.arpa").to_text(omit_final_dot=True)
    resolver = StaticResolver(
        {
            ("1.2.0.192.in-addr.arpa", "PTR"): ["liar.example", "down.example", "mail.example"],
            ("9.2.0.192.in-addr.arpa", "PTR"): ["mail.example"],
            ("6.2.0.192.in-addr.arpa", "PTR"): ["mail.example", "down.example"],
            ("5.2.0.192.in-addr.arpa", "PTR"): DnsFailure("no answer"),
            (six, "PTR"): ["six.example"],
            ("mail.example", "A"): ["192.0.2.7", "192.0.2.1"],
            ("down.example", "A"): DnsFailure("no answer"),
            ("liar.example", "A"): ["198.51.100.1"],
            ("six.example", "AAAA"): ["2001:db8::1"],
        }
    )
    verdict = await iprev(resolver, ip)
    assert (verdict.result, verdict.name) == (result, name)
    assert bool(verdict.problem) == (result != "pass")
    assert verdict.unconfirmed == (("down.example",) if ip == "192.0.2.6" else ())


async def test_looking_for_a_client_name_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever owns the address chooses how many names it has, and how long their name servers take."""
    asked: list[str] = []

    class Endless:
        async def query(self, name: str, rdtype: str) -> Answer:
            asked.append(rdtype)
            if rdtype == "PTR":
                return Answer(tuple(f"{number}.evil.example" for number in range(5000)))
            return Answer(("198.51.100.1",))

    class Silent:
        async def query(self, name: str, rdtype: str) -> Answer:
            await asyncio.Event().wait()
            raise AssertionError

    assert (await iprev(Endless(), "192.0.2.1")).result == "fail"
    assert asked == ["PTR"] + ["A"] * PTR_NAMES
    monkeypatch.setattr("relay.authenticate.iprev.IPREV_SECONDS", 0.0)
    assert (await iprev(Silent(), "192.0.2.1")).result == "temperror"
