"""Which TLS policy holds for a host, in every combination of what is configured, published, and asked for."""

from __future__ import annotations

import itertools

import pytest

from relay.config.sections import DeliverySection
from relay.deliver.client_tls import Level
from relay.deliver.mx import Host
from relay.deliver.next_hop import NextHop, NextHops
from relay.deliver.tls_policy import DomainPolicy, HostPolicy, TlsaAnswer, TlsPolicies, Untrusted
from relay.deliver.tls_results import Shortfall
from relay.dns import Tlsa
from relay.mail.envelope import TlsWish
from relay.mail.outcome import deferral
from relay.network import endpoint
from relay.transport_security.mta_sts_policy import Policy
from tests.deliver.sending import config

HOST = Host("mx1.d.test", "192.0.2.1", 25)
RECORD = Tlsa(3, 1, 1, b"\x17" * 32)
LEVELS: tuple[Level, ...] = ("none", "may", "require", "verify")

ANSWERS: dict[str, TlsaAnswer | Untrusted] = {
    "insecure": TlsaAnswer(),
    "secure": TlsaAnswer(proven=True),
    "usable": TlsaAnswer((RECORD,), "mx1.d.test", ("mx1.d.test", "d.test"), proven=True),
    "useless": TlsaAnswer(base="mx1.d.test", encrypts=True, proven=True),
    "bogus": Untrusted(deferral("4.7.5", "bogus"), "dnssec-invalid"),
}
POLICIES: dict[str, Policy | None] = {
    "-": None,
    "none": Policy("none", 86400, ()),
    "enforce": Policy("enforce", 86400, ("*.d.test",)),
    "enforce, other": Policy("enforce", 86400, ("mx9.d.test",)),
    "testing": Policy("testing", 86400, ("mx1.d.test",)),
    "testing, other": Policy("testing", 86400, ("mx9.d.test",)),
}


class FakeDane:
    """Has one answer for every host; counts the questions."""

    def __init__(self, answer: TlsaAnswer | Untrusted) -> None:
        self.answer = answer
        self.asked = 0

    async def records(self, host: Host) -> TlsaAnswer:
        self.asked += 1
        if isinstance(self.answer, Untrusted):
            raise Untrusted(self.answer.outcome, self.answer.result)
        return self.answer


class FakeSts:
    """Has one policy, or one problem, for every domain; counts the questions."""

    def __init__(self, policy: Policy | None, problem: tuple[str, str] | None = None) -> None:
        self._policy, self._problem = policy, problem
        self.asked: list[str] = []

    async def policy(self, domain: str) -> Policy | None:
        self.asked.append(domain)
        return self._policy

    def problem(self, domain: str) -> tuple[str, str] | None:
        return self._problem


async def policy_of(
    level: Level, answer: str, sts: str, wish: TlsWish, problem: tuple[str, str] | None = None
) -> HostPolicy:
    policies = TlsPolicies(DeliverySection(), FakeDane(ANSWERS[answer]), FakeSts(POLICIES[sts], problem))
    return await (await policies.of_domain(NextHop("d.test", tls=level), wish)).of_host(HOST)


async def told(level: Level, answer: str, sts: str, wish: TlsWish) -> str:
    """What holds, as the tables below write it: the policy and the level, or the status code of the refusal."""
    try:
        policy = await policy_of(level, answer, sts, wish)
    except Untrusted as untrusted:
        return untrusted.outcome.enhanced
    return policy.name if policy.level == policy.name else f"{policy.name}={policy.level}"


# By what DNS says and by the MTA-STS policy: what holds where `delivery.tls` is none, may, require, verify.
_CONFIGURED = ("none", "may", "require", "verify")
_ENCRYPTED = ("none", "require", "require", "verify")
_STS = ("none", "sts=verify", "sts=verify", "sts=verify")
_DANE = ("none", "dane=require", "dane=require", "dane=require")
_REFUSED = ("none", "4.7.5", "4.7.5", "4.7.5")

TABLE = {
    ("insecure", "-"): _CONFIGURED,
    ("insecure", "none"): _CONFIGURED,
    ("insecure", "enforce"): _STS,
    ("insecure", "enforce, other"): _REFUSED,
    ("insecure", "testing"): _CONFIGURED,
    ("insecure", "testing, other"): _CONFIGURED,
    ("secure", "-"): _CONFIGURED,
    ("secure", "none"): _CONFIGURED,
    ("secure", "enforce"): _STS,
    ("secure", "enforce, other"): _REFUSED,
    ("secure", "testing"): _CONFIGURED,
    ("secure", "testing, other"): _CONFIGURED,
    ("useless", "-"): _ENCRYPTED,
    ("useless", "none"): _ENCRYPTED,
    ("useless", "enforce"): _STS,
    ("useless", "enforce, other"): _REFUSED,
    ("useless", "testing"): _ENCRYPTED,
    ("useless", "testing, other"): _ENCRYPTED,
    **{("usable", sts): _DANE for sts in POLICIES},
    **{("bogus", sts): _REFUSED for sts in POLICIES},
}

