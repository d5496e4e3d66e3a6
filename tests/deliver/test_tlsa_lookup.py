"""Which TLSA records hold for a mail host, by what DNSSEC proves (RFC 7672 section 2.2)."""

from __future__ import annotations

from typing import Any

import pytest

from relay.deliver.mx import Host
from relay.deliver.tls_policy import TlsaAnswer, Untrusted
from relay.deliver.tlsa_lookup import TlsaLookup
from relay.dns import UNREADABLE_TLSA, Answer, DnsFailure, Tlsa
from tests.resolvers import RecordingResolver

RECORD, OTHER, USELESS = Tlsa(3, 1, 1, b"k" * 32), Tlsa(2, 0, 1, b"a" * 32), Tlsa(1, 1, 1, b"k" * 32)
HOST = Host("mx.d.example", "192.0.2.1", 25, "d.example")
SILENT = DnsFailure("no answer")
NO_RECORDS, UNPROVEN = TlsaAnswer(proven=True), TlsaAnswer()


def secure(*records: Any, canonical: str = "") -> Answer:
    return Answer(records, secure=True, canonical=canonical)


def insecure(*records: Any, canonical: str = "") -> Answer:
    return Answer(records, canonical=canonical)


MX = {("d.example", "MX"): secure((10, "mx.d.example"))}
ADDRESS = {("mx.d.example", "A"): secure("192.0.2.1")}
TLSA = {("_25._tcp.mx.d.example", "TLSA"): secure(RECORD)}


async def look_up(zone: dict[Any, Any], host: Host = HOST) -> tuple[TlsaAnswer, list[str]]:
    """The answer, and the questions for TLSA records."""
    resolver = RecordingResolver(zone)
    answer = await TlsaLookup(resolver).records(host)
    return answer, [name for name, rdtype in resolver.asked if rdtype == "TLSA"]


async def test_secure_records_hold() -> None:
    answer, _ = await look_up({**MX, **ADDRESS, **TLSA})
    assert answer == TlsaAnswer((RECORD,), "mx.d.example", ("mx.d.example", "d.example"), proven=True)


async def test_the_name_has_the_port_in_it() -> None:
    _, asked = await look_up({**MX, **ADDRESS}, Host("mx.d.example", "192.0.2.1", 2525, "d.example"))
    assert asked == ["_2525._tcp.mx.d.example"]


async def test_each_family_has_its_own_answer() -> None:
    zone = {**MX, **TLSA, ("mx.d.example", "A"): insecure("192.0.2.1"), ("mx.d.example", "AAAA"): secure("2001:db8::1")}
    assert (await look_up(zone))[0] == NO_RECORDS
    assert (await look_up(zone, Host("mx.d.example", "2001:db8::1", 25, "d.example")))[0].usable == (RECORD,)


@pytest.mark.parametrize(
    ("broken", "expected"),
    [
        ({("d.example", "MX"): insecure((10, "mx.d.example"))}, UNPROVEN),
        ({("mx.d.example", "A"): insecure("192.0.2.1")}, NO_RECORDS),
    ],
)
async def test_where_the_way_is_not_secure_nothing_is_asked(broken: dict[Any, Any], expected: TlsaAnswer) -> None:
    """Name servers of unsigned zones may break at such questions, and their mail must not suffer by it."""
    answer, asked = await look_up({**MX, **ADDRESS, ("_25._tcp.mx.d.example", "TLSA"): SILENT, **broken})
    assert (answer, asked) == (expected, [])


@pytest.mark.parametrize("answer", [insecure(RECORD), secure(), Answer((), exists=False, secure=True)])
async def test_insecure_records_are_none(answer: Answer) -> None:
    assert (await look_up({**MX, **ADDRESS, ("_25._tcp.mx.d.example", "TLSA"): answer}))[0] == NO_RECORDS


@pytest.mark.parametrize("question", [("d.example", "MX"), ("mx.d.example", "A"), ("_25._tcp.mx.d.example", "TLSA")])
async def test_without_an_answer_the_host_is_passed_over(question: tuple[str, str]) -> None:
    with pytest.raises(Untrusted) as raised:
        await look_up({**MX, **ADDRESS, **TLSA, question: SILENT})
    outcome = raised.value.outcome
    assert (outcome.status, outcome.enhanced, raised.value.result) == ("deferred", "4.7.5", "dnssec-invalid")
    assert "DANE" in outcome.text and "mx.d.example" in outcome.text


@pytest.mark.parametrize("records", [(USELESS,), (UNREADABLE_TLSA,), (USELESS, Tlsa(3, 1, 1, b"short"))])
async def test_useless_records_encrypt(records: tuple[Tlsa, ...]) -> None:
    zone = {**MX, **ADDRESS, ("_25._tcp.mx.d.example", "TLSA"): secure(*records)}
    answer, _ = await look_up(zone)
    assert (answer.usable, answer.base, answer.encrypts) == ((), "mx.d.example", True)


