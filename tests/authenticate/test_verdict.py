"""What the results of all checks prove, and where they come from."""

from __future__ import annotations

from typing import Any

import pytest

from relay.authenticate.arc import ArcSet, ArcVerdict
from relay.authenticate.dkim import DkimVerdict
from relay.authenticate.dmarc import DmarcVerdict
from relay.authenticate.dns_budget import Budget
from relay.authenticate.iprev import Iprev
from relay.authenticate.results_field import MethodResult
from relay.authenticate.spf import SpfVerdict
from relay.authenticate.trusted_results import TrustedResults
from relay.authenticate.verdict import Verdict, check_stranger, read_trusted_results
from relay.mail.message import Message
from tests import corpus
from tests.authenticate.sealing import sealed
from tests.authenticate.signing import MESSAGE, NOW, signed
from tests.resolvers import RecordingResolver

ANN = "ann@author.example"
ZONE: dict[tuple[str, str], Any] = {
    ("_dmarc.author.example", "TXT"): [(b"v=DMARC1; p=reject",)],
    (corpus.RSA.record_name, "TXT"): [(corpus.RSA.public_record().encode(),)],
}
NO_SPF = SpfVerdict("none", "mailfrom", "author.example")
BY_SPF = SpfVerdict("pass", "mailfrom", "author.example")
MTA = "mx.inner.example"
HANDED_ON = b"Received: from out (out [192.0.2.9])\r\n\tby mx.inner.example with ESMTP id 1\r\n"


def signature(domain: str, result: Any = "pass") -> DkimVerdict:
    return DkimVerdict(result, domain)


async def stranger(content: bytes, spf: SpfVerdict = NO_SPF, sender: str = ANN, iprev: Iprev | None = None) -> Verdict:
    return await check_stranger(Budget(RecordingResolver(ZONE)), Message(content), sender, spf, iprev, NOW)


async def trusted(content: bytes, sender: str = ANN, ids: tuple[str, ...] = (MTA,)) -> Verdict:
    return await read_trusted_results(RecordingResolver(ZONE), Message(content), sender, ids, NOW)


# a stranger


async def test_every_check_of_a_strangers_message_is_made() -> None:
    name = Iprev("pass", "mx.author.example")
    verdict = await stranger(sealed(signed()), iprev=name)
    assert not verdict.trusted and verdict.spf == NO_SPF and verdict.iprev == name
    assert [one.result for one in verdict.dkim] == ["pass"] and verdict.arc.result == "pass"
    assert verdict.dmarc is not None and (verdict.dmarc.result, verdict.aligned) == ("pass", ("dkim",))
    assert verdict.sender_signed and verdict.proven_authors == ("author.example",)


@pytest.mark.parametrize(
    ("sender", "is_signed"),
    [(ANN, True), ("x@news.author.example", True), ("x@else.example", False), ("", False)],
)
async def test_the_sender_is_signed_by_its_own_organization_only(sender: str, is_signed: bool) -> None:
    assert (await stranger(signed(), sender=sender)).sender_signed is is_signed


async def test_a_broken_signature_signs_for_nobody() -> None:
    verdict = await stranger(signed() + b"added\r\n")
    assert [one.result for one in verdict.dkim] == ["fail"] and not verdict.sender_signed


CUT_SHORT = b"no field at all\r\n"


async def test_a_signature_over_a_header_that_readers_end_early_is_worth_nothing() -> None:
    verdict = await stranger(CUT_SHORT + sealed(signed()))
    assert [one.result for one in verdict.dkim] == ["policy"] and "no field" in verdict.dkim[0].problem
    assert verdict.arc.result == "fail" and "no field" in verdict.arc.problem and not verdict.arc.temporary
    assert verdict.dmarc is not None and verdict.dmarc.result == "fail"
    assert not verdict.sender_signed and verdict.proven_authors == ()


async def test_spf_speaks_for_such_a_message_all_the_same() -> None:
    verdict = await stranger(CUT_SHORT + signed(), BY_SPF)
    assert [one.result for one in verdict.dkim] == ["pass"]
    assert verdict.dmarc is not None and verdict.dmarc.result == "pass"


# a trusted client


