"""DMARC: the examples of RFC 9989, then what its text says of policies, alignment, DNS that fails, and odd authors."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.authenticate import dmarc
from relay.authenticate.dmarc import DmarcVerdict, check, evaluate
from relay.authenticate.dmarc_record import policy_record
from relay.authenticate.dmarc_tree_walk import Lookup, Lookups, find_organizational_domain, walk_names
from relay.authenticate.dns_budget import QUESTIONS, Budget
from relay.authenticate.spf import SpfVerdict
from relay.dns import Answer, DnsFailure
from relay.mail.message import Message
from tests.authenticate.dmarc_checks import SILENT, Recording, Zone, by_dkim, by_spf, verdict, written

# --- the examples of the RFC


async def test_appendix_b_4_1_simple() -> None:
    zone = {"example.com": "v=DMARC1; p=reject", "signing.example.com": "v=DMARC1; p=none"}
    found = await verdict(zone, "example.com", "example.com", ["signing.example.com"])
    assert (found.result, found.aligned, found.organizational) == ("pass", ("spf", "dkim"), "example.com")
    assert (found.policy, found.record_domain) == ("reject", "example.com")


async def test_appendix_b_4_2_deep() -> None:
    zone = Recording({"example.com": "v=DMARC1; p=reject", "signing.example.com": "v=DMARC1; p=none"})
    author = "a.b.c.d.e.f.g.h.i.j.k.example.com"
    found = await verdict(zone, author, "example.com", ["signing.example.com"])
    assert (found.result, found.aligned, found.organizational) == ("pass", ("spf", "dkim"), "example.com")
    assert found.record_domain == "example.com"
    assert zone.asked == [*(f"_dmarc.{name}" for name in walk_names(author)), "_dmarc.signing.example.com"]


async def test_appendix_b_4_3_public_suffix() -> None:
    zone = {"bank.example": "v=DMARC1; p=reject; psd=y", "giant.bank.example": "v=DMARC1; p=quarantine"}
    found = await verdict(zone, "giant.bank.example", "mail.giant.bank.example", ["mail.mega.bank.example"])
    assert (found.result, found.aligned, found.organizational) == ("pass", ("spf",), "giant.bank.example")
    assert (found.policy, found.record_domain) == ("quarantine", "giant.bank.example")


@pytest.mark.parametrize(
    ("record", "author", "policy", "disposition"),
    [
        ("p=reject", "example.com", "reject", "reject"),
        ("p=quarantine", "example.com", "quarantine", "quarantine"),
        ("p=none", "example.com", "none", "none"),
        ("p=reject; t=y", "example.com", "reject", "quarantine"),
        ("p=quarantine; t=y", "example.com", "quarantine", "none"),
        ("p=none; t=y", "example.com", "none", "none"),
        ("p=none; sp=reject; t=y", "a.example.com", "reject", "quarantine"),
        ("p=reject; pct=0", "example.com", "reject", "reject"),
    ],
)
async def test_the_disposition(record: str, author: str, policy: str, disposition: str) -> None:
    zone = {"example.com": f"v=DMARC1; {record}"}
    found = await verdict(zone, author)
    assert (found.result, found.policy, found.testing) == ("fail", policy, "t=y" in record)
    assert found.disposition == disposition
    assert (await verdict(zone, author, author)).disposition == "none", "there is nothing to do about a pass"


async def test_without_a_record_there_is_no_dmarc() -> None:
    found = await verdict({"example.net": "v=DMARC1; p=reject"}, "a.example.com", "evil.example")
    assert found == DmarcVerdict("none", "a.example.com", organizational="a.example.com")


async def test_what_passes_is_told_without_a_record_too() -> None:
    zone = Recording({})
    found = await verdict(zone, "example.com", "example.com", ["m.example.com", "example.com"])
    assert (found.result, found.aligned) == ("none", ("spf", "dkim"))
    assert (await verdict(zone, "example.com", "m.example.com")).aligned == ()
    assert zone.asked == ["_dmarc.example.com", "_dmarc.com"] * 2, "the rest could make no difference"


async def test_a_record_that_asks_for_nothing() -> None:
    found = await verdict({"example.com": "v=DMARC1", "com": "v=DMARC1; p=reject"}, "example.com", "example.com")
    assert (found.result, found.policy, found.aligned) == ("none", "", ("spf",))
    assert "example.com" in found.problem


# --- what is asked


@pytest.mark.parametrize(
    ("spf", "dkim", "asked"),
    [
        (None, [], []),
        ("example.com", ["example.com"], []),
        (None, ["other.net", "example.com"], []),
        (by_spf("m.example.com", "fail"), [by_dkim("m.example.com", "permerror")], []),
        (by_spf("m.example.com", "softfail"), [by_dkim("m.example.com", "fail")], []),
        ("other.net", ["elsewhere.example"], []),
        ("other.com", ["m.badexample.com"], ["_dmarc.com"]),
        ("m.example.com", ["m.example.com"], ["_dmarc.com", "_dmarc.m.example.com"]),
        (None, ["a.b.example.com"], ["_dmarc.com", "_dmarc.a.b.example.com", "_dmarc.b.example.com"]),
    ],
)
async def test_only_what_matters_is_asked(spf: Any, dkim: Any, asked: list[str]) -> None:
    zone = Recording({"example.com": "v=DMARC1; p=reject"})
    found = await verdict(zone, "example.com", spf, dkim)
    assert zone.asked == ["_dmarc.example.com", *asked]
    assert [one.name for one in found.lookups] == zone.asked
    zone = Recording({"example.com": "v=DMARC1; p=reject; adkim=s; aspf=s"})
    await verdict(zone, "example.com", spf, dkim)
    assert zone.asked == ["_dmarc.example.com"]


async def test_whether_the_domain_exists_is_asked_only_where_it_makes_a_difference() -> None:
    for tags, asked in (
        ("", []),
        ("; sp=reject; np=reject", []),
        ("; np=none", ["a.example.com:A", "a.example.com:CNAME"]),
    ):
        zone = Recording({"example.com": "v=DMARC1; p=reject" + tags})
        await verdict(zone, "a.example.com")
        assert zone.asked == ["_dmarc.a.example.com", "_dmarc.example.com", "_dmarc.com", *asked]


@pytest.mark.parametrize("result", ["pass", "temperror"])
async def test_what_is_not_shown_to_be_aligned_within_the_budget_fails(result: str) -> None:
    deep = [".".join(f"{letter}{number}" for letter in "abcde") + ".example.com" for number in range(100)]
    zone = Recording({"example.com": "v=DMARC1; p=reject; psd=y"})
    signatures = [by_dkim(f"x.{domain}", result) for domain in deep]
    found = await check(Budget(zone).authors, written("From: a@example.com"), None, signatures)
    assert len(zone.asked) == QUESTIONS
    assert (found.result, found.disposition) == ("fail", "reject")
    assert "too many questions" in found.problem


async def test_the_policies_of_all_authors_are_found_before_any_alignment() -> None:
    deep = [".".join(f"{letter}{number}" for letter in "abcde") + ".example.com" for number in range(100)]
    zone = Recording({"example.com": "v=DMARC1; p=none", "bank.example": "v=DMARC1; p=reject"})
    header = "From: a@example.com, ceo@x.y.bank.example"
    found = await check(Budget(zone).authors, written(header), None, [by_dkim(f"x.{domain}") for domain in deep])
    assert (found.result, found.domain, found.disposition) == ("fail", "x.y.bank.example", "reject")


@pytest.mark.parametrize(
    ("spf", "dkim", "result", "disposition"),
    [
        (None, [], "fail", "reject"),
        ("m.example.com", ["m.example.com"], "fail", "reject"),
        (None, [by_dkim("example.com", "temperror")], "fail", "reject"),
        ("example.com", [], "permerror", "none"),
        (None, ["example.com"], "permerror", "none"),
    ],
)
async def test_a_policy_that_may_not_be_asked_for_is_the_strictest(
    spf: Any, dkim: Any, result: str, disposition: str
) -> None:
    """Only what passes for the author's very domain passes under any."""
    budget = Budget(Recording({}))
    for number in range(QUESTIONS):
        await budget.authors.query(f"{number}.example", "TXT")
    spf = by_spf(spf) if spf else None
    signatures = [by_dkim(one) if isinstance(one, str) else one for one in dkim]
    found = await check(budget.authors, written("From: a@example.com"), spf, signatures)
    assert (found.result, found.policy, found.disposition) == (result, "", disposition)


