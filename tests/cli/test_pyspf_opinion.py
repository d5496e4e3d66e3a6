"""pyspf's opinion, with its own macros and limits, over our resolver."""

from __future__ import annotations

from typing import Any

import pytest
import spf

from relay.cli.pyspf_opinion import NAME, RECORD_OCTETS, ask_pyspf
from relay.dns import DnsFailure, StaticResolver

ZONE: dict[tuple[str, str], Any] = {
    ("a.test", "TXT"): [(b"v=spf1 ip4:192.0.2.1 ", b"include:b.test -all"), (b"other",)],
    ("b.test", "TXT"): [(b"v=spf1 mx a:six.test ptr:c.test exists:%{ir}.x.test ?all",)],
    ("b.test", "MX"): [(10, "mx.b.test")],
    ("mx.b.test", "A"): ["192.0.2.2"],
    ("six.test", "A"): ["192.0.2.6"],
    ("six.test", "AAAA"): ["2001:db8::1"],
    ("mx.b.test", "AAAA"): ["2001:db8::2"],
    ("3.2.0.192.in-addr.arpa", "PTR"): ["mail.c.test"],
    ("mail.c.test", "A"): ["192.0.2.3"],
    ("4.2.0.192.x.test", "A"): ["127.0.0.2"],
    ("mx.a.test", "TXT"): [(b"v=spf1 ip4:192.0.2.9 -all",)],
    ("broken.test", "TXT"): [(b"v=spf1 nonsense:x -all",)],
    ("twice.test", "TXT"): [(b"v=spf1 -all",), (b"v=spf1 +all",)],
    ("silent.test", "TXT"): DnsFailure("silent.test TXT: timeout"),
    ("long.test", "TXT"): [(b"v=spf1 " + b"a" * RECORD_OCTETS,)],
    ("xn--bcher-kva.test", "TXT"): [(b"v=spf1 ip4:192.0.2.1 -all",)],
}


async def result(sender: str, ip: str = "192.0.2.1", helo: str = "mx.a.test") -> tuple[str, str]:
    opinion = await ask_pyspf(StaticResolver(ZONE), ip=ip, helo=helo, sender=sender, receiver="judge.test")
    return opinion.result, opinion.problem


def test_the_name_has_the_version() -> None:
    assert NAME == "pyspf 2.0.14"


@pytest.mark.parametrize(
    ("ip", "expected"),
    [
        ("192.0.2.1", "pass"),
        ("192.0.2.2", "pass"),
        ("192.0.2.3", "pass"),
        ("192.0.2.4", "pass"),
        ("2001:db8::1", "pass"),
        ("192.0.2.66", "fail"),
        ("2001:db8::66", "fail"),
        ("::ffff:192.0.2.1", "pass"),
    ],
)
async def test_mechanisms_of_every_kind_are_looked_up(ip: str, expected: str) -> None:
    assert await result("ann@a.test", ip) == (expected, "")


async def test_for_the_null_sender_the_greeting_is_evaluated() -> None:
    assert await result("", "192.0.2.9") == ("pass", "")


async def test_a_domain_in_unicode_is_looked_up_in_ascii() -> None:
    assert await result("ann@bücher.test") == ("pass", "")


@pytest.mark.parametrize(
    ("sender", "expected", "said"),
    [
        ("ann@none.test", "none", ""),
        ("ann@broken.test", "permerror", "nonsense"),
        ("ann@twice.test", "permerror", "Two or more"),
        ("ann@silent.test", "temperror", "timeout"),
        ("ann@long.test", "permerror", "longer than"),
        ('"a b"@a.test', "pass", ""),
        ("ann@" + "x" * 70 + ".test", "none", ""),
        ("ann@[192.0.2.1]", "none", ""),
    ],
)
async def test_whatever_goes_wrong_is_an_opinion(sender: str, expected: str, said: str) -> None:
    opinion, problem = await result(sender)
    assert opinion == expected and said in problem


async def test_an_error_of_its_own_is_no_opinion(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(**_: object) -> None:
        raise RecursionError("too deep")

    monkeypatch.setattr(spf, "check2", fails)
    assert await result("ann@a.test") == ("", "pyspf cannot evaluate it: RecursionError: too deep")


async def test_its_own_look_up_is_back_afterwards() -> None:
    before = spf.DNSLookup
    await result("ann@a.test")
    assert spf.DNSLookup is before
