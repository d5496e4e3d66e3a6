"""Which domains are of one organization, and which belong to us, also where DNS says nothing."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.authenticate.author import author_domains
from relay.authenticate.organization import OwnDomains, same_organization
from relay.dns import DnsFailure, StaticResolver, TooManyQuestions
from relay.mail.domains import is_ancestor, is_same_or_below, share_two_labels
from relay.mail.message import Message
from tests.resolvers import RecordingResolver

CORP = {("_dmarc.corp.example", "TXT"): [(b"v=DMARC1; p=none",)]}


@pytest.mark.parametrize(
    ("header", "ours"),
    [
        ("From: ceo@fwd.example\u3002", ["fwd.example"]),
        ("From: ceo@corp.example", ["corp.example"]),
        ("From: ceo@deep.fwd.example", ["deep.fwd.example"]),
        ("From: ceo@other.corp.example", ["other.corp.example"]),
        ("From: ceo@notfwd.example", []),
        ("From: ceo@other.example", []),
        ("From: ceo@shop.hosting.example", []),
    ],
)
async def test_our_domains_and_those_of_their_organization(header: str, ours: list[str]) -> None:
    own = OwnDomains({"fwd.example", "fwd.corp.example", "fwd.hosting.example"})
    zone = {
        ("_dmarc.corp.example", "TXT"): [(b"v=DMARC1; p=none",)],
        ("_dmarc.hosting.example", "TXT"): [(b"v=DMARC1; p=none; psd=y",)],
    }
    found = author_domains(Message(header.encode() + b"\r\n\r\n"))
    assert [domain for domain in found if await own.belong(StaticResolver(zone), domain)] == ours


async def test_where_dns_does_not_answer_relatives_are_those_above_and_below() -> None:
    down = StaticResolver({("_dmarc.a.corp.example", "TXT"): DnsFailure("no answer")})
    assert await same_organization(down, "a.corp.example", "corp.example")
    assert not await same_organization(down, "a.corp.example", "b.corp.example")


@pytest.mark.parametrize(
    ("first", "second", "same"),
    [
        ("a.corp.example", "a.corp.example", True),
        ("a.corp.example", "b.corp.example", True),
        ("corp.example", "b.corp.example", True),
        ("a.other.example", "b.other.example", False),
    ],
)
async def test_domains_below_one_record_are_of_one_organization(first: str, second: str, same: bool) -> None:
    assert await same_organization(StaticResolver(CORP), first, second) is same
    assert await same_organization(StaticResolver(CORP), second, first) is same


@pytest.mark.parametrize(("first", "second"), [("a.example", "a.example"), ("a.one.example", "a.two.example")])
async def test_names_that_decide_it_alone_cost_no_question(first: str, second: str) -> None:
    resolver = RecordingResolver({})
    assert await same_organization(resolver, first, second) is (first == second)
    assert resolver.asked == []


@pytest.mark.parametrize("domain", ["fwd.corp.example", "deep.fwd.corp.example", "corp.example", "other.example"])
async def test_what_is_ours_by_its_name_costs_no_question(domain: str) -> None:
    resolver = RecordingResolver({})
    assert await OwnDomains(["fwd.corp.example"]).belong(resolver, domain) is (domain != "other.example")
    assert resolver.asked == []


async def test_where_nothing_more_may_be_asked_a_domain_counts_against_its_author() -> None:
    spent = StaticResolver({("_dmarc.a.corp.example", "TXT"): TooManyQuestions("enough")})
    assert not await same_organization(spent, "a.corp.example", "corp.example")
    assert await OwnDomains(["fwd.corp.example"]).belong(spent, "a.corp.example") is True


async def test_whether_a_domain_is_ours_may_be_unknown_for_now() -> None:
    down = StaticResolver({("_dmarc.a.corp.example", "TXT"): DnsFailure("no answer")})
    assert await OwnDomains(["fwd.corp.example"]).belong(down, "a.corp.example") is None


names = st.lists(st.sampled_from(["a", "b", "fwd", "example", "com", "", "x-"]), max_size=5).map(".".join)


@given(st.sets(names, max_size=5), names)
def test_a_look_up_is_the_comparison_with_each_of_our_domains(own: set[str], domain: str) -> None:
    ours = OwnDomains(own)
    assert ours.has(domain) is is_same_or_below(own, domain)
    is_above = "." in domain and any(is_ancestor(domain, one) for one in own)
    may_be_related = any(share_two_labels(domain, one) for one in own)
    assert ours.know(domain) is (True if ours.has(domain) or is_above else None if may_be_related else False)