async def test_what_was_asked_can_be_shown() -> None:
    zone = Recording({"a.example.com": "v=DMARC1 p=none", "example.com": "v=DMARC1; p=reject", "com": SILENT})
    found = await verdict(zone, "a.example.com")
    assert found.result == "temperror"
    own, organizations, tld = found.lookups
    assert own == Lookup("_dmarc.a.example.com", "TXT")
    assert organizations.record is not None
    assert organizations.record.text == "v=DMARC1; p=reject"
    assert tld == Lookup("_dmarc.com", "TXT", failure="timeout")


async def test_the_verdict_is_a_function_of_what_was_found() -> None:
    resolver = Recording({"example.com": "v=DMARC1; p=reject; np=none"})
    spf = by_spf("m.example.com")
    found = await check(resolver, written("From: a@b.example.com"), spf, ())
    asked = Lookups({(one.name, one.rdtype): one for one in found.lookups})
    assert evaluate("b.example.com", spf, (), asked) == found


async def test_what_was_not_needed_is_not_said() -> None:
    found = await verdict(ORGANIZATION, "example.com", "example.com")
    assert (found.result, found.organizational, found.unsettled) == ("pass", "", ())


def test_alignment_that_may_not_be_asked_for_is_a_failure_with_its_reason() -> None:
    asked = Lookups()
    for name in ("example.com", "com"):
        record = policy_record([(b"v=DMARC1; p=reject",)]) if name == "example.com" else None
        asked[f"_dmarc.{name}", "TXT"] = Lookup(f"_dmarc.{name}", "TXT", record=record)
    asked["_dmarc.m.example.com", "TXT"] = Lookup(
        "_dmarc.m.example.com", "TXT", failure="too many questions", temporary=False
    )
    found = evaluate("example.com", by_spf("m.example.com"), (), asked)
    assert (found.result, found.problem, found.disposition) == ("fail", "too many questions", "reject")


