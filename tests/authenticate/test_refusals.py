from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from relay.authenticate.arc import ArcSet, ArcVerdict
from relay.authenticate.author import AUTHORS
from relay.authenticate.dkim import DkimVerdict
from relay.authenticate.dmarc import AUTHOR_DOMAINS, DmarcVerdict
from relay.authenticate.iprev import Iprev
from relay.authenticate.refusals import (
    apply_dmarc,
    apply_spf,
    apply_spf_unless_dkim,
    defer_unknown_owner,
    override_doubt,
    overrides,
    refuse_forged,
    refuse_many_authors,
)
from relay.authenticate.spf import SpfVerdict
from relay.authenticate.verdict import Verdict
from relay.config.sections import DmarcSection, SpfSection
from relay.config.values import host_pattern
from relay.mail.reply import Refused


def verdict(result: str, domain: str = "a.example", **more: str) -> SpfVerdict:
    return SpfVerdict(result, "mailfrom", domain, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("policy", "result", "reply"),
    [
        (SpfSection(), "fail", None),
        (SpfSection(), "pass", None),
        (SpfSection(), "temperror", "451 4.7.24"),
        (SpfSection(fail="reject"), "fail", "550 5.7.23"),
        (SpfSection(fail="reject"), "softfail", None),
        (SpfSection(fail="defer"), "fail", "451 4.7.24"),
        (SpfSection(softfail="reject"), "softfail", "550 5.7.23"),
        (SpfSection(permerror="reject"), "permerror", "550 5.7.24"),
        (SpfSection(temperror="reject"), "temperror", "451 4.7.24"),
        (SpfSection(temperror="tag"), "temperror", None),
    ],
)
def test_spf_policy(policy: SpfSection, result: str, reply: str | None) -> None:
    if reply is None:
        apply_spf(policy, verdict(result), "192.0.2.1")
        return
    with pytest.raises(Refused, match=f"^{reply} .*a\\.example"):
        apply_spf(policy, verdict(result), "192.0.2.1")


def test_the_refusal_gives_the_domains_own_explanation() -> None:
    with pytest.raises(Refused, match=r"see https://a\.example/why"):
        apply_spf(SpfSection(fail="reject"), verdict("fail", explanation="see https://a.example/why"), "192.0.2.1")


def proven(**more: Any) -> Verdict:
    """A verdict, `none` from every method unless told otherwise."""
    given: dict[str, Any] = {"spf": verdict("none"), "dmarc": DmarcVerdict("none", "a.example"), **more}
    return Verdict(trusted=False, **given)


def signature(result: str, domain: str) -> DkimVerdict:
    return DkimVerdict(result, domain, "s1", "rsa-sha256")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("found", "reply"),
    [
        (proven(spf=verdict("fail")), "550 5.7.23"),
        (proven(spf=verdict("pass")), None),
        (proven(spf=verdict("softfail")), None),
        (proven(spf=verdict("fail"), dkim=(signature("pass", "evil.example"),)), "550 5.7.23"),
        (proven(spf=verdict("fail"), dkim=(signature("fail", "a.example"),)), "550 5.7.23"),
        (proven(spf=verdict("fail"), dkim=(signature("temperror", "a.example"),)), "451 4.7.24"),
        (proven(spf=verdict("fail"), dkim=(signature("temperror", "old.a.example"),)), "451 4.7.24"),
        (proven(spf=verdict("fail"), dkim=(signature("temperror", "evil.example"),)), "550 5.7.23"),
        (
            proven(
                spf=verdict("fail"),
                dkim=(signature("temperror", "b.example"),),
                dmarc=DmarcVerdict("none", "x.b.example"),
            ),
            "451 4.7.24",
        ),
        (proven(spf=verdict("fail"), dkim=(signature("pass", "a.example"),), sender_signed=True), None),
        (proven(spf=verdict("fail"), dmarc=DmarcVerdict("pass", "b.example", aligned=("dkim",))), None),
        (Verdict(trusted=True), None),
    ],
)
def test_what_fails_spf_needs_a_signature_that_speaks_for_it(found: Verdict, reply: str | None) -> None:
    if reply is None:
        apply_spf_unless_dkim(SpfSection(), found, "192.0.2.1")
        return
    with pytest.raises(Refused, match=f"^{reply} .*a\\.example"):
        apply_spf_unless_dkim(SpfSection(), found, "192.0.2.1")