async def test_the_useless_among_the_others_are_left_out() -> None:
    zone = {**MX, **ADDRESS, ("_25._tcp.mx.d.example", "TLSA"): secure(USELESS, RECORD, UNREADABLE_TLSA, OTHER)}
    answer, _ = await look_up(zone)
    assert (answer.usable, answer.encrypts) == ((RECORD, OTHER), False)


# --- CNAMEs -----------------------------------------------------------------------------------------------------------

ALIAS = {("mx.d.example", "A"): secure("192.0.2.1", canonical="real.p.example")}
OUTWARD = {("mx.d.example", "A"): insecure("192.0.2.1", canonical="real.p.example")}


async def test_records_under_the_canonical_name_come_first() -> None:
    zone = {**MX, **ALIAS, **TLSA, ("_25._tcp.real.p.example", "TLSA"): secure(OTHER)}
    answer, asked = await look_up(zone)
    assert asked == ["_25._tcp.real.p.example"]
    assert answer == TlsaAnswer(
        (OTHER,), "real.p.example", ("real.p.example", "mx.d.example", "d.example"), proven=True
    )


@pytest.mark.parametrize("first", [secure(), insecure(OTHER), Answer((), exists=False, secure=True)])
async def test_then_those_under_the_name_of_the_host(first: Answer) -> None:
    answer, _ = await look_up({**MX, **ALIAS, **TLSA, ("_25._tcp.real.p.example", "TLSA"): first})
    assert answer == TlsaAnswer((RECORD,), "mx.d.example", ("mx.d.example", "d.example"), proven=True)


async def test_no_answer_under_the_canonical_name_is_not_made_up_for() -> None:
    with pytest.raises(Untrusted):
        await look_up({**MX, **ALIAS, **TLSA, ("_25._tcp.real.p.example", "TLSA"): SILENT})


async def test_a_secure_alias_of_an_insecure_name() -> None:
    zone = {**MX, **OUTWARD, **TLSA, ("_25._tcp.real.p.example", "TLSA"): SILENT}
    answer, asked = await look_up({**zone, ("mx.d.example", "CNAME"): secure("real.p.example")})
    assert (answer.usable, answer.base) == ((RECORD,), "mx.d.example")
    assert asked == ["_25._tcp.mx.d.example"]
    answer, asked = await look_up({**zone, ("mx.d.example", "CNAME"): insecure("real.p.example")})
    assert (answer, asked) == (NO_RECORDS, [])


async def test_a_canonical_name_that_no_host_can_have() -> None:
    zone = {**MX, **TLSA, ("mx.d.example", "A"): secure("192.0.2.1", canonical="\\000\\.x.example")}
    answer, asked = await look_up(zone)
    assert (answer.base, asked) == ("mx.d.example", ["_25._tcp.mx.d.example"])


async def test_the_domain_may_be_an_alias_too() -> None:
    zone = {**ADDRESS, **TLSA, ("d.example", "MX"): secure((10, "mx.d.example"), canonical="real.example")}
    answer, _ = await look_up(zone)
    assert answer.names == ("mx.d.example", "d.example", "real.example")


# --- Other hosts ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("mx", "found"), [(secure(), (RECORD,)), (insecure(), ())])
async def test_a_domain_without_mx_is_its_own_host(mx: Answer, found: tuple[Tlsa, ...]) -> None:
    zone = {
        ("d.example", "MX"): mx,
        ("d.example", "A"): secure("192.0.2.1"),
        ("_25._tcp.d.example", "TLSA"): secure(RECORD),
    }
    answer, _ = await look_up(zone, Host("d.example", "192.0.2.1", 25, "d.example"))
    assert answer.usable == found


@pytest.mark.parametrize(
    "host",
    [
        Host("hub.d.example", "192.0.2.1", 25),
        Host("192.0.2.1", "192.0.2.1", 25, "[192.0.2.1]"),
        Host("2001:db8::1", "2001:db8::1", 25, "[IPv6:2001:db8::1]"),
    ],
)
async def test_of_a_configured_host_and_of_an_address_nothing_is_asked(host: Host) -> None:
    resolver = RecordingResolver({})
    assert await TlsaLookup(resolver).records(host) == UNPROVEN
    assert not resolver.asked


async def test_an_mx_that_names_an_address_has_no_records() -> None:
    nothing = Answer((), exists=False, secure=True)
    zone = {**MX, ("192.0.2.1", "A"): nothing, ("_25._tcp.192.0.2.1", "TLSA"): nothing}
    assert (await look_up(zone, Host("192.0.2.1", "192.0.2.1", 25, "d.example")))[0] == NO_RECORDS