# --- DNS that does not answer

ORGANIZATION: Zone = {"example.com": "v=DMARC1; p=reject"}
MAYBE_THERE: Zone = {"example.com": "v=DMARC1; p=none; np=reject", "a.example.com:A": SILENT}


@pytest.mark.parametrize(
    ("zone", "author", "spf", "dkim", "result"),
    [
        # whether there is a record, and which, is not known
        ({"example.com": SILENT}, "example.com", "example.com", ["example.com"], "temperror"),
        ({"a.example.com": SILENT, **ORGANIZATION}, "a.example.com", None, [], "temperror"),
        ({**ORGANIZATION, "com": SILENT}, "a.example.com", None, [], "temperror"),
        # the record is there: what is above it no longer matters where identical domains pass, or none at all
        ({**ORGANIZATION, "com": SILENT}, "example.com", "example.com", [], "pass"),
        ({**ORGANIZATION, "com": SILENT}, "example.com", "other.net", [], "fail"),
        ({**ORGANIZATION, "com": SILENT}, "example.com", "m.example.com", [], "temperror"),
        ({**ORGANIZATION, "com": SILENT}, "example.com", "m.example.com", ["example.com"], "pass"),
        # whether the identifier is of the same organization
        ({**ORGANIZATION, "m.example.com": SILENT}, "example.com", "m.example.com", [], "temperror"),
        ({**ORGANIZATION, "m.example.com": SILENT}, "example.com", "m.example.com", ["n.example.com"], "pass"),
        ({**ORGANIZATION, "m.example.com": SILENT}, "example.com", None, ["m.example.com", "n.example.com"], "pass"),
        # what SPF and DKIM could not find out
        (ORGANIZATION, "example.com", by_spf("example.com", "temperror"), [], "temperror"),
        (ORGANIZATION, "example.com", by_spf("m.example.com", "temperror"), [], "temperror"),
        (ORGANIZATION, "example.com", by_spf("other.com", "temperror"), [], "fail"),
        (ORGANIZATION, "example.com", by_spf("example.com", "temperror"), ["example.com"], "pass"),
        (ORGANIZATION, "example.com", None, [by_dkim("example.com", "temperror")], "temperror"),
        (ORGANIZATION, "example.com", None, [by_dkim("m.example.com", "temperror"), "n.example.com"], "pass"),
        (ORGANIZATION, "example.com", None, [by_dkim("other.com", "temperror")], "fail"),
        # another organization's by name, whatever DNS says of its top-level domain
        ({**ORGANIZATION, "com": SILENT}, "example.com", "evil.com", [], "fail"),
        ({**ORGANIZATION, "com": SILENT}, "example.com", None, [by_dkim("evil.com", "temperror")], "fail"),
        ({**ORGANIZATION, "com": SILENT}, "example.com", None, [by_dkim("m.example.com", "temperror")], "temperror"),
        (
            {"example.com": "v=DMARC1; p=reject; adkim=s"},
            "example.com",
            None,
            [by_dkim("m.example.com", "temperror")],
            "fail",
        ),
        ({}, "example.com", by_spf("example.com", "temperror"), [by_dkim("example.com", "temperror")], "none"),
        # whether the author's domain exists
        (MAYBE_THERE, "a.example.com", None, [], "temperror"),
        (MAYBE_THERE, "a.example.com", "a.example.com", [], "pass"),
    ],
)
async def test_an_answer_that_is_missing(zone: Zone, author: str, spf: Any, dkim: Any, result: str) -> None:
    found = await verdict(zone, author, spf, dkim)
    assert found.result == result
    assert bool(found.problem) == (result == "temperror")
    assert found.disposition == ("reject" if result == "fail" else "none")