def test_a_forgery_of_spf_is_for_the_end_of_data_unless_the_policy_says_otherwise() -> None:
    apply_spf(SpfSection(fail="reject-unless-dkim"), verdict("fail"), "192.0.2.1")
    apply_spf_unless_dkim(SpfSection(fail="tag"), proven(spf=verdict("fail")), "192.0.2.1")


PASS = DmarcVerdict("pass", "fwd.example", aligned=("spf",))
FAIL = DmarcVerdict("fail", "fwd.example", policy="reject")
OURS_PASS = verdict("pass", "fwd.example")


@pytest.mark.parametrize(
    ("found", "sender_is_ours", "authors", "ours", "reply"),
    [
        (proven(dmarc=PASS), False, ["fwd.example"], ["fwd.example"], None),
        (proven(dmarc=FAIL), False, ["fwd.example"], ["fwd.example"], "550 5.7.1"),
        (proven(dmarc=FAIL, spf=OURS_PASS), False, ["fwd.example"], ["fwd.example"], "550 5.7.1"),
        (proven(dmarc=DmarcVerdict("none", "fwd.example")), False, ["fwd.example"], ["fwd.example"], "550 5.7.1"),
        (
            proven(dmarc=DmarcVerdict("none", "fwd.example"), spf=verdict("pass", "mail.fwd.example")),
            False,
            ["fwd.example"],
            ["fwd.example"],
            None,
        ),
        (
            proven(dmarc=DmarcVerdict("none", "fwd.example"), spf=verdict("pass", "evil.example")),
            False,
            ["fwd.example"],
            ["fwd.example"],
            "550 5.7.1",
        ),
        (proven(dmarc=DmarcVerdict("temperror", "fwd.example")), False, ["fwd.example"], ["fwd.example"], "451 4.7.1"),
        (proven(dmarc=PASS), False, ["fwd.example", "other.example"], ["fwd.example"], "550 5.7.1"),
        (proven(), False, ["a.example"], [], None),
        (proven(), False, [], [], None),
        (proven(spf=verdict("fail", "fwd.example")), True, ["a.example"], [], "550 5.7.1"),
        (proven(spf=OURS_PASS), True, ["a.example"], [], None),
        (proven(spf=verdict("fail", "fwd.example"), dmarc=PASS), True, ["fwd.example"], ["fwd.example"], None),
        (
            proven(spf=verdict("fail", "fwd.example"), dmarc=DmarcVerdict("pass", "a.example", aligned=("dkim",))),
            True,
            ["a.example"],
            [],
            "550 5.7.1",
        ),
    ],
)
def test_our_domains_in_the_hands_of_others(
    found: Verdict, sender_is_ours: bool, authors: list[str], ours: list[str], reply: str | None
) -> None:
    if reply is None:
        refuse_forged(found, sender_is_ours, authors, ours, "192.0.2.1")
        return
    with pytest.raises(Refused, match=f"^{reply} "):
        refuse_forged(found, sender_is_ours, authors, ours, "192.0.2.1")


