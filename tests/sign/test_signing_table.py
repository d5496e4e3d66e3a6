"""The signing table: exact before wildcards, and a word for DMARC that it can keep."""

from __future__ import annotations

from dataclasses import replace
from fnmatch import fnmatchcase

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.sign.keys import SigningKey, generate, parse
from relay.sign.signing_table import REMEMBERED, Rule, SigningTable, matches, rules_of

NOW = 1_790_000_000.0
PRIVATE = parse(generate("ed25519"))


def key(name: str) -> SigningKey:
    """A key whose selector is its domain."""
    return SigningKey(name, name, PRIVATE)


FORWARDER = key("fwd.example")


def names(table: SigningTable, address: str, now: float = NOW) -> list[str]:
    user, _, domain = address.rpartition("@")
    return [found.record_name.partition("._domainkey.")[2] for found in table.select(user, domain, now)]


@pytest.mark.parametrize(
    ("domain", "expected"),
    [
        ("example.org", "exact"),
        ("a.example.org", "below"),
        ("a.b.example.org", "below"),
        ("a.deep.example.org", "deeper"),
        ("deep.example.org", "below"),
        ("notexample.org", "everyone"),
        ("other.example", "everyone"),
    ],
)
def test_exact_domains_come_first_then_the_longest_wildcard(domain: str, expected: str) -> None:
    patterns = {"*": "everyone", "*.example.org": "below", "*.deep.example.org": "deeper", "example.org": "exact"}
    table = SigningTable(rules_of((key(name), (pattern,)) for pattern, name in patterns.items()), (FORWARDER,))
    assert names(table, f"a@{domain}") == [expected]


@pytest.mark.parametrize("domain", ["x.example", "a.x.example", "b.a.x.example", "ax.example", "example"])
@pytest.mark.parametrize("order", [1, -1])
def test_the_order_of_the_rules_counts_whatever_their_kind(domain: str, order: int) -> None:
    patterns = ["*@x.example", "*@*.x.example", "*@a.x.example", "*x.example", "u@*", "*@*.a*.example", "*"][::order]
    table = SigningTable([Rule(pattern, (key(f"k{n}"),)) for n, pattern in enumerate(patterns)], ())
    first = next(n for n, pattern in enumerate(patterns) if fnmatchcase(f"u@{domain}", pattern))
    assert names(table, f"u@{domain}") == [f"k{first}"]


def test_keys_for_the_same_domain_sign_together() -> None:
    table = SigningTable(rules_of([(key("a"), ("x.example",)), (key("b"), ("y.example", "x.example"))]), (FORWARDER,))
    assert names(table, "a@x.example") == ["a", "b"]
    assert names(table, "a@y.example") == ["b"]


def test_a_rule_without_an_active_key_leaves_the_choice_to_the_next() -> None:
    """So a new key can be announced in front of one that OpenDKIM's tables have."""
    rules = [Rule("*@x.example", (replace(key("x.example"), active_from=NOW),)), Rule("*@x.example", (key("old"),))]
    table = SigningTable(rules, (FORWARDER,))
    assert [names(table, "a@x.example", now) for now in (NOW - 1, NOW)] == [["old"], ["x.example"]]
    assert [table.signs_as("x.example", now) for now in (NOW - 1, NOW)] == [False, True]


def test_rules_that_do_not_end_the_search_add_up_and_no_key_signs_twice() -> None:
    rules = [
        Rule("news@x.example", (key("a"),), ends=False),
        Rule("*@x.example", (key("b"), key("a")), ends=False),
        Rule("*", (key("c"),), ends=False),
    ]
    assert names(SigningTable(rules, (FORWARDER,)), "news@x.example") == ["a", "b", "c"]


def test_a_key_for_the_authors_domain_signs_with_that_domain_if_it_is_one() -> None:
    table = SigningTable([Rule("*", (key("%"),))], (FORWARDER,))
    assert names(table, "a@any.example") == ["any.example"]
    assert names(table, "a@[192.0.2.1]") == names(table, "a@b\u00fccher") == names(table, "a@b;d=c") == ["fwd.example"]


