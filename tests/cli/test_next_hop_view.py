"""One look with the next hop's eyes: our checks from the outside, the second opinion, and what was asked for both."""

from __future__ import annotations

from relay.cli.address_seen import AddressSeen
from relay.cli.next_hop_view import look
from relay.cli.noting_resolver import NotingResolver
from relay.dns import DnsFailure, StaticResolver
from tests.cli.test_second_opinion import KEY, SIGNED, ZONE
from tests.resolvers import RecordingResolver


async def test_a_look_evaluates_for_one_address() -> None:
    resolver = NotingResolver(StaticResolver(ZONE))
    address = AddressSeen("192.0.2.1", "kernel")
    view = await look(resolver, "mx.fwd.example", address, "ann@shop.example", SIGNED)
    assert view.ip == "192.0.2.1" and view.address is address
    assert view.verdict.spf is not None and view.verdict.spf.result == view.opinion.spf.result == "pass"
    assert view.verdict.iprev is not None and view.verdict.iprev.result == "permerror"
    assert [signature.result for signature in view.verdict.dkim] == ["pass"]
    assert {(asked.name, asked.rdtype) for asked in view.asked} == {
        ("shop.example", "TXT"),
        ("1.2.0.192.in-addr.arpa", "PTR"),
        ("s1._domainkey.shop.example", "TXT"),
        ("_dmarc.shop.example", "TXT"),
    }
    other = await look(resolver, "mx.fwd.example", AddressSeen("192.0.2.9", "dns"), "ann@shop.example", SIGNED)
    assert other.verdict.spf is not None and other.verdict.spf.result == other.opinion.spf.result == "fail"


async def test_for_the_null_sender_our_name_is_evaluated() -> None:
    zone = {**ZONE, ("mx.fwd.example", "TXT"): [(b"v=spf1 ip4:192.0.2.1 -all",)]}
    address = AddressSeen("192.0.2.1", "kernel")
    view = await look(NotingResolver(StaticResolver(zone)), "mx.fwd.example", address, "", SIGNED)
    assert view.verdict.spf is not None and view.verdict.spf.identity == "helo"
    assert view.verdict.spf.result == view.opinion.spf.result == "pass"


async def test_a_question_without_an_answer_is_asked_once() -> None:
    """Each such question may take the whole timeout of the resolver."""
    silent = {(name, "TXT"): DnsFailure("timeout") for name in (KEY.record_name, "shop.example", "_dmarc.shop.example")}
    resolver = RecordingResolver({**ZONE, **silent})
    view = await look(
        NotingResolver(resolver), "mx.fwd.example", AddressSeen("192.0.2.1", "dns"), "a@shop.example", SIGNED
    )
    assert [signature.result for signature in view.opinion.dkimpy.signatures] == ["temperror"]
    assert view.opinion.spf.result == "temperror" and view.opinion.differences == ()
    for name, rdtype in silent:
        assert resolver.asked.count((name, rdtype)) == 1