@pytest.mark.parametrize(
    ("policy", "found", "reply"),
    [
        (DmarcSection(), DmarcVerdict("fail", "a.example", policy="reject"), "550 5.7.26"),
        (DmarcSection(), DmarcVerdict("fail", "a.example", policy="reject", testing=True), None),
        (
            DmarcSection(quarantine="reject"),
            DmarcVerdict("fail", "a.example", policy="reject", testing=True),
            "550 5.7.26",
        ),
        (DmarcSection(), DmarcVerdict("fail", "a.example", policy="quarantine"), None),
        (DmarcSection(quarantine="defer"), DmarcVerdict("fail", "a.example", policy="quarantine"), "451 4.7.26"),
        (DmarcSection(reject="tag"), DmarcVerdict("fail", "a.example", policy="reject"), None),
        (DmarcSection(reject="defer"), DmarcVerdict("fail", "a.example", policy="reject"), "451 4.7.26"),
        (DmarcSection(), DmarcVerdict("fail", "a.example", policy="none"), None),
        (DmarcSection(), DmarcVerdict("temperror", "a.example", policy="reject"), "451 4.7.26"),
        (DmarcSection(), DmarcVerdict("temperror", "a.example", policy="reject", testing=True), None),
        (DmarcSection(), DmarcVerdict("temperror", "a.example", policy="quarantine"), None),
        (DmarcSection(), DmarcVerdict("temperror", "a.example", policy="none"), None),
        (
            DmarcSection(),
            DmarcVerdict("temperror", "a.example", unsettled=("none", "quarantine", "reject")),
            "451 4.7.26",
        ),
        (DmarcSection(), DmarcVerdict("temperror", "a.example", aligned=("spf",)), None),
        (DmarcSection(temperror="tag"), DmarcVerdict("temperror", "a.example", policy="reject"), None),
        (DmarcSection(reject="tag"), DmarcVerdict("temperror", "a.example", policy="reject"), None),
        (DmarcSection(reject="defer"), DmarcVerdict("temperror", "a.example", policy="reject"), "451 4.7.26"),
        (DmarcSection(quarantine="reject"), DmarcVerdict("temperror", "a.example", policy="quarantine"), "451 4.7.26"),
        (DmarcSection(quarantine="defer"), DmarcVerdict("temperror", "a.example", policy="quarantine"), "451 4.7.26"),
        (DmarcSection(reject="tag", quarantine="defer"), DmarcVerdict("temperror", "a.example", policy="reject"), None),
        (
            DmarcSection(reject="tag", quarantine="reject"),
            DmarcVerdict("temperror", "a.example", policy="reject", unsettled=("quarantine", "reject")),
            "451 4.7.26",
        ),
        (
            DmarcSection(quarantine="reject"),
            DmarcVerdict("temperror", "a.example", policy="reject", testing=True),
            "451 4.7.26",
        ),
        (DmarcSection(), DmarcVerdict("fail", "a.example", unsettled=("none", "quarantine", "reject")), "550 5.7.26"),
        (DmarcSection(), DmarcVerdict("permerror", "a.example"), None),
        (DmarcSection(), DmarcVerdict("pass", "a.example", policy="reject"), None),
    ],
)
def test_dmarc_policy(policy: DmarcSection, found: DmarcVerdict, reply: str | None) -> None:
    if reply is None:
        apply_dmarc(policy, found, "192.0.2.1")
        return
    with pytest.raises(Refused, match=f"^{reply} .*a\\.example"):
        apply_dmarc(policy, found, "192.0.2.1")


QUARANTINED = DmarcVerdict("fail", "q.example", policy="quarantine")
REFUSED = DmarcVerdict("fail", "r.example", policy="reject")
UNKNOWN = DmarcVerdict("temperror", "t.example", unsettled=("none", "quarantine", "reject"))


@pytest.mark.parametrize(
    ("policy", "authors", "reply"),
    [
        (DmarcSection(), (QUARANTINED, UNKNOWN), "451 4.7.26 .*t\\.example"),
        (DmarcSection(), (REFUSED, UNKNOWN), "550 5.7.26 .*r\\.example"),
        (DmarcSection(), (UNKNOWN, REFUSED), "550 5.7.26 .*r\\.example"),
        (DmarcSection(reject="tag", quarantine="reject"), (REFUSED, QUARANTINED), "550 5.7.26 .*q\\.example"),
        (DmarcSection(reject="tag", quarantine="defer"), (REFUSED, QUARANTINED), "451 4.7.26 .*q\\.example"),
    ],
)
def test_of_several_authors_the_strictest_treatment_counts(
    policy: DmarcSection, authors: tuple[DmarcVerdict, DmarcVerdict], reply: str
) -> None:
    with pytest.raises(Refused, match=f"^{reply}, one of 2 author domains in From"):
        apply_dmarc(policy, replace(authors[0], others=authors[1:]), "192.0.2.1")