_NO_PROOF = ("5.7.10", "5.7.30", "5.7.30", "5.7.30")
_VERIFIED = ("5.7.10", "verify", "verify", "verify")
_STS_DEMANDED = ("5.7.10", "sts=verify", "sts=verify", "sts=verify")
_PASSED_OVER = ("5.7.10", "4.7.5", "4.7.5", "4.7.5")

WITH_REQUIRETLS = {
    ("insecure", "-"): _NO_PROOF,
    ("insecure", "none"): _NO_PROOF,
    ("insecure", "enforce"): _STS_DEMANDED,
    ("insecure", "enforce, other"): _PASSED_OVER,
    ("insecure", "testing"): _VERIFIED,
    ("insecure", "testing, other"): _NO_PROOF,
    **{("secure", sts): _VERIFIED for sts in ("-", "none", "testing", "testing, other")},
    ("secure", "enforce"): _STS_DEMANDED,
    ("secure", "enforce, other"): _PASSED_OVER,
    **{("useless", sts): _VERIFIED for sts in ("-", "none", "testing", "testing, other")},
    ("useless", "enforce"): _STS_DEMANDED,
    ("useless", "enforce, other"): _PASSED_OVER,
    **{("usable", sts): ("5.7.10", "dane=require", "dane=require", "dane=require") for sts in POLICIES},
    **{("bogus", sts): _PASSED_OVER for sts in POLICIES},
}
COMBINATIONS = list(itertools.product(ANSWERS, POLICIES))


def test_the_tables_are_whole() -> None:
    assert TABLE.keys() == WITH_REQUIRETLS.keys() == set(COMBINATIONS)


@pytest.mark.parametrize(("answer", "sts"), COMBINATIONS)
async def test_what_is_published_raises_the_configured_level_and_never_lowers_it(answer: str, sts: str) -> None:
    assert tuple([await told(level, answer, sts, "") for level in LEVELS]) == TABLE[answer, sts]


@pytest.mark.parametrize(("answer", "sts"), COMBINATIONS)
async def test_a_bounce_of_a_message_with_requiretls_is_held_up_by_nothing_more(answer: str, sts: str) -> None:
    assert tuple([await told(level, answer, sts, "prefer") for level in LEVELS]) == TABLE[answer, sts]


@pytest.mark.parametrize(("answer", "sts"), COMBINATIONS)
async def test_tls_required_no_lifts_what_is_published_and_not_what_is_configured(answer: str, sts: str) -> None:
    assert tuple([await told(level, answer, sts, "no") for level in LEVELS]) == _CONFIGURED


@pytest.mark.parametrize(("answer", "sts"), COMBINATIONS)
async def test_requiretls_takes_only_hosts_whose_name_and_certificate_are_proven(answer: str, sts: str) -> None:
    assert tuple([await told(level, answer, sts, "require") for level in LEVELS]) == WITH_REQUIRETLS[answer, sts]
    for level in LEVELS:
        try:
            policy = await policy_of(level, answer, sts, "require")
        except Untrusted:
            continue
        assert policy.require_tls and policy.authenticates


async def test_usable_records_and_the_names_for_them_are_handed_on() -> None:
    policy = await policy_of("may", "usable", "enforce", "")
    assert (policy.tlsa, policy.base, policy.names) == ((RECORD,), "mx1.d.test", ("mx1.d.test", "d.test"))


async def test_a_policy_host_that_is_away_does_not_bounce_requiretls() -> None:
    with pytest.raises(Untrusted) as raised:
        await policy_of("may", "insecure", "-", "require", ("sts-policy-fetch-error", "no answer from mta-sts.d.test"))
    assert raised.value.outcome.status == "deferred"
    assert "no answer from mta-sts.d.test" in raised.value.outcome.text


async def test_refusals_name_the_policy_and_the_host() -> None:
    with pytest.raises(Untrusted) as raised:
        await policy_of("may", "secure", "enforce, other", "")
    assert raised.value.outcome.text == "the MTA-STS policy (enforce) of d.test does not allow mx1.d.test"
    assert raised.value.shortfall == Shortfall("validation-failure", "mx-mismatch")
    assert raised.value.policy is not None and raised.value.policy.name == "sts"


async def test_what_is_not_to_be_asked_is_not_asked() -> None:
    dane, sts = FakeDane(ANSWERS["usable"]), FakeSts(POLICIES["enforce"])
    policies = TlsPolicies(DeliverySection(), dane, sts)
    for hop, wish in (
        (NextHop("d.test", tls="none"), ""),
        (NextHop("d.test"), "no"),
        (NextHop(endpoint=endpoint("smtp://mail.d.test:25")), ""),
    ):
        await (await policies.of_domain(hop, wish)).of_host(HOST)  # type: ignore[arg-type]
    assert (dane.asked, sts.asked) == (0, [])