@pytest.mark.parametrize(
    ("zone", "author", "dispositions"),
    [
        ({"example.com": SILENT}, "example.com", {"none", "quarantine", "reject"}),
        ({"com": SILENT}, "example.com", {"none", "quarantine", "reject"}),
        (MAYBE_THERE, "a.example.com", {"none", "reject"}),
        (
            {"example.com": "v=DMARC1; p=none; sp=quarantine; np=reject; t=y", "a.example.com:A": SILENT},
            "a.example.com",
            {"none", "quarantine"},
        ),
        ({**ORGANIZATION, "m.example.com": SILENT}, "example.com", {"reject"}),
        ({"example.com": "v=DMARC1; p=none", "m.example.com": SILENT}, "example.com", {"none"}),
    ],
)
async def test_what_may_come_of_an_answer_that_is_missing(zone: Zone, author: str, dispositions: set[str]) -> None:
    found = await verdict(zone, author, by_spf("m.example.com", "temperror"))
    assert (found.result, {*found.dispositions}) == ("temperror", dispositions)


@pytest.mark.parametrize(
    ("spf", "dkim"),
    [
        (by_spf("example.com", "temperror", "k.example.com TXT: SERVFAIL"), []),
        (None, [by_dkim("m.example.com", "temperror", "k.example.com TXT: SERVFAIL")]),
    ],
)
async def test_a_check_of_spf_or_dkim_that_failed_for_now_is_named(spf: Any, dkim: Any) -> None:
    found = await verdict(ORGANIZATION, "example.com", spf, dkim)
    assert (found.result, found.problem) == ("temperror", "k.example.com TXT: SERVFAIL")


@pytest.mark.parametrize(("spf", "dkim"), [("example.com", []), (None, ["example.com"])])
async def test_for_the_very_domain_of_the_author_the_policy_is_no_matter(spf: Any, dkim: Any) -> None:
    found = await verdict({"example.com": SILENT}, "example.com", spf, dkim)
    assert (found.result, found.aligned, found.dispositions) == ("temperror", ("spf",) if spf else ("dkim",), ())


async def test_the_stricter_policy_is_told_of_a_pass_where_it_is_in_doubt() -> None:
    assert (await verdict(MAYBE_THERE, "a.example.com", "a.example.com")).policy == "reject"


