"""Identifier alignment of DMARC (RFC 9989 section 4.10.2), and what is said where it cannot be told."""

from __future__ import annotations

import pytest

from relay.authenticate.dmarc_alignment import any_passes_aligned
from relay.authenticate.dmarc_tree_walk import Lookup, Lookups, Unasked
from tests.authenticate.dmarc_checks import by_dkim, by_spf, verdict


@pytest.mark.parametrize(
    ("author", "identifier", "relaxed", "strict"),
    [
        # appendix B.1
        ("example.com", "example.com", "pass", "pass"),
        ("example.com", "child.example.com", "pass", "fail"),
        ("child.example.com", "example.net", "fail", "fail"),
        ("child.example.com", "example.com", "pass", "fail"),
        # section 4.4, table 1
        ("news.example.com", "foo.example.com", "pass", "fail"),
        ("news.example.com", "news.example.com", "pass", "pass"),
        ("news.example.com", "foo.example.net", "fail", "fail"),
        # neighbours by spelling only
        ("example.com", "badexample.com", "fail", "fail"),
        ("badexample.com", "example.com", "none", "none"),
        ("example.com", "com", "fail", "fail"),
        ("example.com", "", "fail", "fail"),
        ("example.com", "a..example.com", "fail", "fail"),
    ],
)
async def test_alignment(author: str, identifier: str, relaxed: str, strict: str) -> None:
    for modes, expected in (("", relaxed), ("; adkim=s; aspf=s", strict)):
        zone = {"example.com": "v=DMARC1; p=reject" + modes, "example.net": "v=DMARC1; p=reject"}
        assert (await verdict(zone, author, identifier)).result == expected
        assert (await verdict(zone, author, None, ["other.example", identifier])).result == expected


async def test_each_method_has_its_own_mode() -> None:
    zone = {"example.com": "v=DMARC1; p=reject; aspf=s"}
    assert (await verdict(zone, "example.com", "m.example.com", ["m.example.com"])).aligned == ("dkim",)
    zone = {"example.com": "v=DMARC1; p=reject; adkim=s"}
    assert (await verdict(zone, "example.com", "m.example.com", ["m.example.com"])).aligned == ("spf",)


async def test_a_parent_that_is_not_the_organization_is_not_in_alignment() -> None:
    """Section 11.8: neither up to a wider organization nor from one that is separate by psd=n."""
    zone = {"mail.example.com": "v=DMARC1; p=reject; psd=n", "example.com": "v=DMARC1; p=reject"}
    assert (await verdict(zone, "evil.example.com", "mail.example.com")).result == "fail"
    assert (await verdict(zone, "mail.example.com", "evil.example.com")).result == "fail"
    assert (await verdict(zone, "mail.example.com", "example.com")).result == "fail"
    assert (await verdict(zone, "a.mail.example.com", "b.mail.example.com")).result == "pass"


def test_a_pass_for_the_very_domain_needs_no_question() -> None:
    assert any_passes_aligned("a.example", [by_dkim("a.example")], "r", Lookups()) == (True, [])
    assert any_passes_aligned("a.example", [by_dkim("b.test"), by_dkim("a.example")], "r", Lookups()) == (True, [])


@pytest.mark.parametrize("result", ["fail", "neutral", "policy", "permerror"])
def test_what_neither_passes_nor_may_yet_pass_is_not_looked_at(result: str) -> None:
    assert any_passes_aligned("a.x.example", [by_dkim("b.x.example", result)], "r", Lookups()) == (False, [])


def test_in_strict_mode_only_the_same_domain_counts() -> None:
    assert any_passes_aligned("a.x.example", [by_spf("x.example")], "s", Lookups()) == (False, [])
    with pytest.raises(Unasked):
        any_passes_aligned("a.x.example", [by_spf("x.example")], "r", Lookups())


def test_a_check_that_failed_for_now_matters_only_if_nothing_passes() -> None:
    pending = by_dkim("a.example", "temperror", "no key for now")
    passes, failures = any_passes_aligned("a.example", [pending], "r", Lookups())
    assert (passes, [str(failure) for failure in failures]) == (False, ["no key for now"])
    assert any_passes_aligned("a.example", [pending, by_dkim("a.example")], "r", Lookups()) == (True, [])


def test_an_organization_that_is_not_known_matters_only_for_domains_that_may_be_of_it() -> None:
    down = Lookup("_dmarc.a.x.example", "TXT", failure="no answer")
    lookups = Lookups({("_dmarc.a.x.example", "TXT"): down})
    assert any_passes_aligned("a.x.example", [by_spf("b.y.example")], "r", lookups) == (False, [])
    passes, failures = any_passes_aligned("a.x.example", [by_spf("b.x.example")], "r", lookups)
    assert (passes, [str(failure) for failure in failures]) == (False, ["no answer"])


def test_a_bad_signature_does_not_hide_another_that_may_yet_pass() -> None:
    signatures = [by_dkim("m.x.example", "fail"), by_dkim("a.x.example", "temperror", "no key for now")]
    passes, failures = any_passes_aligned("a.x.example", signatures, "s", Lookups())
    assert (passes, [str(failure) for failure in failures]) == (False, ["no key for now"])
    signatures = [by_dkim("a.x.example", "fail"), by_dkim("a.x.example", "temperror", "no key for now")]
    passes, failures = any_passes_aligned("a.x.example", signatures, "s", Lookups())
    assert (passes, [str(failure) for failure in failures]) == (False, ["no key for now"])