ALIGNED, OTHER = key("x.example"), key("other.example")


@pytest.mark.parametrize(
    ("rules", "expected"),
    [
        ([Rule("*@x.example", (ALIGNED,))], True),
        ([Rule("*@x.example", (OTHER, ALIGNED))], True),
        ([Rule("*@x.example", (OTHER,))], False),
        ([Rule("*@x.example", (key("example"),))], False),
        ([Rule("*@x.example", (replace(ALIGNED, active_until=NOW),))], False),
        ([Rule("*@x.example", (replace(ALIGNED, active_from=NOW + 1),))], False),
        ([Rule("news@x.example", (ALIGNED,))], False),
        ([Rule("news@x.example", (ALIGNED,)), Rule("*", (ALIGNED,))], True),
        ([Rule("news@x.example", (OTHER,)), Rule("*@x.example", (ALIGNED,))], False),
        ([Rule("news@x.example", (OTHER,), ends=False), Rule("*@x.example", (ALIGNED,))], True),
        ([Rule("*", (key("%"),))], False),
        ([], False),
    ],
)
def test_it_signs_as_a_domain_only_if_every_author_in_it_gets_an_aligned_signature(
    rules: list[Rule], expected: bool
) -> None:
    assert SigningTable(rules, (FORWARDER,)).signs_as("x.example", NOW) is expected


def test_the_forwarder_signs_as_itself_without_a_rule() -> None:
    assert SigningTable((), (FORWARDER,)).signs_as("fwd.example", NOW)


@pytest.mark.parametrize(
    ("pattern", "text", "expected"),
    [
        ("a*c", "abc", True),
        ("a*c", "ac", True),
        ("a*a", "a", False),
        ("*@*.example", "a@b.example", True),
        ("*@*.example", "a@.example", True),
        ("*@*.example", "a@example", False),
        ("a**b*c", "aXbYc", True),
        ("a*b*c", "acb", False),
        ("", "", True),
        ("*", "", True),
        ("a.c", "abc", False),
    ],
)
def test_wildcards(pattern: str, text: str, expected: bool) -> None:
    assert matches(pattern, text) is expected


@given(st.text("ab@.", max_size=8), st.lists(st.text("ab@.", max_size=3), min_size=1, max_size=4))
def test_a_text_matches_the_pattern_it_was_made_from(run: str, pieces: list[str]) -> None:
    assert matches("*".join(pieces), run.join(pieces))


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=1, max_size=3), st.data())
def test_what_is_remembered_is_what_the_rules_say_at_any_time(
    periods: list[tuple[int, int]], data: st.DataObject
) -> None:
    keys = [
        replace(key(f"k{number}"), active_from=NOW + begin, active_until=NOW + end)
        for number, (begin, end) in enumerate(periods)
    ]
    table = SigningTable([Rule("a@x.example", tuple(keys[:1])), Rule("*@x.example", tuple(keys[1:]))], keys[:1])
    for _ in range(20):
        address = data.draw(st.sampled_from(["a@x.example", "b@x.example", "a@y.example", "@"]))
        now = NOW + data.draw(st.sampled_from([-1, 0, 0.5, 1, 2, 3, 3.5, 4, 5]))
        fresh = SigningTable(table.rules, table.forwarder)
        assert names(table, address, now) == names(fresh, address, now)


def test_keys_of_one_record_each_have_their_own_times() -> None:
    ours = replace(key("x.example"), active_until=NOW + 1)
    table = SigningTable([Rule("*@x.example", (ours,)), Rule("*@y.example", (key("x.example"),))], (FORWARDER,))
    assert [names(table, "a@x.example", now) for now in (NOW, NOW + 1)] == [["x.example"], ["fwd.example"]]


def test_authors_do_not_fill_the_memory() -> None:
    table = SigningTable(rules_of([(FORWARDER, ("*",))]), ())
    for number in range(2 * REMEMBERED):
        assert names(table, f"a@{number}.example") == ["fwd.example"]
    assert names(table, "a" * 10**6 + "@x.example") == ["fwd.example"]
    assert table._remembered.cache_info().currsize == REMEMBERED