@pytest.mark.parametrize("entry", [{"mta_sts": False}, {"dane": "off"}, {"mta_sts": False, "dane": "off"}])
async def test_a_table_of_a_destination_switches_them_off_for_its_domains(entry: dict[str, object]) -> None:
    settings = config(destinations=[{"domains": ["d.test"], **entry}])
    dane, sts = FakeDane(ANSWERS["usable"]), FakeSts(POLICIES["enforce"])
    policies = TlsPolicies(settings.delivery, dane, sts)
    for domain in ("d.test", "e.test"):
        await (await policies.of_domain(NextHops(settings).of(f"x@{domain}"), "")).of_host(HOST)
    assert dane.asked == (1 if "dane" in entry else 2)
    assert sts.asked == (["e.test"] if "mta_sts" in entry else ["d.test", "e.test"])


async def test_a_table_switches_them_on_where_they_are_off_otherwise() -> None:
    settings = config(
        mta_sts=False, dane="off", destinations=[{"domains": ["d.test"], "mta_sts": True, "dane": "auto"}]
    )
    policies = TlsPolicies(settings.delivery, FakeDane(ANSWERS["usable"]), FakeSts(POLICIES["enforce"]))
    found = [
        (await (await policies.of_domain(NextHops(settings).of(f"x@{domain}"), "")).of_host(HOST)).name
        for domain in ("d.test", "e.test")
    ]
    assert found == ["dane", "may"]


@pytest.mark.parametrize(
    ("url", "name", "require_tls"),
    [
        ("smtp://mail.d.test:25", "verify", True),
        ("smtp://127.0.0.1:10025", "verify", True),
        ("smtps://mail.d.test:465", "verify", True),
        ("lmtp://mail.d.test:24", "verify", False),
        ("lmtp://127.0.0.1:24", "may", False),
        ("lmtp://[::1]:24", "may", False),
        ("lmtp://localhost:24", "may", False),
        ("lmtp:///run/dovecot/lmtp", "may", False),
    ],
)
async def test_requiretls_and_configured_next_hops(url: str, name: str, require_tls: bool) -> None:
    policy = await DomainPolicy(NextHop(endpoint=endpoint(url)), "require").of_host(HOST)
    assert (policy.name, policy.require_tls) == (name, require_tls)


# what reports say


async def published(answer: str, sts: str, wish: TlsWish = "") -> tuple[object, ...]:
    policy = await policy_of("may", answer, sts, wish)
    assert policy.published is not None
    return policy.published.type, policy.published.policy_domain, policy.published.text, policy.shortfall


async def test_what_a_report_names_as_the_policy() -> None:
    enforced = ("version: STSv1", "mode: enforce", "mx: *.d.test", "max_age: 86400")
    tested = ("version: STSv1", "mode: testing", "mx: mx9.d.test", "max_age: 86400")
    assert await published("insecure", "-") == ("no-policy-found", "d.test", (), None)
    assert await published("insecure", "enforce") == ("sts", "d.test", enforced, None)
    mismatch = Shortfall("validation-failure", "mx-mismatch")
    assert await published("insecure", "testing, other") == ("sts", "d.test", tested, mismatch)
    assert await published("usable", "enforce") == ("tlsa", "mx1.d.test", ("3 1 1 " + "17" * 32,), None)
    assert (await published("useless", "-"))[3] == Shortfall("tlsa-invalid", "no usable record")


@pytest.mark.parametrize("wish", ["no", ""])
async def test_no_report_is_about_what_was_not_looked_up(wish: TlsWish) -> None:
    hop = NextHop("d.test", tls="none") if not wish else NextHop("d.test")
    policies = TlsPolicies(DeliverySection(), FakeDane(ANSWERS["usable"]), FakeSts(None))
    policy = await (await policies.of_domain(hop, wish)).of_host(HOST)
    assert policy.published is None


async def test_a_policy_in_testing_mode_is_tried_where_it_asks_for_more_than_is_configured() -> None:
    assert (await policy_of("may", "insecure", "testing", "")).testing
    assert not (await policy_of("verify", "insecure", "testing", "")).testing
    assert not (await policy_of("may", "useless", "testing", "")).testing  # one policy is enough to count
    assert not (await policy_of("may", "insecure", "enforce", "")).testing


async def test_an_address_literal_is_asked_about_nothing() -> None:
    sts = FakeSts(POLICIES["enforce"])
    policy = await (await TlsPolicies(DeliverySection(), sts=sts).of_domain(NextHop("[192.0.2.7]"), "")).of_host(HOST)
    assert (policy.name, sts.asked) == ("may", [])


async def test_a_report_names_a_domain_as_dns_does() -> None:
    policies = TlsPolicies(DeliverySection(), FakeDane(ANSWERS["insecure"]), FakeSts(POLICIES["enforce"]))
    policy = await (await policies.of_domain(NextHop("B\u00fccher.example"), "")).of_host(HOST)
    assert policy.published is not None and policy.published.domain == "xn--bcher-kva.example"