async def test_servers_that_are_slow_end_the_check(monkeypatch: pytest.MonkeyPatch) -> None:
    class Slow(Recording):
        async def query(self, name: str, rdtype: str) -> Answer:
            if name.endswith("slow.example"):
                await asyncio.Event().wait()
            return await super().query(name, rdtype)

    monkeypatch.setattr(dmarc, "CHECK_SECONDS", 0.05)
    assert (await verdict(Slow({}), "slow.example")).result == "temperror"
    found = await verdict(Slow(ORGANIZATION), "From: a@slow.example, b@example.com")
    assert (found.result, found.domain) == ("fail", "example.com"), "one author's servers do not shield another"


# --- who the author is

AUTHORS: Zone = {
    "good.example": "v=DMARC1; p=none",
    "bank.example": "v=DMARC1; p=reject",
    "shop.example": "v=DMARC1; p=quarantine",
    "xn--bcher-kva.example": "v=DMARC1; p=reject",
    "down.example": SILENT,
}


@pytest.mark.parametrize(
    ("header", "result", "domain"),
    [
        ("From: " + ", ".join("a@good.example" + "." * dots for dots in range(50)), "pass", "good.example"),
        ("From: A <a@good.example>", "pass", "good.example"),
        ("From: a@GOOD.Example.", "pass", "good.example"),
        ("From: a@good.example, b@good.example", "pass", "good.example"),
        ("From: G: a@good.example, b@good.example;", "pass", "good.example"),
        ('From: "a@bank.example" <a@good.example>', "pass", "good.example"),
        ("From: (a@bank.example) a@good.example", "pass", "good.example"),
        ("From: =?utf-8?q?a=40bank.example?= <a@good.example>", "pass", "good.example"),
        # several domains: the one that comes off worst
        ("From: a@good.example, b@bank.example", "fail", "bank.example"),
        ("From: b@shop.example, a@good.example, b@bank.example", "fail", "bank.example"),
        ("From: a@good.example, b@shop.example", "fail", "shop.example"),
        ("From: a@good.example, b@unknown.example", "none", "unknown.example"),
        ("From: a@good.example, b@down.example", "temperror", "down.example"),
        ("From: b@down.example, b@bank.example", "fail", "bank.example"),
        # several readings
        ("From: a@bank.example <a@good.example>", "fail", "bank.example"),
        ("From: <a@good.example> <b@bank.example>", "fail", "bank.example"),
        ("From: <@good.example:b@bank.example>", "fail", "bank.example"),
        ('From: "a" <a@good.example> "b@bank.example', "fail", "bank.example"),
        ("From: a@good.example (b@bank.example", "fail", "bank.example"),
        ("From: a@good.example\0, b@bank.example", "fail", "bank.example"),
        ("From: =?utf-8?b?YUBiYW5rLmV4YW1wbGU=?=, a@good.example", "fail", "bank.example"),
        ('From: "=?utf-8?q?a=40bank.example?=", a@good.example', "fail", "bank.example"),
        # none
        ("Subject: x", "permerror", ""),
        ("From:", "permerror", ""),
        ("From: undisclosed;", "permerror", ""),
        ("From: Undisclosed:;", "permerror", ""),
        ("From: <>", "permerror", ""),
        ("From: root", "permerror", ""),
        ("From: a@[192.0.2.1]", "permerror", "[192.0.2.1]"),
        ("From: a@good..example", "permerror", "good..example"),
        ("From: a@good.example, b@good..example", "permerror", "good..example"),
        # more than one field
        ("From: a@good.example\r\nFrom: a@good.example", "fail", "good.example"),
        ("From: a@good.example\r\nFrom: b@bank.example", "fail", "bank.example"),
        ("From: b@bank.example\r\nfrom : a@good.example", "fail", "bank.example"),
        ("From\r\n : b@bank.example\r\nFrom: a@good.example", "fail", "bank.example"),
        ("From: b@unknown.example\r\nFrom: b@unknown.example", "permerror", "unknown.example"),
        ("From:\r\nFrom: a@good.example", "fail", "good.example"),
        # internationalized
        ("From: a@bücher.example", "fail", "xn--bcher-kva.example"),
        ("From: a@BÜCHER\u3002example", "fail", "xn--bcher-kva.example"),
        ("From: jörg@xn--bcher-kva.example", "fail", "xn--bcher-kva.example"),
        ("From: a@-bücher.example", "permerror", "-b?cher.example"),
    ],
)
async def test_authors(header: str, result: str, domain: str) -> None:
    found = await verdict(AUTHORS, header, "good.example", ["good.example"])
    assert (found.result, found.domain) == (result, domain)
    assert bool(found.problem) == (found.result in ("permerror", "temperror") or header.lower().count("from") > 1)