def test_a_deferral_names_what_dns_did_not_tell() -> None:
    found = DmarcVerdict("temperror", "a.example", policy="reject", problem="k._domainkey.a.example TXT: SERVFAIL")
    with pytest.raises(Refused, match=r"a\.example, whose policy is reject: k\._domainkey\.a\.example TXT: SERVFAIL"):
        apply_dmarc(DmarcSection(), found, "192.0.2.1")


def test_a_refusal_for_several_from_fields_does_not_blame_dkim() -> None:
    found = DmarcVerdict("fail", "a.example", policy="reject", from_fields=2)
    with pytest.raises(Refused) as refused:
        apply_dmarc(DmarcSection(), found, "192.0.2.1")
    assert "2 From fields" in str(refused.value) and "DKIM" not in str(refused.value)
    several = proven(spf=verdict("fail"), dmarc=found)
    with pytest.raises(Refused, match=r"^550 5\.7\.23 .*2 From fields"):
        apply_spf_unless_dkim(SpfSection(), several, "192.0.2.1")


def chain(*links: tuple[str, str], result: str = "pass") -> ArcVerdict:
    sets = [
        ArcSet(n, domain, "s1", "pass", text) for n, (domain, text) in zip(range(len(links), 0, -1), links, strict=True)
    ]
    return ArcVerdict(result, tuple(sets))  # type: ignore[arg-type]


def unchecked(*links: tuple[str, str]) -> ArcVerdict:
    problem = f"ARC-Seal with i={len(links)}: s1._domainkey.{links[0][0]} TXT: SERVFAIL"
    return replace(chain(*links, result="fail"), temporary=True, problem=problem)


SAW_PASS, SAW_FAIL = "mx.l.example; spf=pass; dmarc=pass header.from=a.example", "mx.l.example; dmarc=fail"
NAMED = Iprev("pass", "mx.lists.example")


@pytest.mark.parametrize(
    ("known", "found", "reason"),
    [
        ([], proven(), ""),
        (["192.0.2.0/24"], proven(), "known host 192.0.2.1"),
        (["192.0.3.0/24"], proven(), ""),
        (["mx.lists.example"], proven(iprev=NAMED), "known host mx.lists.example"),
        ([".lists.example"], proven(iprev=NAMED), "known host mx.lists.example"),
        (["lists.example"], proven(iprev=NAMED), ""),
        ([".lists.example"], proven(iprev=Iprev("fail")), ""),
        ([], proven(arc=chain(("l.example", SAW_PASS))), "trusted ARC sealer l.example"),
        ([], proven(arc=chain(("l.example", SAW_FAIL), ("k.example", SAW_PASS))), "trusted ARC sealer k.example"),
        ([], proven(arc=chain(("l.example", SAW_FAIL), ("evil.example", SAW_PASS))), ""),
        ([], proven(arc=chain(("l.example", "mx.l.example; dmarc=pass header.from=b.example"))), ""),
        ([], proven(arc=chain(("l.example", "mx.l.example; dmarc=pass"))), "trusted ARC sealer l.example"),
        ([], proven(arc=chain(("evil.example", SAW_PASS), ("l.example", SAW_PASS))), ""),
        ([], proven(arc=chain(("l.example", SAW_PASS), result="fail")), ""),
        (
            [],
            proven(arc=ArcVerdict("pass", (ArcSet(1, "l.example", "s", "none", SAW_PASS, signs_author=False),))),
            "",
        ),
    ],
)
def test_who_may_override_a_failure(known: list[str], found: Verdict, reason: str) -> None:
    patterns = [host_pattern(text) for text in known]
    assert overrides(patterns, ["l.example", "k.example"], found, "192.0.2.1") == reason


UNCONFIRMED = Iprev("temperror", problem="mx.lists.example A: SERVFAIL", unconfirmed=("mx.lists.example",))
NAMELESS = Iprev("temperror", problem="1.2.0.192.in-addr.arpa PTR: SERVFAIL")


