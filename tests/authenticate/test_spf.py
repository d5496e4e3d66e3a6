"""SPF checks: which identity is checked, what a verdict says, and that a check ends in time whatever comes."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.authenticate import spf
from relay.authenticate.spf import SpfVerdict, check, unchecked
from relay.dns import Answer, DnsFailure, StaticResolver
from tests.authenticate.spf_checks import PTR, Zone, result, txt, verdict


@pytest.mark.parametrize(
    ("sender", "helo", "identity", "domain", "expected"),
    [
        ("user@d.example", "mx.helo.example", "mailfrom", "d.example", "fail"),
        ("", "mx.helo.example", "helo", "mx.helo.example", "pass"),
        ("", "MX.Helo.Example.", "helo", "mx.helo.example", "pass"),
        ("", "[192.0.2.1]", "helo", "[192.0.2.1]", "none"),
        ("", "[IPv6:2001:db8::1.x]", "helo", "[ipv6:2001:db8::1.x]", "none"),
        ("", "localhost", "helo", "localhost", "none"),
        ("", "", "helo", "", "none"),
        ("user@d..example", "mx.helo.example", "mailfrom", "d..example", "none"),
        ("user", "mx.helo.example", "mailfrom", "", "none"),
        ('"a@b c"@d.example', "mx.helo.example", "mailfrom", "d.example", "fail"),
        ("user@bücher.example", "mx.helo.example", "mailfrom", "xn--bcher-kva.example", "pass"),
    ],
)
async def test_the_identity_that_is_checked(sender: str, helo: str, identity: str, domain: str, expected: str) -> None:
    zone = {
        ("d.example", "TXT"): txt("v=spf1 -all"),
        ("mx.helo.example", "TXT"): txt("v=spf1 +all"),
        ("localhost", "TXT"): txt("v=spf1 +all"),
        ("xn--bcher-kva.example", "TXT"): txt("v=spf1 +all"),
    }
    found = await verdict(zone, sender=sender, helo=helo)
    assert (found.result, found.identity, found.domain) == (expected, identity, domain)


async def test_an_ipv4_mapped_client_is_an_ipv4_client() -> None:
    assert await result("v=spf1 ip4:192.0.2.1 -all", ip="::ffff:192.0.2.1") == "pass"
    assert await result("v=spf1 ip6:::ffff:192.0.2.1 ip6:::/0 ?all", ip="::ffff:192.0.2.1") == "neutral"


@pytest.mark.parametrize(
    ("record", "expected", "problem"),
    [
        ("v=spf1 moo -all", "permerror", "Unknown mechanism found: moo"),
        ("v=spf1 a:down.example -all", "temperror", "no answer"),
        ("v=spf1 include:d\x80 -all", "permerror", "Non-ascii characters found"),
    ],
)
async def test_an_error_says_what_is_wrong(record: str, expected: str, problem: str) -> None:
    found = await verdict({("d.example", "TXT"): txt(record), ("down.example", "A"): DnsFailure("no answer")})
    assert found.result == expected
    assert problem in found.problem


class Hanging(StaticResolver):
    """Never answers questions for names below `hangs.example`."""

    async def query(self, name: str, rdtype: str) -> Answer:
        if name.endswith("hangs.example"):
            await asyncio.Event().wait()
        return await super().query(name, rdtype)


async def test_the_whole_check_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spf, "CHECK_SECONDS", 0.05)
    zone = {("d.example", "TXT"): txt("v=spf1 a:hangs.example +all")}
    found = await check(Hanging(zone), ip="192.0.2.1", helo="h.example", sender="u@d.example", receiver="r.example")
    problem = "no result within 0.05 s, still waiting for hangs.example"
    assert found == SpfVerdict("temperror", "mailfrom", "d.example", problem=problem)


async def test_a_fail_stands_without_its_explanation(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spf, "CHECK_SECONDS", 0.05)
    zone = {("d.example", "TXT"): txt("v=spf1 -all exp=hangs.example")}
    found = await check(Hanging(zone), ip="192.0.2.1", helo="h.example", sender="u@d.example", receiver="r.example")
    assert found == SpfVerdict("fail", "mailfrom", "d.example")


async def test_a_check_can_be_given_up() -> None:
    zone = {("d.example", "TXT"): txt("v=spf1 ptr:hangs.example a:hangs.example -all")}
    asked = check(Hanging(zone), ip="192.0.2.1", helo="h.example", sender="u@d.example", receiver="r.example")
    task = asyncio.create_task(asked)
    await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_what_is_no_address_is_the_callers_mistake() -> None:
    with pytest.raises(ValueError, match="nonsense"):
        await verdict({}, ip="nonsense")


TERMS = ["a", "mx", "ptr", "all", "include:i.example", "exists:%{l}.x.example", "ip4:192.0.2.1", "ip6:::/0", "moo"]
TERMS += ["redirect=r.example", "exp=%{d}", "v=spf1", "%{", "%%", "%{p}", "/24", "//64", *"-+~?:=,.", "é", "\x00"]
RECORDS = st.lists(st.sampled_from(TERMS + [f"{term} " for term in TERMS]), max_size=12).map("".join)
TEXT = st.text(st.characters(exclude_categories=()), max_size=30)  # with the lone surrogates of undecodable octets


@given(RECORDS, RECORDS, TEXT, TEXT, st.sampled_from(["192.0.2.1", "2001:db8::1"]))
async def test_no_record_and_no_client_breaks_a_check(
    record: str, included: str, sender: str, helo: str, ip: str
) -> None:
    zone: Zone = {
        ("d.example", "TXT"): txt(f"v=spf1 {record}"),
        ("i.example", "TXT"): txt(f"v=spf1 {included}"),
        ("r.example", "TXT"): txt(f"v=spf1 {included}"),
        ("d.example", "MX"): [(0, ""), (10, "i.example")],
        ("d.example", "A"): ["192.0.2.7"],
        (PTR, "PTR"): ["", "odd\\000name.example", "d.example"],
    }
    for address in (sender, f"{sender}@d.example"):
        found = await verdict(zone, ip=ip, sender=address, helo=helo)
        shown = found.domain + found.explanation + found.problem
        assert shown.isascii()
        assert shown.isprintable()


@pytest.mark.parametrize(
    ("sender", "identity", "domain"),
    [("u@B\u00fccher.example", "mailfrom", "xn--bcher-kva.example"), ("", "helo", "mx.helo.example")],
)
def test_a_client_that_is_not_checked_has_no_result_and_a_reason(sender: str, identity: str, domain: str) -> None:
    skipped = unchecked("a known forwarder", helo="MX.helo.example", sender=sender)
    assert (skipped.result, skipped.identity, skipped.domain) == ("none", identity, domain)
    assert skipped.problem == "not checked, a known forwarder"