async def test_an_internationalized_domain_passes() -> None:
    found = await verdict(AUTHORS, "From: a@bücher.example", None, ["xn--bcher-kva.example"])
    assert (found.result, found.aligned) == ("pass", ("dkim",))


async def test_of_more_authors_than_anyone_can_look_at_there_is_no_pass() -> None:
    zone = Recording({f"a{number}.example": "v=DMARC1; p=none" for number in range(20)})
    many = ", ".join(f"a@a{number}.example" for number in range(20))
    signed = [f"a{number}.example" for number in range(20)]
    assert (await verdict(zone, f"From: {many}", None, signed)).result == "permerror"
    assert len(zone.asked) == dmarc.AUTHOR_DOMAINS
    found = await verdict(AUTHORS, f"From: b@bank.example, {many}", None, signed)
    assert (found.result, found.domain) == ("fail", "bank.example")


async def test_as_many_authors_as_are_looked_at_may_pass() -> None:
    names = [f"a{number}.example" for number in range(dmarc.AUTHOR_DOMAINS)]
    zone: Zone = dict.fromkeys(names, "v=DMARC1; p=none")
    found = await verdict(zone, "From: " + ", ".join(f"a@{name}" for name in names), None, names)
    assert (found.result, found.problem) == ("pass", "")
    found = await verdict(zone, "From: b@b.example, " + ", ".join(f"a@{name}" for name in names), None, names)
    assert (found.result, found.domain, found.problem) == ("permerror", "", "more than 10 domains in From")


@pytest.mark.parametrize(
    ("header", "problem", "fields"),
    [
        ("Subject: x", "no From", 0),
        ("From: root", "From names no domain", 1),
        ("From:\r\nFrom:", "From names no domain", 2),
        ("From: a@good..example", "From names a domain that DNS cannot hold", 1),
        ("From: a@down.example", "timeout", 1),
        ("From: a@good.example\r\nFrom: a@good.example", "2 From fields", 2),
        ("From: a@down.example\r\nFrom: a@down.example", "2 From fields, timeout", 2),
        ("From: a@good.example", "", 1),
    ],
)
async def test_what_is_wrong_with_an_author_is_said(header: str, problem: str, fields: int) -> None:
    found = await verdict(AUTHORS, header, "good.example")
    assert (found.problem, found.from_fields) == (problem, fields)


async def test_the_other_authors_are_kept_beside_the_one_that_counts() -> None:
    found = await verdict(AUTHORS, "From: a@good.example, b@bank.example, c@shop.example", "good.example")
    assert [other.domain for other in found.others] == ["good.example", "shop.example"]
    assert (found.domain, found.domains) == ("bank.example", 3)


async def test_of_two_that_are_as_bad_the_one_with_a_known_policy_counts() -> None:
    zone: Zone = {"down.example": SILENT, "example.com": "v=DMARC1; p=reject", "m.example.com": SILENT}
    found = await verdict(zone, "From: a@down.example, b@example.com", "m.example.com")
    assert (found.result, found.domain, found.policy) == ("temperror", "example.com", "reject")
    assert [(other.result, other.domain) for other in found.others] == [("temperror", "down.example")]


SHARP_S = "From: Ann <ann@faß.example>"  # IDNA2008 reads xn--fa-hia.example, and IDNA2003 fass.example
MODERN: Zone = {"xn--fa-hia.example": "v=DMARC1; p=none"}


@pytest.mark.parametrize(
    ("record", "result", "domain"),
    [
        ("v=DMARC1; p=reject", "fail", "fass.example"),
        (SILENT, "temperror", "fass.example"),
        ([], "pass", "xn--fa-hia.example"),
    ],
)
async def test_a_domain_that_only_some_readers_see_counts_where_it_fails(record: Any, result: str, domain: str) -> None:
    found = await verdict({**MODERN, "fass.example": record}, SHARP_S, "xn--fa-hia.example")
    assert (found.result, found.domain) == (result, domain)
    assert found.domains == (1 if result == "pass" else 2)