@pytest.mark.parametrize(
    ("known", "found", "reason"),
    [
        ([], proven(), ""),
        ([], proven(iprev=NAMELESS), ""),
        (["192.0.3.0/24"], proven(iprev=NAMELESS), ""),
        (["mx.lists.example"], proven(iprev=NAMELESS), "1.2.0.192.in-addr.arpa"),
        (["mx.lists.example"], proven(iprev=UNCONFIRMED), "mx.lists.example A"),
        ([".lists.example"], proven(iprev=UNCONFIRMED), "mx.lists.example A"),
        ([".other.example"], proven(iprev=UNCONFIRMED), ""),
        (["mx.lists.example"], proven(iprev=Iprev("fail")), ""),
        ([], proven(arc=unchecked(("l.example", SAW_PASS))), "s1._domainkey.l.example"),
        ([], proven(arc=unchecked(("l.example", SAW_FAIL), ("k.example", SAW_PASS))), "s1._domainkey.l.example"),
        ([], proven(arc=unchecked(("evil.example", SAW_PASS))), ""),
        ([], proven(arc=unchecked(("l.example", SAW_FAIL), ("evil.example", SAW_PASS))), ""),
        ([], proven(arc=unchecked(("l.example", SAW_FAIL))), ""),
        ([], proven(arc=chain(("l.example", SAW_PASS), result="fail")), ""),
    ],
)
def test_whether_a_failure_may_be_overridden_once_dns_answers(known: list[str], found: Verdict, reason: str) -> None:
    doubt = override_doubt([host_pattern(text) for text in known], ["l.example", "k.example"], found)
    assert reason in doubt and bool(reason) == bool(doubt)
    if doubt:
        with pytest.raises(Refused, match=r"^451 4\.7\.26"):
            apply_dmarc(DmarcSection(), REFUSED, "192.0.2.1", doubt)
        with pytest.raises(Refused, match=r"^451 4\.7\.24"):
            apply_spf_unless_dkim(SpfSection(), proven(spf=verdict("fail")), "192.0.2.1", doubt)


def test_a_sealer_speaks_for_the_author_that_it_names_only() -> None:
    said = "mx.l.example; dmarc=pass header.from=r.example"
    found = replace(REFUSED, others=(replace(REFUSED, domain="s.example"),))
    assert overrides([], ["l.example"], proven(dmarc=REFUSED, arc=chain(("l.example", said))), "192.0.2.1")
    assert not overrides([], ["l.example"], proven(dmarc=found, arc=chain(("l.example", said))), "192.0.2.1")


@pytest.mark.parametrize(
    ("found", "reply"),
    [
        (proven(dmarc=DmarcVerdict("pass", "a.example", aligned=("spf",))), None),
        (proven(dmarc=DmarcVerdict("fail", "a.example", policy="none")), "451 4.7.1"),
        (proven(), "451 4.7.1"),
    ],
)
def test_an_author_who_may_be_akin_to_us_is_waited_for_unless_proven(found: Verdict, reply: str | None) -> None:
    defer_unknown_owner(found, ["a.example"], [])
    if reply is None:
        defer_unknown_owner(found, ["a.example"], ["a.example"])
        return
    with pytest.raises(Refused, match=f"^{reply} .*a\\.example"):
        defer_unknown_owner(found, ["a.example"], ["a.example"])


def test_a_from_with_more_domains_than_are_checked_is_refused() -> None:
    many = [f"y{number}.example" for number in range(AUTHOR_DOMAINS + 1)]
    refuse_many_authors(many[1:], many[1:])
    for named, doubtful in ((many, []), (["y.example"], many)):
        with pytest.raises(Refused, match=r"^550 5\.7\.1"):
            refuse_many_authors(named, doubtful)