async def test_what_a_trusted_mta_states_is_taken_over() -> None:
    results = (
        b"Authentication-Results: mx.inner.example; spf=softfail smtp.mailfrom=author.example;\r\n"
        b"\tdkim=pass header.d=author.example; dmarc=pass header.from=author.example\r\n"
    )
    verdict = await trusted(results + HANDED_ON + MESSAGE)
    assert verdict.trusted and verdict.trusted_results is not None
    assert verdict.spf is not None and verdict.spf.result == "softfail"
    assert [(one.result, one.domain) for one in verdict.dkim] == [("pass", "author.example")]
    assert verdict.dmarc is not None and verdict.dmarc.result == "pass" and verdict.aligned == ("dkim",)
    assert verdict.sender_signed


async def test_without_results_nobody_knows_anything() -> None:
    assert await trusted(MESSAGE) == Verdict(trusted=True)
    assert await trusted(b"Authentication-Results: else.example; spf=pass\r\n" + MESSAGE) == Verdict(trusted=True)


async def test_the_chain_of_a_trusted_clients_message_is_verified_by_us() -> None:
    results = b"Authentication-Results: mx.inner.example; arc=pass\r\n"
    assert (await trusted(results + HANDED_ON + sealed())).arc.result == "pass"
    assert (await trusted(results + HANDED_ON + sealed() + b"added\r\n")).arc.result == "fail"


async def test_a_signature_that_the_mta_does_not_mention_may_be_aligned_too() -> None:
    results = b"Authentication-Results: mx.inner.example; spf=pass smtp.mailfrom=author.example\r\n"
    assert (await trusted(results + HANDED_ON + MESSAGE)).aligned == ("spf",)
    assert (await trusted(results + HANDED_ON + signed())).aligned == ()


# what it proves


@pytest.mark.parametrize(
    ("verdict", "proven"),
    [
        (Verdict(False, dmarc=DmarcVerdict("pass", "a.example", aligned=("spf",))), True),
        (Verdict(False, dmarc=DmarcVerdict("fail", "a.example")), False),
        (Verdict(False, dmarc=DmarcVerdict("temperror", "a.example"), dkim=(signature("a.example"),)), False),
        (Verdict(False, dmarc=DmarcVerdict("none", "a.example")), False),
        (Verdict(False, dmarc=DmarcVerdict("none", "a.example"), dkim=(signature("a.example"),)), True),
        (Verdict(False, dmarc=DmarcVerdict("none", "a.example"), dkim=(signature("a.example", "fail"),)), False),
        (Verdict(False, dmarc=DmarcVerdict("none", "a.example"), dkim=(signature("mail.a.example"),)), True),
        (Verdict(False, dmarc=DmarcVerdict("none", "a.example"), dkim=(signature("evil.example"),)), False),
        (Verdict(False, spf=BY_SPF, dmarc=DmarcVerdict("none", "www.author.example")), True),
        (Verdict(False, spf=NO_SPF, dmarc=DmarcVerdict("none", "author.example")), False),
        (Verdict(True), False),
    ],
)
def test_what_proves_the_author(verdict: Verdict, proven: bool) -> None:
    assert verdict.author_proven is proven
    assert bool(verdict.proven_authors) is proven


def test_of_several_authors_those_are_proven_that_pass() -> None:
    others = (DmarcVerdict("pass", "b.example"), DmarcVerdict("none", "c.example"))
    verdict = Verdict(False, dmarc=DmarcVerdict("fail", "a.example", others=others))
    assert verdict.proven_authors == ("b.example",) and not verdict.author_proven
    assert [one.domain for one in verdict.authors] == ["a.example", "b.example", "c.example"]


def said(method: str, result: str) -> TrustedResults:
    return TrustedResults(MTA, (MethodResult(method, result),), ())


FAILED_CHAIN = ArcVerdict("fail", (ArcSet(1, "l.example", "s", "none", ""),))


@pytest.mark.parametrize(
    ("verdict", "may"),
    [
        (Verdict(False), True),
        (Verdict(False, arc=FAILED_CHAIN), False),
        (Verdict(True), False),
        (Verdict(True, trusted_results=said("spf", "pass")), True),
        (Verdict(True, trusted_results=said("arc", "pass")), True),
        (Verdict(True, trusted_results=said("arc", "fail")), False),
        (Verdict(True, arc=FAILED_CHAIN, trusted_results=said("arc", "pass")), False),
    ],
)
def test_a_chain_is_extended_where_it_is_whole_and_there_are_results_to_testify_to(verdict: Verdict, may: bool) -> None:
    assert verdict.may_be_sealed is may
