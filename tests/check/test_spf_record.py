"""The SPF record to publish: what the old ones say, and our addresses."""

from __future__ import annotations

import pytest

from relay.check.spf_record import asks_others, is_spf, merged, passes_everyone, resembles_spf, sources, without


@pytest.mark.parametrize(
    ("records", "ips", "record"),
    [
        ([], ["203.0.113.5"], "v=spf1 ip4:203.0.113.5 -all"),
        (["v=spf1 mx -all"], ["2001:db8::5"], "v=spf1 mx ip6:2001:db8::5 -all"),
        (["v=spf1  mx   ~all"], ["203.0.113.5"], "v=spf1 mx ip4:203.0.113.5 ~all"),
        (["v=spf1 -all a"], ["203.0.113.5"], "v=spf1 a ip4:203.0.113.5 -all"),
        (["v=spf1 mx"], [], "v=spf1 mx ~all"),
        (["v=spf1 mx +all"], [], "v=spf1 mx ~all"),
        (["v=spf1 mx ~all", "v=spf1 mx a -all"], [], "v=spf1 mx a -all"),
        (["v=spf1 redirect=x.example"], ["203.0.113.5"], "v=spf1 ip4:203.0.113.5 redirect=x.example"),
        (["v=spf1 redirect=x.example", "v=spf1 redirect=y.example"], [], "v=spf1 redirect=x.example"),
        (["v=spf1 mx exp=e.example -all"], ["203.0.113.5"], "v=spf1 mx ip4:203.0.113.5 -all exp=e.example"),
    ],
)
def test_nothing_that_the_old_records_say_is_lost(records: list[str], ips: list[str], record: str) -> None:
    assert merged(records, ips) == record


def test_addresses_may_go_to_the_beginning() -> None:
    assert merged(["v=spf1 -a -all"], ["203.0.113.5"], first=True) == "v=spf1 ip4:203.0.113.5 -a -all"


def test_which_records_are_spf() -> None:
    assert [is_spf(text) for text in ("v=spf1", "V=SPF1 -all", "v=spf10 -all", "x v=spf1")] == [
        True,
        True,
        False,
        False,
    ]


def test_a_record_that_lets_everyone_pass_says_so() -> None:
    records = ("v=spf1 +all", "v=spf1 ALL", "v=spf1 -all", "v=spf1 a:all.example ~all")
    assert [passes_everyone(record) for record in records] == [True, True, False, False]


def test_a_record_may_leave_it_to_others() -> None:
    records = ("v=spf1 ?include:x.example -all", "v=spf1 redirect=x.example", "v=spf1 mx a:include.example -all")
    assert [asks_others(record) for record in records] == [True, True, False]


def test_what_was_meant_for_a_record_is_seen() -> None:
    records = ("v=spf1; mx -all", '"v=spf1 mx -all"', " V=SPF1 mx", "v=spf1 mx", "v=DMARC1")
    assert [resembles_spf(record) for record in records] == [True, True, True, False, False]


def test_a_record_without_some_of_its_terms_has_no_end() -> None:
    record = "v=spf1 mx include:x.example -all exp=e.example"
    assert sources(record) == ["mx", "include:x.example"]
    assert sources("v=spf1 mx redirect=x.example") == ["mx", "redirect=x.example"]
    assert without(record, []) == record
    assert without(record, ["include:x.example"]) == "v=spf1 mx exp=e.example"
