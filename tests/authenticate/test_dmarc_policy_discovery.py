"""DMARC Policy Discovery (RFC 9989 section 4.10.1): which record applies to an author, and which policy of it."""

from __future__ import annotations

import pytest

from relay.authenticate.dmarc_policy_discovery import discover_policy
from relay.authenticate.dmarc_record import policy_record
from relay.authenticate.dmarc_tree_walk import Lookup, Lookups, Unasked
from relay.dns import Answer, DnsFailure
from tests.authenticate.dmarc_checks import Recording, Zone, verdict


@pytest.mark.parametrize(
    ("zone", "author", "policy", "record_domain"),
    [
        ({"example.com": "v=DMARC1; p=reject; sp=none; np=none"}, "example.com", "reject", "example.com"),
        ({"example.com": "v=DMARC1; p=reject; sp=quarantine"}, "a.example.com", "quarantine", "example.com"),
        ({"example.com": "v=DMARC1; p=reject"}, "a.example.com", "reject", "example.com"),
        (
            {"a.example.com": "v=DMARC1; p=none; sp=reject", "example.com": "v=DMARC1; p=reject"},
            "a.example.com",
            "none",
            "a.example.com",
        ),
        # the record between the author's domain and the organization's does not count
        (
            {"b.example.com": "v=DMARC1; p=reject; sp=reject", "example.com": "v=DMARC1; p=reject; sp=none"},
            "a.b.example.com",
            "none",
            "example.com",
        ),
        (
            {"b.example.com": "v=DMARC1; p=none; sp=reject; psd=n", "example.com": "v=DMARC1; p=none"},
            "a.b.example.com",
            "reject",
            "b.example.com",
        ),
        # public suffixes
        ({"bank": "v=DMARC1; p=none; sp=reject; psd=y"}, "a.bank", "reject", "bank"),
        ({"bank": "v=DMARC1; p=none; sp=reject; psd=y"}, "c.b.a.bank", "reject", "bank"),
        ({"bank": "v=DMARC1; p=quarantine; sp=reject; psd=y"}, "bank", "quarantine", "bank"),
        ({"bank": "v=DMARC1; p=reject; psd=y", "a.bank": "v=DMARC1; p=none"}, "b.a.bank", "none", "a.bank"),
        ({"bank": "v=DMARC1; p=reject; psd=y", "b.a.bank": "v=DMARC1; p=none"}, "c.b.a.bank", "reject", "bank"),
        # two records are none
        (
            {"a.example.com": ["v=DMARC1; p=none", "v=DMARC1; p=none"], "example.com": "v=DMARC1; p=reject"},
            "a.example.com",
            "reject",
            "example.com",
        ),
        ({"b.example.com": "v=spf1 -all", "example.com": "v=DMARC1; p=none"}, "b.example.com", "none", "example.com"),
        # an invalid record of its own is not replaced by another's
        (
            {"a.example.com": "v=DMARC1; p=x; rua=mailto:d@x.example", "example.com": "v=DMARC1; p=reject"},
            "a.example.com",
            "none",
            "a.example.com",
        ),
    ],
)
async def test_the_policy_that_applies(zone: Zone, author: str, policy: str, record_domain: str) -> None:
    found = await verdict(zone, author)
    assert (found.result, found.policy, found.record_domain) == ("fail", policy, record_domain)
    found = await verdict(zone, author, author)
    assert (found.result, found.policy, found.record_domain) == ("pass", policy, record_domain)


@pytest.mark.parametrize(
    ("there", "policy"),
    [
        ({}, "reject"),
        ({"a.example.com:A": []}, "quarantine"),
        ({"a.example.com:MX": []}, "quarantine"),
        ({"a.example.com:TXT": ["anything"]}, "quarantine"),
    ],
)
async def test_np_is_for_domains_that_do_not_exist(there: Zone, policy: str) -> None:
    zone = {"example.com": "v=DMARC1; p=none; sp=quarantine; np=reject", **there}
    assert (await verdict(zone, "a.example.com")).policy == policy


async def test_a_name_that_points_nowhere_exists() -> None:
    class Dangling(Recording):
        async def query(self, name: str, rdtype: str) -> Answer:
            answer = await super().query(name, rdtype)
            return Answer(exists=rdtype == "CNAME") if name == "a.example.com" else answer

    zone = Dangling({"example.com": "v=DMARC1; p=none; sp=quarantine; np=reject"})
    assert (await verdict(zone, "a.example.com")).policy == "quarantine"


def known(**records: str) -> Lookups:
    """Lookups with the record of `example`, or of `a.example` for `a`; an empty text is no record."""
    names = {"example": "_dmarc.example", "a": "_dmarc.a.example"}
    lookups = [
        Lookup(names[key], "TXT", record=policy_record([(text.encode(),)] if text else []))
        for key, text in records.items()
    ]
    return Lookups({(lookup.name, lookup.rdtype): lookup for lookup in lookups})


def test_without_any_record_there_is_no_policy() -> None:
    discovered = discover_policy("a.example", known(a="", example=""))
    assert (discovered.record_domain, discovered.record, discovered.policies) == ("", None, ())


def test_the_record_of_the_domain_itself_ends_the_search() -> None:
    discovered = discover_policy("a.example", known(a="v=DMARC1; p=quarantine"))
    assert (discovered.record_domain, discovered.policies) == ("a.example", ("quarantine",))


def test_where_sp_and_np_are_the_same_it_does_not_matter_whether_the_domain_exists() -> None:
    discovered = discover_policy("a.example", known(a="", example="v=DMARC1; p=none; sp=reject; np=reject"))
    assert discovered.policies == ("reject",)
    with pytest.raises(Unasked):
        discover_policy("a.example", known(a="", example="v=DMARC1; p=none; sp=reject; np=none"))


@pytest.mark.parametrize(("temporary", "policies"), [(True, ("quarantine", "reject")), (False, ("reject",))])
def test_where_it_is_not_known_whether_the_domain_exists(temporary: bool, policies: tuple[str, ...]) -> None:
    """For now both policies may apply; if the question may not be asked at all, the stricter one does."""
    lookups = known(a="", example="v=DMARC1; p=none; sp=quarantine; np=reject")
    lookups["a.example", "A"] = Lookup("a.example", "A", failure="no answer", temporary=temporary)
    discovered = discover_policy("a.example", lookups)
    assert discovered.policies == policies
    assert (str(discovered.doubt) if discovered.doubt else None) == ("no answer" if temporary else None)


def test_a_record_that_dns_does_not_tell_leaves_the_policy_unknown() -> None:
    lookups = Lookups({("_dmarc.a.example", "TXT"): Lookup("_dmarc.a.example", "TXT", failure="no answer")})
    with pytest.raises(DnsFailure, match="no answer"):
        discover_policy("a.example", lookups)


@pytest.mark.parametrize(
    "existence",
    [Lookup("a.example", "A"), Lookup("a.example", "A", failure="not asked", temporary=False)],
)
def test_the_rest_of_the_record_applies_whichever_policy_does(existence: Lookup) -> None:
    lookups = known(a="", example="v=DMARC1; p=none; sp=quarantine; np=reject; t=y; aspf=s")
    lookups["a.example", "A"] = existence
    discovered = discover_policy("a.example", lookups)
    assert discovered.record_domain == "example"
    assert discovered.record is not None
    assert (discovered.record.testing, discovered.record.aspf, discovered.record.adkim) == (True, "s", "r")
