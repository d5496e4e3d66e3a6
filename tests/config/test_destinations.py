"""Which table of `[[delivery.destinations]]` holds: by name, by suffix, by MX host; against a naive model."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.config.destinations import DOUBTFUL, Destinations
from relay.config.model import Config
from relay.mail.address import normal_domain

SITE = {
    "hostname": "mx.fwd.test",
    "listen": [{"address": "127.0.0.1:0"}],
    "srs": {"domain": "fwd.test", "secrets_file": "/dev/null"},
}


def table(*entries: Sequence[str] | dict[str, Any], **delivery: Any) -> Destinations:
    """The tables, each written as its domains alone, or whole."""
    destinations = [entry if isinstance(entry, dict) else {"domains": entry} for entry in entries]
    config = Config.model_validate({**SITE, "delivery": {**delivery, "destinations": destinations}})
    return config.destinations


def number(destinations: Destinations, domain: str) -> int | None:
    found = destinations.of(normal_domain(domain))
    return None if found is None else found.number


@pytest.mark.parametrize(
    ("domain", "expected"),
    [
        ("example.net", 0),
        ("EXAMPLE.NET.", 0),
        ("www.example.net", None),
        ("example.org", None),
        ("a.example.org", 1),
        ("b.a.example.org", 1),
        ("a.b.example.org", 2),
        ("b.example.org", 1),
        ("exact.b.example.org", 0),
        ("notexample.org", None),
        ("bücher.example", 3),
        ("xn--bcher-kva.example", 3),
        ("[192.0.2.1]", 3),
        ("[192.0.2.2]", None),
        ("[IPv6:2001:db8:0:0::1]", 3),
        ("[ipv6:2001:DB8::1]", 3),
        ("", None),
        (".", None),
        ("org", None),
    ],
)
def test_the_exact_name_goes_before_the_longest_suffix(domain: str, expected: int | None) -> None:
    destinations = table(
        ["Example.net", "exact.b.example.org"],
        [".example.org"],
        [".b.example.org."],
        ["bücher.example", "[192.0.2.1]", "[IPv6:2001:db8::1]"],
    )
    assert number(destinations, domain) == expected


@pytest.mark.parametrize(
    ("records", "expected"),
    [
        ([(10, "mx.mail.example")], 1),
        ([(10, "MX.Mail.Example.")], 1),
        ([(10, "mail.example")], None),
        ([(10, "mx1.mail.example")], 0),
        ([(10, "other.test"), (20, "mx1.mail.example")], None),
        ([(10, "a.deep.mail.example"), (10, "mx1.mail.example")], 0),
        ([(10, "a.deep.mail.example")], 1),
        ([(10, "a.other.example"), (10, "mx.mail.example")], 1),
        ([(20, "mx1.mail.example"), (5, "x.other.example")], 3),
        ([], 2),
        ([(0, "")], 2),
    ],
)
def test_the_first_mx_table_that_names_a_most_preferred_host_holds(
    records: list[tuple[int, str]], expected: int | None
) -> None:
    destinations = table(
        ["mx:mx1.mail.example"],
        ["mx:*.mail.example"],
        ["mx:own.test"],
        ["MX:*.other.example", "mx:*.deep.mail.example"],
    )
    found = destinations.behind("own.test", records)
    assert (None if found is None else found.number) == expected
    assert destinations.of("own.test") is None and destinations.has_mx
    assert not table(["own.test"]).has_mx and table().behind("d.test", [(1, "mx.test")]) is None


def test_what_a_table_does_not_say_is_that_of_delivery() -> None:
    destinations = table(
        {"domains": ["a.test"]},
        {
            "domains": ["b.test"],
            "source_ipv4": "192.0.2.26",
            "families": ["ipv4"],
            "helo": "MX2.fwd.test",
            "mta_sts": False,
            "dane": "off",
            "concurrency": 2,
            "rate": 60,
        },
        source_ipv4="192.0.2.25",
        source_ipv6="2001:db8::25",
        tls="require",
    )
    plain, special = destinations
    assert plain.leaving == destinations.leaving
    assert (plain.leaving.helo, plain.leaving.families) == ("mx.fwd.test", ("ipv6", "ipv4"))
    assert (plain.concurrency, plain.rate, plain.tls, plain.mta_sts, plain.dane) == (None, None, None, True, "auto")
    assert (special.leaving.helo, special.leaving.families) == ("mx2.fwd.test", ("ipv4",))
    assert (special.leaving.source("8.8.8.8"), special.leaving.source("2001:db8::1")) == ("192.0.2.26", "2001:db8::25")
    assert (special.concurrency, special.rate, special.mta_sts, special.dane) == (2, 60, False, "off")
    assert special.name == "b.test" and hash(special) != hash(plain)


def test_doubtful_mail_leaves_by_an_address_of_its_own() -> None:
    entries = ({"domains": ["a.test"], "helo": "mx2.fwd.test", "tls": "verify", "rate": 60, "concurrency": 3},)
    apart = table(*entries, doubtful={"source_ipv4": "192.0.2.27"}, source_ipv6="2001:db8::25")
    (of_table,) = apart
    for base, helo in ((None, "mx.fwd.test"), (of_table, "mx2.fwd.test")):
        found = apart.for_mail(base, doubtful=True)
        assert found is not None and found is apart.for_mail(base, doubtful=True)
        assert (found.leaving.source("8.8.8.8"), found.leaving.source("2001:db8::1")) == ("192.0.2.27", "2001:db8::25")
        assert found.leaving.helo == helo
        assert apart.for_mail(base, doubtful=False) is base
    same = apart.for_mail(of_table, doubtful=True)
    assert same is not None and (same.name, same.rate, same.concurrency, same.tls) == ("a.test", 60, 3, "verify")
    assert str(apart.ways[-1].source_ipv4) == "192.0.2.27"

    paced = table(*entries, doubtful={"rate": 5})
    (of_table,) = paced
    slow = paced.for_mail(of_table, doubtful=True)
    assert slow is not None and (slow.name, slow.rate, slow.concurrency) == (DOUBTFUL, 5, None)
    assert slow.tls == "verify", "what is no number stays that of the destination"
    plain = table(*entries)
    (usual,) = plain
    assert plain.for_mail(usual, doubtful=True) is usual and plain.for_mail(None, doubtful=True) is None


LABELS = st.sampled_from(["a", "b", "c", "mail"])
NAMES = st.lists(LABELS, min_size=1, max_size=4).map(".".join)
PATTERNS = st.builds(lambda dot, name: dot + name, st.sampled_from(["", "."]), NAMES)


def naive(patterns: Sequence[str], domain: str) -> str | None:
    if domain in patterns:
        return domain
    suffixes = [pattern for pattern in patterns if pattern.startswith(".") and domain.endswith(pattern)]
    return max(suffixes, key=len, default=None)


@given(st.lists(PATTERNS, unique=True, max_size=12), NAMES)
def test_it_agrees_with_a_look_at_every_name(patterns: list[str], domain: str) -> None:
    expected = naive(patterns, domain)
    assert number(table(*([pattern] for pattern in patterns)), domain) == (
        None if expected is None else patterns.index(expected)
    )


@given(
    st.lists(PATTERNS, unique=True, max_size=8),
    st.lists(st.tuples(st.integers(0, 2), NAMES), max_size=4),
    st.randoms(use_true_random=False),
)
def test_mx_tables_agree_with_a_look_at_every_name_in_any_order_of_records(
    patterns: list[str], records: list[tuple[int, str]], random: Any
) -> None:
    destinations = table(*([f"mx:{'*' if name.startswith('.') else ''}{name}"] for name in patterns))
    best = min((preference for preference, _ in records), default=0)
    hosts = [host for preference, host in records if preference == best] or ["d.test"]
    matching = [
        n
        for n, pattern in enumerate(patterns)
        if any(host == pattern or (pattern.startswith(".") and host.endswith(pattern)) for host in hosts)
    ]
    random.shuffle(records)
    found = destinations.behind("d.test", records)
    assert (None if found is None else found.number) == min(matching, default=None)


def test_ten_thousand_tables_are_as_fast_as_one() -> None:
    many = table(*([f"d{n}.test", f".s{n}.test"] for n in range(10_000)), *([f"mx:*.m{n}.test"] for n in range(10_000)))
    began = time.perf_counter()
    for n in range(1000):
        assert number(many, f"d{n}.test") == n and number(many, f"a.b.s{n}.test") == n
        assert number(many, f"x{n}.test") is None
        found = many.behind("x.test", [(10, f"mx.m{n}.test")])
        assert found is not None and found.number == 10_000 + n
    assert time.perf_counter() - began < 1.0


def test_a_hostile_zone_costs_next_to_nothing() -> None:
    destinations = table(["mx:*.mail.example", ".b.example"])
    long = "a." * 126 + "c"
    began = time.perf_counter()
    assert destinations.behind("d.test", [(0, f"{n}.{long}"[:255]) for n in range(5000)]) is None
    assert destinations.of("a." * 100_000) is None
    assert time.perf_counter() - began < 0.1


@pytest.mark.parametrize(
    ("entry", "problem"),
    [
        ({"domains": ["*.example.org"]}, 'all domains below example.org are written ".example.org"'),
        ({"domains": ["mx:*"]}, '"mx:*" would be everything'),
        ({"domains": ["a b"]}, "is not a domain name"),
        ({"domains": [""]}, "is not a domain name"),
        ({"domains": ["[192.0.2.999]"]}, "is not a domain name"),
        ({"domains": []}, "at least 1 item"),
        ({"domains": ["mx:a.test"], "tls": "verify"}, "tls: a table with mx: cannot have this key"),
        ({"domains": ["mx:a.test"], "next_hop": "smtp://a.test"}, "next_hop: a table with mx: cannot have this key"),
        ({"domains": ["a.test"], "smarthost": "gone"}, "there is no [delivery.smarthosts.gone]"),
        ({"domains": ["a.test"], "families": []}, 'at least one of "ipv4" and "ipv6"'),
        ({"domains": ["a.test"], "rate": 0}, "greater than or equal to 1"),
    ],
)
def test_a_bad_table_is_refused(entry: dict[str, Any], problem: str) -> None:
    with pytest.raises(ValueError, match="delivery") as error:
        table(entry)
    assert problem in str(error.value)


def test_a_domain_stands_in_one_table_alone() -> None:
    with pytest.raises(ValueError, match=r"delivery.destinations: xn--bcher-kva.test stands there twice"):
        table(["bücher.test"], ["xn--BCHER-kva.test."])


def test_a_route_and_a_table_do_not_both_name_the_next_hop_of_a_domain() -> None:
    routes = {"domains": {"a.test": {"next_hop": "lmtp://10.0.0.5", "recipients": "any"}}}
    entry = {"domains": ["a.test"], "next_hop": "smtp://10.0.0.6"}
    with pytest.raises(ValueError, match=r"the route of a.test names a next hop already"):
        Config.model_validate({**SITE, "routes": routes, "delivery": {"destinations": [entry]}})
    entry = {"domains": [".test"], "next_hop": "smtp://10.0.0.6"}
    config = Config.model_validate({**SITE, "routes": routes, "delivery": {"destinations": [entry]}})
    assert str(config.next_hop("a.test")) == "lmtp://10.0.0.5:24", "the route's own goes first"
    assert str(config.next_hop("b.test")) == "smtp://10.0.0.6:25"


def test_which_smarthost_mail_leaves_by() -> None:
    delivery = {
        "smarthost": {"url": "smtp://main.test"},
        "smarthosts": {"backup": {"url": "smtp://backup.test"}},
        "destinations": [
            {"domains": ["b.test"], "smarthost": "backup"},
            {"domains": ["c.test"], "next_hop": "smtp://10.0.0.6"},
            {"domains": ["d.test"], "rate": 3},
        ],
    }
    config = Config.model_validate({**SITE, "delivery": delivery})
    found = {domain: config.smarthost(domain) for domain in ("a.test", "b.test", "c.test", "d.test")}
    assert found == {"a.test": "smarthost", "b.test": "smarthosts.backup", "c.test": "", "d.test": "smarthost"}
    assert Config.model_validate(SITE).smarthost("a.test") == ""
