"""SPF records where the published suite is silent: what pyspf alone gets wrong, hostile records, many at once."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Sequence
from typing import Any

import pytest

from relay.authenticate import spf_evaluation
from relay.authenticate.spf import SpfVerdict, check
from relay.dns import Answer, DnsFailure, StaticResolver
from tests.authenticate.spf_checks import PTR, Zone, result, txt, verdict
from tests.resolvers import RecordingResolver


@pytest.mark.parametrize(
    ("record", "expected"),
    [
        ("v=spf1 Redirect=_spf.example", "pass"),
        ("v=spf1 REDIRECT=_spf.example redirect=_spf.example", "permerror"),
        ("v=spf1 foo=1 foo=2 +all", "pass"),
        ("v=spf1 foo=%{l} +all", "pass"),
        ("v=spf1 foo=%{q} +all", "permerror"),
        ("v=spf1 redirect=nowhere.example ~all", "softfail"),
        ("v=spf1 redirect=museum ~all", "permerror"),
        ("v=spf1 ip4:192.0.2.0/24\t-all", "permerror"),
        ("v=spf1 ip6:2001:db8::/32\x7f +all", "permerror"),
        ("v=spf1 IP4:192.0.2.1 -all", "pass"),
        ("v=spf1 ?ip4:192.0.2.0/23 -all", "neutral"),
        ("v=spf1 ~ip4:0.0.0.0/0 -all", "softfail"),
        ("v=spf1 ip4:192.0.2.2/31 -all", "fail"),
        ("v=spf1 ip4:192.0.2.1/ -all", "permerror"),
        ("v=spf1 ip4:192.0.2.1/33 -all", "permerror"),
        ("v=spf1 a/" + "9" * 5000 + " -all", "permerror"),
        ("v=spf1 ip6:::ffff:192.0.2.1 -all", "fail"),
    ],
)
async def test_modifiers_and_syntax(record: str, expected: str) -> None:
    assert await result(record, {("_spf.example", "TXT"): txt("v=spf1 ip4:192.0.2.1")}) == expected


async def test_a_redirect_beside_all_is_no_lookup() -> None:
    zone = {(f"{n}.example", "A"): ["198.51.100.1"] for n in range(10)}
    ten = " ".join(f"a:{n}.example" for n in range(10))
    assert await result(f"v=spf1 redirect=x.example {ten} ~all", zone) == "softfail"
    assert await result(f"v=spf1 {ten} a:0.example ~all", zone) == "permerror"


@pytest.mark.parametrize(
    ("macro", "value"),
    [
        ("%{l-}", "first.last.tag"),
        ("%{l1r-.}", "first"),
        ("%{lR-}", "last.tag.first"),
        ("%{h1-}", "b.helo"),
        ("%{or}", "example.d"),
        ("%{d000000001}", "example"),
        ("%{ir}.%{v}", "1.2.0.192.in-addr"),
        ("a%%b%_c%-d", "a%b c%20d"),
        ("%%%%{d}", "%%{d}"),
        ("%{S}", "first-last.tag%40d.example"),
        ("{d}.%{d}", "{d}.d.example"),
        ("x." * 130 + "d", "x." * 122 + "d"),
    ],
)
async def test_macros_expand_as_section_7_says(macro: str, value: str) -> None:
    resolver = RecordingResolver({("d.example", "TXT"): txt(f"v=spf1 exists:{macro}.example ?all")})
    await check(resolver, ip="192.0.2.1", helo="a-b.helo", sender="first-last.tag@d.example", receiver="r.example")
    assert resolver.asked[1:] == [(f"{value}.example", "A")]


@pytest.mark.parametrize(
    "macro", ["%{d0}", "%{dx}", "%{d2x}", "%{d", "%%%{", "%a", "%", "%{}", "%{c}", "%{r}", "%{d-r}"]
)
async def test_a_malformed_macro_is_an_error(macro: str) -> None:
    assert await result(f"v=spf1 exists:{macro}.example +all") == "permerror"


async def test_an_implied_domain_is_a_name_and_no_domain_spec() -> None:
    zone: Zone = {("d.1", "TXT"): txt("v=spf1 a -all"), ("d.1", "A"): ["192.0.2.1"]}
    assert (await verdict(zone, sender="user@d.1")).result == "pass"


async def test_a_local_part_beyond_ascii_matches_nothing() -> None:
    zone = {("jürgen.d.example", "A"): ["127.0.0.2"], ("juergen.d.example", "A"): ["127.0.0.2"]}
    assert await result("v=spf1 exists:%{l}.d.example -all", zone, sender="jürgen@d.example") == "fail"
    assert await result("v=spf1 exists:%{l}.d.example -all", zone, sender="juergen@d.example") == "pass"


async def test_a_quoted_local_part_counts_by_its_value() -> None:
    zone = {("a@b c.d.example", "A"): ["127.0.0.2"]}
    assert await result("v=spf1 exists:%{l}.d.example -all", zone, sender='"a@b\\ c"@d.example') == "pass"


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["mail.d.example"], "pass"),
        (["gone.example", "void.example", "no.example", "nil.example", "mail.d.example"], "pass"),
        (["down.example", "mail.d.example"], "pass"),
        (["liar.d.example"], "neutral"),
        (["nil.example"] * 10 + ["mail.d.example"], "neutral"),
        (DnsFailure("no answer"), "neutral"),
    ],
)
async def test_ptr_passes_over_what_dns_does_not_tell(names: Sequence[str] | Exception, expected: str) -> None:
    zone: Zone = {
        (PTR, "PTR"): names,
        ("mail.d.example", "A"): ["192.0.2.1"],
        ("liar.d.example", "A"): ["198.51.100.1"],
        ("down.example", "A"): DnsFailure("no answer"),
    }
    assert await result("v=spf1 ptr ?all", zone) == expected


@pytest.mark.parametrize(
    ("names", "name"),
    [
        (["z.example", "sub.d.example", "d.example"], "d.example"),
        (["z.example", "sub.d.example"], "sub.d.example"),
        (["z.example"], "z.example"),
        ([], "unknown"),
        (DnsFailure("no answer"), "unknown"),
    ],
)
async def test_the_client_name_macro_prefers_the_domain(names: Sequence[str] | Exception, name: str) -> None:
    addresses = {(owner, "A"): ["192.0.2.1"] for owner in ("z.example", "sub.d.example", "d.example")}
    zone: Zone = {(PTR, "PTR"): names, **addresses, ("d.example", "TXT"): txt("v=spf1 -exists:%{p}.x.example ?all")}
    resolver = RecordingResolver(zone)
    await check(resolver, ip="192.0.2.1", helo="h.example", sender="u@d.example", receiver="r.example")
    assert (f"{name}.x.example", "A") in resolver.asked


async def test_the_client_names_are_asked_for_once() -> None:
    zone: Zone = {("d.example", "TXT"): txt("v=spf1 " + "exists:%{p}.x.example " * 300), (PTR, "PTR"): ["a.example"]}
    resolver = RecordingResolver(zone)
    await check(resolver, ip="192.0.2.1", helo="h.example", sender="u@d.example", receiver="r.example")
    assert resolver.asked.count((PTR, "PTR")) == 1


async def test_hosts_without_addresses_of_the_clients_family_are_one_void_term() -> None:
    hosts = [(10, f"mx{n}.d.example") for n in range(5)]
    zone: Zone = {("d.example", "MX"): hosts, **{(host, "A"): ["192.0.2.9"] for _, host in hosts}}
    assert await result("v=spf1 mx ip6:2001:db8::/32 -all", zone, ip="2001:db8::1") == "pass"
    void = "a:x.example mx:y.example exists:z.example"
    assert await result(f"v=spf1 {void} ip6:2001:db8::/32 -all", zone, ip="2001:db8::1") == "permerror"


@pytest.mark.parametrize(
    ("text", "explanation"),
    [
        (["See http://d.example/?ip=%{c}&by=%{r}."], "See http://d.example/?ip=192.0.2.1&by=here.example."),
        (["100%%"], "100%"),
        (["x." + "y" * 250 + ". and so on"], "x." + "y" * 250 + ". and so on"),
        (["y" * 1000], "y" * 300),
        (["a\r\nb\tc\x00"], "a??b?c?"),
        (["%{l}"], "user"),
        (["%{d} %{o}"], "redirected.example d.example"),
        (["caf\xe9"], ""),
        (["%{x}"], ""),
        (["one", "two"], ""),
        ([], ""),
        (DnsFailure("no answer"), ""),
    ],
)
async def test_the_explanation(text: list[str] | Exception, explanation: str) -> None:
    zone: Zone = {
        ("d.example", "TXT"): txt("v=spf1 redirect=redirected.example exp=unused.example"),
        ("redirected.example", "TXT"): txt("v=spf1 -all exp=why.%{d}"),
        ("why.redirected.example", "TXT"): text if isinstance(text, Exception) else txt(*text),
    }
    found = await verdict(zone)
    assert (found.result, found.explanation) == ("fail", explanation)


async def test_the_explanation_is_asked_for_on_fail_only() -> None:
    resolver = RecordingResolver({("d.example", "TXT"): txt("v=spf1 ip4:192.0.2.1 -all exp=why.example")})
    for ip, asked in (("192.0.2.1", False), ("192.0.2.2", True)):
        await check(resolver, ip=ip, helo="h.example", sender="u@d.example", receiver="r.example")
        assert (("why.example", "TXT") in resolver.asked) is asked


@pytest.mark.parametrize(
    "terms",
    [
        "a " * 4000,
        "ip4:192.0.2.9 " * 580,
        "a:" + "a" * 8000,
        "a:x." + "a" * 8000 + "!",
        "exists:%{ir}.x.example " * 350,
    ],
    ids=lambda terms: terms[:8],
)
async def test_a_hostile_record_costs_little(terms: str) -> None:
    start = time.process_time()
    await result(f"v=spf1 {terms}")
    assert time.process_time() - start < 2.0  # seconds; a search that goes back takes minutes


async def test_others_get_their_turn_between_answers_from_the_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spf_evaluation, "TURN", 0.0)
    zone = {(f"d{n}.example", "TXT"): txt(f"v=spf1 ip4:10.0.0.0/8 include:d{n + 1}.example ?all") for n in range(9)}
    zone["d9.example", "TXT"] = txt("v=spf1 -all")
    turns = 0

    async def other() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    task = asyncio.create_task(other())
    assert (await verdict(zone, sender="user@d0.example")).result == "neutral"
    task.cancel()
    assert turns == 9


async def test_a_record_past_all_measure_is_an_error() -> None:
    assert await result("v=spf1 " + "ip4:192.0.2.9 " * 1000 + "+all") == "permerror"


async def test_checks_at_the_same_time_do_not_mix() -> None:
    order = random.Random(7208)

    class Unhurried(StaticResolver):
        async def query(self, name: str, rdtype: str) -> Answer:
            for _ in range(order.randrange(5)):
                await asyncio.sleep(0)
            return await super().query(name, rdtype)

    zone: dict[tuple[str, str], Sequence[Any]] = {}
    for n in range(100):
        zone[f"d{n}.example", "TXT"] = txt(f"v=spf1 include:i{n}.example a:a{n}.example -all exp=e{n}.example")
        zone[f"i{n}.example", "TXT"] = txt(f"v=spf1 ip4:198.51.100.{n}")
        zone[f"a{n}.example", "A"] = ["192.0.2.1" if n % 2 else "192.0.2.2"]
        zone[f"e{n}.example", "TXT"] = txt(f"explanation of {n} for %{{l}}")
    resolver = Unhurried(zone)
    verdicts = await asyncio.gather(
        *(check(resolver, ip="192.0.2.1", helo="h", sender=f"u{n}@d{n}.example", receiver="r") for n in range(100))
    )
    for n, found in enumerate(verdicts):
        explanation = "" if n % 2 else f"explanation of {n} for u{n}"
        assert found == SpfVerdict("pass" if n % 2 else "fail", "mailfrom", f"d{n}.example", explanation)
