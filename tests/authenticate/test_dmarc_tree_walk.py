"""The tree walk of RFC 9989 section 4.10: which names are asked, and which domain is the organization's."""

from __future__ import annotations

import asyncio
from itertools import pairwise

import pytest

from relay.authenticate.dmarc_record import PolicyRecord
from relay.authenticate.dmarc_tree_walk import (
    Lookup,
    Lookups,
    Unasked,
    conclude,
    conclude_within,
    find_organizational_domain,
    walk_names,
)
from relay.dns import Answer, DnsFailure, TooManyQuestions
from tests.authenticate.dmarc_checks import SILENT, Recording, Zone


async def organization(zone: Zone, domain: str) -> str:
    return await find_organizational_domain(Recording(zone), domain)


def test_the_walk_of_section_4_10() -> None:
    assert walk_names("a.b.c.d.e.f.g.h.i.j.mail.example.com") == [
        "a.b.c.d.e.f.g.h.i.j.mail.example.com",
        "g.h.i.j.mail.example.com",
        "h.i.j.mail.example.com",
        "i.j.mail.example.com",
        "j.mail.example.com",
        "mail.example.com",
        "example.com",
        "com",
    ]


@pytest.mark.parametrize("labels", range(1, 20))
def test_no_walk_asks_more_than_eight_names(labels: int) -> None:
    names = walk_names(".".join("abcdefghijklmnopqrst"[:labels]))
    assert len(names) == len(set(names)) == min(labels, 8)
    assert all(len(longer) > len(shorter) and longer.endswith("." + shorter) for longer, shorter in pairwise(names))
    assert "." not in names[-1]


@pytest.mark.parametrize(
    ("zone", "domain", "expected"),
    [
        # section 4.10.2
        ({"mail.example.com": "v=DMARC1", "example.com": "v=DMARC1"}, "a.mail.example.com", "example.com"),
        ({"mail.example.com": "v=DMARC1; psd=n"}, "a.mail.example.com", "mail.example.com"),
        ({"com": "v=DMARC1; psd=y"}, "a.mail.example.com", "example.com"),
        ({"mail.example.com": "v=DMARC1", "example.com": "v=DMARC1; psd=y"}, "mail.example.com", "mail.example.com"),
        # its rules, one by one
        ({}, "a.mail.example.com", "a.mail.example.com"),
        ({"a.mail.example.com": "v=DMARC1"}, "a.mail.example.com", "a.mail.example.com"),
        ({"com": "v=DMARC1"}, "a.mail.example.com", "com"),
        ({"mail.example.com": "v=DMARC1; psd=n", "example.com": "v=DMARC1"}, "a.mail.example.com", "mail.example.com"),
        ({"a.example.com": "v=DMARC1; psd=n", "com": "v=DMARC1; psd=y"}, "a.example.com", "a.example.com"),
        ({"example.com": "v=DMARC1; psd=y", "com": "v=DMARC1"}, "example.com", "example.com"),
        ({"example.com": "v=DMARC1; psd=y"}, "b.a.example.com", "a.example.com"),
        ({"example.com": "v=DMARC1; psd=x"}, "b.a.example.com", "example.com"),
        ({"example.com": ["v=DMARC1; psd=n", "v=DMARC1"], "com": "v=DMARC1; psd=y"}, "b.a.example.com", "example.com"),
        ({"e.f.g.h.i.j.k.l": "v=DMARC1; psd=n"}, "d.e.f.g.h.i.j.k.l", "d.e.f.g.h.i.j.k.l"),
        ({"f.g.h.i.j.k.l": "v=DMARC1; psd=n"}, "d.e.f.g.h.i.j.k.l", "f.g.h.i.j.k.l"),
        ({"com": "v=DMARC1; psd=y"}, "com", "com"),
        ({}, "localhost", "localhost"),
        ({}, "", ""),
        ({}, "a..example.com", "a..example.com"),
    ],
)
async def test_the_organizational_domain(zone: Zone, domain: str, expected: str) -> None:
    assert await organization(zone, domain) == expected


async def test_an_organization_that_cannot_be_found_out_now() -> None:
    with pytest.raises(DnsFailure):
        await organization({"example.com": SILENT}, "a.example.com")


def record_of(domain: str) -> str:
    return f"_dmarc.{domain}"


async def test_a_conclusion_asks_only_what_it_needs_and_nothing_twice() -> None:
    resolver = Recording({"a.example": "v=DMARC1; p=reject"})
    lookups = Lookups()

    def conclusion(known: Lookups) -> str:
        record = known.record("a.example")
        return record.p if record is not None else str(known.exists("a.example"))

    assert await conclude(conclusion, lookups, resolver) == "reject"
    assert await conclude(conclusion, lookups, resolver) == "reject"
    assert resolver.asked == [record_of("a.example")]
    assert [lookup.name for lookup in lookups.values()] == [record_of("a.example")]


def test_what_is_not_asked_yet_is_named() -> None:
    with pytest.raises(Unasked) as unasked:
        Lookups().exists("a.example")
    assert unasked.value.question == ("a.example", "A")


@pytest.mark.parametrize(("failure", "temporary"), [(SILENT, True), (TooManyQuestions("enough"), False)])
async def test_a_question_without_an_answer_fails_as_it_did(failure: DnsFailure, temporary: bool) -> None:
    lookups = Lookups()
    with pytest.raises(type(failure), match=str(failure)):
        await conclude(lambda known: known.record("a.example"), lookups, Recording({"a.example": failure}))
    (lookup,) = lookups.values()
    assert (lookup.failure, lookup.temporary) == (str(failure), temporary)


def test_a_name_with_a_cname_exists_wherever_it_points_to() -> None:
    nowhere = Lookup("a.example", "A", exists=False)
    for exists in (True, False):
        lookups = Lookups({("a.example", "A"): nowhere, ("a.example", "CNAME"): Lookup("a.example", "CNAME", exists)})
        assert lookups.exists("a.example") is exists


async def test_questions_that_take_too_long_count_as_not_answered_for_now() -> None:
    class Slow(Recording):
        async def query(self, name: str, rdtype: str) -> Answer:
            if name == record_of("slow.example"):
                await asyncio.Event().wait()
            return await super().query(name, rdtype)

    def conclusion(known: Lookups) -> tuple[PolicyRecord | None, str]:
        try:
            return known.record("fast.example"), str(known.record("slow.example"))
        except DnsFailure as failure:
            return known.record("fast.example"), str(failure)

    lookups = Lookups()
    record, problem = await conclude_within(0.05, conclusion, lookups, Slow({"fast.example": "v=DMARC1; p=none"}))
    assert record is not None
    assert problem == "_dmarc.slow.example TXT: no result within 0.05 s"
    assert lookups[record_of("slow.example"), "TXT"].temporary