async def test_a_pass_for_a_domain_that_only_some_readers_see_is_none_for_the_message() -> None:
    zone: Zone = {**MODERN, "fass.example": "v=DMARC1; p=reject"}
    found = await verdict(zone, SHARP_S, "fass.example")
    assert (found.result, found.domain, found.domains) == ("fail", "xn--fa-hia.example", 1)


async def test_without_any_other_author_a_domain_that_only_some_readers_see_does_not_pass() -> None:
    header = 'From: ceo@"bank.example"'
    found = await verdict(AUTHORS, header, "bank.example")
    assert (found.result, found.domain, found.problem) == ("permerror", "", "From names no domain")
    found = await verdict(AUTHORS, header, "good.example")
    assert (found.result, found.domain) == ("fail", "bank.example")
    assert [(other.domain, other.problem) for other in found.others] == [("", "From names no domain")]


async def test_such_a_domain_knows_of_repeated_from_fields() -> None:
    zone: Zone = {**MODERN, "fass.example": "v=DMARC1; p=reject"}
    found = await verdict(zone, f"{SHARP_S}\r\n{SHARP_S}", "xn--fa-hia.example")
    assert (found.domain, found.from_fields) == ("fass.example", 2)


async def test_the_identity_of_the_null_sender_is_that_of_helo() -> None:
    spf = SpfVerdict("pass", "helo", "mx.example.com")
    assert (await verdict(ORGANIZATION, "example.com", spf)).result == "pass"


# --- anything at all

labels = st.sampled_from(["a", "b", "c", "example", "com", "xn--", "ü", "", "x" * 64])
domains = st.lists(labels, max_size=10).map(".".join)
tags = st.sampled_from(
    ["p=reject", "p=x", "sp=none", "np=quarantine", "psd=y", "psd=n", "t=y", "adkim=s", "rua=mailto:a@b"]
)
records = st.lists(tags, max_size=5).map(lambda found: "; ".join(["v=DMARC1", *found])) | st.just(SILENT)
zones = st.dictionaries(domains, records | st.lists(records.filter(lambda one: isinstance(one, str)), max_size=2))
pieces = st.sampled_from(
    ["From:", "from :", "\r\n", " ", "<", ">", ",", '"', "(", ")", ";", "@", "\0", "=?utf-8?b?QGE=?="]
)
headers = st.lists(pieces | domains | st.text(max_size=5), max_size=20).map("".join)
results = st.sampled_from(["pass", "fail", "temperror", "permerror", "none"])
identifiers = st.builds(by_dkim, domains, results)


@given(zones, headers, st.none() | st.builds(by_spf, domains, results), st.lists(identifiers, max_size=12))
def test_no_record_and_no_author_is_too_odd(zone: Any, header: str, spf: Any, dkim: Any) -> None:
    resolver = Recording(zone)
    message = Message(b"From: a@a.example.com" + header.encode("utf-8", "surrogatepass") + b"\r\n\r\n")
    found = asyncio.run(check(Budget(resolver).authors, message, spf, dkim))
    assert all(text.isascii() and text.isprintable() for text in (found.domain, found.problem, found.record_domain))
    assert found.result != "pass" or (found.aligned and found.policy)
    assert len(resolver.asked) <= QUESTIONS


family = st.sampled_from(["com", "x.com", "a.x.com", "b.x.com", "a.b.x.com", "b.b.x.com", "a.a.b.x.com", "y.com"])
families = st.dictionaries(family, records | st.just(["v=DMARC1", "v=DMARC1"]))


@given(families, family, family)
def test_relaxed_alignment_is_having_one_organization(zone: Any, author: str, identifier: str) -> None:
    """However few names are asked, it comes to the comparison of two whole tree walks."""

    async def compared() -> None:
        found = await verdict(zone, author, identifier)
        if found.record_domain and found.result != "temperror":
            organizations = [
                await find_organizational_domain(Recording(zone), domain) for domain in (found.domain, identifier)
            ]
            same = organizations[0] == organizations[1]
            assert found.aligned == (("spf",) if same else ())

    with contextlib.suppress(DnsFailure):
        asyncio.run(compared())