@pytest.mark.parametrize(
    ("policy", "spf", "text"),
    [
        (
            SpfSection(fail="reject"),
            verdict("fail"),
            "550 5.7.23 SPF fail for a.example: 192.0.2.1 is not allowed to send for it",
        ),
        (
            SpfSection(permerror="reject"),
            verdict("permerror", problem="2 SPF records"),
            "550 5.7.24 SPF permerror for a.example: 2 SPF records",
        ),
        (
            SpfSection(),
            verdict("temperror", problem="a.example TXT: SERVFAIL"),
            "451 4.7.24 SPF temperror for a.example: a.example TXT: SERVFAIL",
        ),
    ],
)
def test_what_an_spf_refusal_says(policy: SpfSection, spf: SpfVerdict, text: str) -> None:
    with pytest.raises(Refused) as refused:
        apply_spf(policy, spf, "192.0.2.1")
    assert str(refused.value) == text


@pytest.mark.parametrize(
    ("fields", "doubt", "text"),
    [
        (1, "", "550 5.7.23 {}, and no valid DKIM signature of its domain or the author's does"),
        (3, "", "550 5.7.23 {}, and of a message with 3 From fields no signature speaks for an author"),
        (1, "k TXT: SERVFAIL", "451 4.7.24 {}; k TXT: SERVFAIL"),
    ],
)
def test_what_an_spf_refusal_at_the_end_of_data_says(fields: int, doubt: str, text: str) -> None:
    author = DmarcVerdict("none", "a.example", from_fields=fields)
    with pytest.raises(Refused) as refused:
        apply_spf_unless_dkim(SpfSection(), proven(spf=verdict("fail"), dmarc=author), "192.0.2.1", doubt)
    assert str(refused.value) == text.format("SPF fail for a.example: 192.0.2.1 is not allowed to send for it")


@pytest.mark.parametrize(
    ("author", "text"),
    [
        (
            DmarcVerdict("fail", "a.example", policy="reject"),
            "550 5.7.26 DMARC fail for a.example: neither SPF nor DKIM passes in its name for mail from 192.0.2.1, "
            "and its policy is reject",
        ),
        (
            DmarcVerdict("fail", "a.example", policy="reject", from_fields=2),
            "550 5.7.26 DMARC fail for a.example, an author in one of 2 From fields: nobody can tell who the author "
            "is, and its policy is reject",
        ),
        (
            DmarcVerdict("fail", "a.example", problem="too many questions", unsettled=("none", "reject")),
            "550 5.7.26 DMARC fail for a.example: too many questions",
        ),
        (
            DmarcVerdict("temperror", "a.example", problem="com TXT: SERVFAIL", unsettled=("none", "reject")),
            "451 4.7.26 DMARC temperror for a.example, whose policy is not known: com TXT: SERVFAIL",
        ),
    ],
)
def test_what_a_dmarc_refusal_says(author: DmarcVerdict, text: str) -> None:
    with pytest.raises(Refused) as refused:
        apply_dmarc(DmarcSection(), author, "192.0.2.1")
    assert str(refused.value) == text


def test_what_a_refusal_of_our_own_name_says() -> None:
    several = proven(dmarc=replace(FAIL, others=(DmarcVerdict("none", "other.example"),)))
    with pytest.raises(Refused) as refused:
        refuse_forged(several, False, ["fwd.example", "other.example"], ["fwd.example"], "192.0.2.1")
    where = "fwd.example, one of 2 author domains in From"
    assert str(refused.value) == f"550 5.7.1 192.0.2.1 may not send mail from {where}, a domain of ours"
    with pytest.raises(Refused) as refused:
        refuse_forged(proven(spf=verdict("fail", "m.fwd.example")), True, ["a.example"], [], "192.0.2.1")
    assert str(refused.value) == "550 5.7.1 192.0.2.1 may not send for m.fwd.example, a domain of ours"


def test_as_many_addresses_as_are_read_are_no_fault_of_one_domain() -> None:
    refuse_many_authors(["a.example"] * AUTHORS, [])
    with pytest.raises(Refused, match=r"^550 5\.7\.1 more than 10 domains in From"):
        refuse_many_authors(["a.example"] * (AUTHORS + 1), [])
