"""TLS policies at real handshakes: hosts that fail them get no mail, others do, and the outcome says why."""

from __future__ import annotations

import contextlib
import ssl
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from structlog.testing import capture_logs

from relay.deliver.client_tls import client_context
from relay.deliver.mx import Host
from relay.deliver.next_hop import NextHops
from relay.deliver.tls_policy import Dane, TlsaAnswer, TlsPolicies, Untrusted
from relay.deliver.tls_results import TlsResults
from relay.dns import StaticResolver, Tlsa
from relay.mail.outcome import Outcome, deferral
from relay.metrics import Metrics
from relay.queue.tls_results import TlsSession
from relay.transport_security import tlsa
from relay.transport_security.mta_sts_policy import Policy
from tests.certificates import write_certificate
from tests.deliver.scripted import ESMTP, HANG_UP, ScriptedServer
from tests.deliver.sending import Sender, config, hop, job
from tests.deliver.test_client_tls import Authority, server_context
from tests.deliver.test_tls_policy import FakeDane, FakeSts
from tests.peers import free_port

REQUIRETLS = (*ESMTP, "REQUIRETLS")
ENFORCE = Policy("enforce", 86400, ("mx0.test", "mx1.test"))
TESTING = Policy("testing", 86400, ("mx0.test", "mx1.test"))
ZONE: Mapping[tuple[str, str], Any] = {
    ("d.test", "MX"): [(10, "mx0.test"), (20, "mx1.test")],
    ("alone.test", "MX"): [(10, "mx0.test")],
    ("mx0.test", "A"): ["127.0.0.1"],
    ("mx1.test", "A"): ["127.0.0.2"],
}


@dataclass(frozen=True)
class Tls:
    """Server contexts; `good` is for mx0.test, mx1.test and 127.0.0.1. The records name the certificates of `good` and
    of `self_signed`."""

    good: ssl.SSLContext
    other: ssl.SSLContext
    expired: ssl.SSLContext
    self_signed: ssl.SSLContext
    record: Tlsa
    self_record: Tlsa

    def named(self, name: str) -> ssl.SSLContext | None:
        return None if name == "clear" else getattr(self, name)


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("ca"))


@pytest.fixture(scope="module")
def contexts(authority: Authority, tmp_path_factory: pytest.TempPathFactory) -> Tls:
    files = authority.files("mx0.test", "mx1.test", "127.0.0.1")
    good, record = server_context(files), _record(files.pairs[0].certificate)
    folder = tmp_path_factory.mktemp("self")
    write_certificate(folder, "self", "mx0.test")
    self_signed = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    self_signed.load_cert_chain(folder / "cert.pem", folder / "key.pem")
    return Tls(
        good,
        server_context(authority.files("elsewhere.test")),
        server_context(authority.files("mx0.test", expired=True)),
        self_signed,
        record,
        _record(folder / "cert.pem"),
    )


def _record(file: Path) -> Tlsa:
    return Tlsa(3, 1, 1, tlsa.data(x509.load_pem_x509_certificate(file.read_bytes()), 1, 1))


@pytest.fixture
def tls(authority: Authority, contexts: Tls, monkeypatch: pytest.MonkeyPatch) -> Iterator[Tls]:
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.file))
    client_context.cache_clear()
    yield contexts
    client_context.cache_clear()


class Site:
    """An agent with these policies, and what it has counted."""

    def __init__(self, sender: Sender, results: TlsResults) -> None:
        self.sender = sender
        self._results = results

    async def send(self, domain: str = "alone.test", **more: Any) -> Outcome:
        (outcome,) = await self.sender.deliver_to(domain, None, job(f"carol@{domain}", **more))
        return outcome

    def counted(self) -> list[tuple[str, str, str, int]]:
        return sorted((key.policy, key.mx, key.result, n) for key, n in self._results._pending.items())

    @property
    def sessions(self) -> dict[TlsSession, int]:
        return self._results._pending


@contextlib.asynccontextmanager
async def site(port: int, dane: Dane | None = None, sts: Policy | None = None, **delivery: Any) -> AsyncIterator[Site]:
    settings = config(**{"public_addresses_only": False, "port": port, **delivery})
    results = TlsResults(Metrics())
    policies = TlsPolicies(settings.delivery, dane, FakeSts(sts))
    sender = Sender(settings, StaticResolver(ZONE), NextHops(settings), policies, results)
    try:
        yield Site(sender, results)
    finally:
        await sender.close()


def dane_of(*records: Tlsa) -> FakeDane:
    return FakeDane(TlsaAnswer(records, "mx0.test", ("mx0.test",), proven=True))


# an enforced policy


async def test_mail_goes_to_a_host_that_the_policy_allows(tls: Tls) -> None:
    server = ScriptedServer(tls=tls.good)
    async with server(), site(server.port, sts=ENFORCE) as here:
        outcome = await here.send()
        assert (outcome.status, outcome.policy) == ("delivered", "sts")
        assert outcome.tls
        assert (await here.send()).policy == "sts"  # over the same connection
        assert len(server.sessions) == 1
        assert here.counted() == [("sts", "mx0.test", "success", 1)]


@pytest.mark.parametrize(
    ("certificate", "result", "word"),
    [
        ("clear", "starttls-not-supported", "does not offer it"),
        ("other", "certificate-host-mismatch", "Hostname mismatch"),
        ("expired", "certificate-expired", "expired"),
        ("self_signed", "certificate-not-trusted", "self"),
    ],
)
@pytest.mark.parametrize("level", ["may", "require", "verify"])
async def test_a_host_that_fails_an_enforced_policy_gets_nothing(
    tls: Tls, certificate: str, result: str, word: str, level: str
) -> None:
    server = ScriptedServer(tls=tls.named(certificate))
    async with server(), site(server.port, sts=ENFORCE, tls=level) as here:
        outcome = await here.send()
        counted = here.sessions
    assert (outcome.status, outcome.enhanced, outcome.policy) == ("deferred", "4.7.5", "sts")
    assert outcome.text.startswith("the MTA-STS policy (enforce) of alone.test forbids mail to mx0.test: ")
    assert word in outcome.text
    assert (outcome.host, outcome.address, outcome.unreachable) == ("mx0.test", "127.0.0.1", False)
    assert server.contents == [] and not any(line.startswith("MAIL") for line in server.commands)
    (session,) = counted
    assert (session.policy, session.domain, session.mx, session.result) == ("sts", "alone.test", "mx0.test", result)
    assert (session.address, session.source) == ("127.0.0.1", "127.0.0.1")


async def test_starttls_that_is_refused_is_no_way_around_a_policy(tls: Tls) -> None:
    server = ScriptedServer(tls=tls.good, STARTTLS="454 4.7.0 not now")
    async with server(), site(server.port, sts=ENFORCE) as here:
        outcome = await here.send()
        assert (outcome.status, outcome.enhanced) == ("deferred", "4.7.5")
        assert "454" in outcome.text and "MTA-STS" in outcome.text
        assert here.counted() == [("sts", "mx0.test", "starttls-not-supported", 1)]
    assert server.contents == []


@pytest.mark.parametrize("play", [HANG_UP, ("220 go on", HANG_UP)])
async def test_a_handshake_that_breaks_off_is_no_way_around_a_policy(tls: Tls, play: Any) -> None:
    server = ScriptedServer(tls=tls.good, STARTTLS=play)
    async with server(), site(server.port, sts=ENFORCE) as here:
        outcome = await here.send()
        assert (outcome.status, outcome.enhanced) == ("deferred", "4.7.5") and "MTA-STS" in outcome.text
        assert here.counted() == [("sts", "mx0.test", "validation-failure", 1)]
    assert server.contents == [] and len(server.sessions) == 1


async def test_the_next_host_takes_what_a_policy_forbids_the_first(tls: Tls) -> None:
    first, second = ScriptedServer(tls=tls.other), ScriptedServer(tls=tls.good)
    port = free_port()
    async with first("127.0.0.1", port), second("127.0.0.2", port), site(port, sts=ENFORCE) as here:
        with capture_logs() as lines:
            outcome = await here.send("d.test")
        assert here.counted() == [
            ("sts", "mx0.test", "certificate-host-mismatch", 1),
            ("sts", "mx1.test", "success", 1),
        ]
    assert (outcome.status, outcome.host) == ("delivered", "mx1.test")
    (line,) = (line for line in lines if line["event"] == "tls_failed")
    assert (line["host"], line["policy"], line["effect"]) == ("mx0.test", "sts", "passed over")


async def test_a_host_that_the_policy_does_not_name_is_not_even_connected_to(tls: Tls) -> None:
    server = ScriptedServer(tls=tls.good)
    async with server(), site(server.port, sts=Policy("enforce", 86400, ("mx9.test",))) as here:
        outcome = await here.send()
        assert here.counted() == [("sts", "mx0.test", "validation-failure", 1)]
    assert (outcome.enhanced, outcome.policy, outcome.host) == ("4.7.5", "sts", "mx0.test")
    assert outcome.text == "the MTA-STS policy (enforce) of alone.test does not allow mx0.test"
    assert server.sessions == []


@pytest.mark.parametrize("answers_first", [True, False])
async def test_a_failed_policy_says_more_than_a_host_that_is_down(tls: Tls, answers_first: bool) -> None:
    server, port = ScriptedServer(tls=tls.other), free_port()
    async with server("127.0.0.1" if answers_first else "127.0.0.2", port), site(port, sts=ENFORCE) as here:
        outcome = await here.send("d.test")
    assert (outcome.enhanced, outcome.unreachable) == ("4.7.5", False)


async def test_the_reply_of_a_host_that_may_take_the_mail_says_more_than_a_failed_policy(tls: Tls) -> None:
    first, second = ScriptedServer(tls=tls.other), ScriptedServer(tls=tls.good, MAIL="421 4.3.2 busy")
    port = free_port()
    async with first("127.0.0.1", port), second("127.0.0.2", port), site(port, sts=ENFORCE) as here:
        outcome = await here.send("d.test")
    assert (outcome.code, outcome.host) == (421, "mx1.test")


# a policy in testing mode


@pytest.mark.parametrize(
    ("certificate", "result"),
    [
        ("good", "success"),
        ("other", "certificate-host-mismatch"),
        ("expired", "certificate-expired"),
        ("clear", "starttls-not-supported"),
    ],
)
async def test_testing_mode_counts_and_stops_nothing(tls: Tls, certificate: str, result: str) -> None:
    server = ScriptedServer(tls=tls.named(certificate))
    async with server(), site(server.port, sts=TESTING) as here:
        outcome = await here.send()
        assert here.counted() == [("sts", "mx0.test", result, 1)]
    assert (outcome.status, outcome.policy) == ("delivered", "may")
    assert bool(outcome.tls) == (certificate != "clear")


async def test_testing_mode_with_another_host(tls: Tls) -> None:
    server = ScriptedServer(tls=tls.good)
    async with server(), site(server.port, sts=Policy("testing", 86400, ("mx9.test",))) as here:
        assert (await here.send()).status == "delivered"
        (session,) = here.sessions
    assert (session.result, session.reason) == ("validation-failure", "mx-mismatch")


# no policy


@pytest.mark.parametrize(("certificate", "result"), [("self_signed", "success"), ("clear", "starttls-not-supported")])
async def test_without_a_policy_mail_goes_as_it_can(tls: Tls, certificate: str, result: str) -> None:
    server = ScriptedServer(tls=tls.named(certificate))
    async with server(), site(server.port) as here:
        assert (await here.send()).policy == "may"
        assert here.counted() == [("no-policy-found", "mx0.test", result, 1)]


async def test_a_handshake_that_fails_is_counted_although_the_mail_goes_in_clear(tls: Tls) -> None:
    server = ScriptedServer(tls=tls.good, STARTTLS=[("220 go on", HANG_UP)])
    async with server(), site(server.port) as here:
        outcome = await here.send()
        assert here.counted() == [("no-policy-found", "mx0.test", "validation-failure", 1)]
    assert (outcome.status, outcome.tls) == ("delivered", "")


async def test_a_policy_that_cannot_be_had_is_counted_beside_the_session(tls: Tls) -> None:
    server = ScriptedServer(tls=tls.good)
    async with server(), site(server.port) as here:
        policies = TlsPolicies(
            config().delivery, sts=FakeSts(None, ("sts-policy-fetch-error", "mta-sts.alone.test: timed out"))
        )
        here.sender._policies = policies
        assert (await here.send()).status == "delivered"
        assert here.counted() == [
            ("no-policy-found", "mx0.test", "success", 1),
            ("sts", "", "sts-policy-fetch-error", 1),
        ]


# DANE


async def test_tlsa_records_decide_alone(tls: Tls) -> None:
    """Neither the MTA-STS policy, which names another host, nor `verify` is asked: the certificate is its own."""
    server = ScriptedServer(tls=tls.self_signed)
    other = Policy("enforce", 86400, ("mx9.test",))
    async with server(), site(server.port, dane_of(tls.self_record), other, tls="verify") as here:
        outcome = await here.send()
        assert here.counted() == [("tlsa", "mx0.test", "success", 1)]
    assert (outcome.status, outcome.policy) == ("delivered", "dane")


@pytest.mark.parametrize(
    ("certificate", "result"), [("other", "validation-failure"), ("clear", "starttls-not-supported")]
)
async def test_a_host_whose_tlsa_records_do_not_fit_gets_nothing(tls: Tls, certificate: str, result: str) -> None:
    server = ScriptedServer(tls=tls.named(certificate))
    async with server(), site(server.port, dane_of(tls.record), ENFORCE) as here:
        outcome = await here.send()
        assert here.counted() == [("tlsa", "mx0.test", result, 1)]
    assert (outcome.status, outcome.enhanced, outcome.policy) == ("deferred", "4.7.5", "dane")
    assert "DANE" in outcome.text and "mx0.test" in outcome.text
    assert server.contents == []


async def test_a_bogus_answer_costs_its_host_and_no_other(tls: Tls) -> None:
    class OneBogus:
        async def records(self, host: Host) -> TlsaAnswer:
            if host.name == "mx0.test":
                raise Untrusted(
                    deferral("4.7.5", f"DNSSEC proves that the answer about {host.name} is wrong"), "dnssec-invalid"
                )
            return TlsaAnswer(proven=True)

    first, second = ScriptedServer(tls=tls.good), ScriptedServer(tls=tls.good)
    port = free_port()
    async with first("127.0.0.1", port), second("127.0.0.2", port), site(port, OneBogus()) as here:
        outcome = await here.send("d.test")
        assert (outcome.status, outcome.host) == ("delivered", "mx1.test")
        last = await here.send("alone.test")
        assert (last.status, last.enhanced, last.policy) == ("deferred", "4.7.5", "dane")
        assert ("tlsa", "mx0.test", "dnssec-invalid", 1) in here.counted()
    assert first.sessions == []


async def test_records_that_nobody_can_use_ask_for_encryption_alone(tls: Tls) -> None:
    useless = FakeDane(TlsaAnswer(base="mx0.test", encrypts=True, proven=True))
    server, clear = ScriptedServer(tls=tls.self_signed), ScriptedServer()
    async with server(), site(server.port, useless) as here:
        outcome = await here.send()
        assert here.counted() == [("tlsa", "mx0.test", "tlsa-invalid", 1)]
    assert (outcome.status, outcome.policy) == ("delivered", "require")
    async with clear(), site(clear.port, useless) as here:
        outcome = await here.send()
    assert (outcome.status, outcome.enhanced, outcome.unreachable) == ("deferred", "4.7.5", False)
    assert outcome.text.startswith("DANE (TLSA records of mx0.test) forbids mail to mx0.test: ")


# configured levels


async def test_a_configured_level_is_no_ones_fault_but_shared_by_all(tls: Tls) -> None:
    server = ScriptedServer()
    async with server(), site(server.port, tls="require") as here:
        outcome = await here.send()
    assert (outcome.enhanced, outcome.policy, outcome.unreachable) == ("4.7.4", "require", True)


# REQUIRETLS


@pytest.mark.parametrize(
    ("dane", "sts", "policy"),
    [(True, None, "dane"), (False, ENFORCE, "sts"), (False, TESTING, "verify")],
)
async def test_requiretls_is_passed_on(tls: Tls, dane: bool, sts: Policy | None, policy: str) -> None:
    server = ScriptedServer(offers=REQUIRETLS, tls=tls.good)
    async with server(), site(server.port, dane_of(tls.record) if dane else None, sts) as here:
        outcome = await here.send(tls="require")
    assert (outcome.status, outcome.policy) == ("delivered", policy)
    assert [line for line in server.commands if line.startswith("MAIL")] == ["MAIL FROM:<bob@origin.test> REQUIRETLS"]
    assert server.sessions[0].encrypted


async def test_requiretls_to_a_domain_that_dnssec_proves_has_no_need_of_records(tls: Tls) -> None:
    server = ScriptedServer(offers=REQUIRETLS, tls=tls.good)
    async with server(), site(server.port, FakeDane(TlsaAnswer(proven=True))) as here:
        assert (await here.send(tls="require")).policy == "verify"


async def test_a_host_without_requiretls_is_told_goodbye_and_the_message_fails(tls: Tls) -> None:
    server = ScriptedServer(tls=tls.good)
    async with server(), site(server.port, sts=ENFORCE) as here:
        outcome = await here.send(tls="require")
    assert (outcome.status, outcome.code, outcome.enhanced) == ("failed", 550, "5.7.30")
    assert "mx0.test does not offer it" in outcome.text
    assert server.sessions[0].verbs() == ["EHLO", "STARTTLS", "EHLO", "QUIT"]
    assert not outcome.unreachable


async def test_what_a_host_offers_in_clear_does_not_count(tls: Tls) -> None:
    hello = iter(["250-mx0.test\r\n250-REQUIRETLS\r\n250 STARTTLS", "250 mx0.test"])
    server = ScriptedServer(tls=tls.good, EHLO=lambda _: next(hello))
    async with server(), site(server.port, sts=ENFORCE) as here:
        assert (await here.send(tls="require")).enhanced == "5.7.30"


async def test_another_host_keeps_requiretls(tls: Tls) -> None:
    first, second = ScriptedServer(tls=tls.good), ScriptedServer(offers=REQUIRETLS, tls=tls.good)
    port = free_port()
    async with first("127.0.0.1", port), second("127.0.0.2", port), site(port, sts=ENFORCE) as here:
        outcome = await here.send("d.test", tls="require")
    assert (outcome.status, outcome.host) == ("delivered", "mx1.test")
    assert first.contents == []


@pytest.mark.parametrize("good_first", [True, False])
async def test_requiretls_waits_for_a_host_that_may_keep_it_later(tls: Tls, good_first: bool) -> None:
    """One host lacks the extension for good, the other has a bad certificate today."""
    lacking, broken, port = ScriptedServer(tls=tls.good), ScriptedServer(offers=REQUIRETLS, tls=tls.other), free_port()
    hosts = ("127.0.0.1", "127.0.0.2") if good_first else ("127.0.0.2", "127.0.0.1")
    async with lacking(hosts[0], port), broken(hosts[1], port), site(port, sts=ENFORCE) as here:
        outcome = await here.send("d.test", tls="require")
    assert (outcome.status, outcome.enhanced) == ("deferred", "4.7.5")


async def test_requiretls_without_proof_of_the_name_fails_without_a_connection(tls: Tls) -> None:
    server = ScriptedServer(offers=REQUIRETLS, tls=tls.good)
    async with server(), site(server.port) as here:
        outcome = await here.send(tls="require")
    assert (outcome.status, outcome.enhanced) == ("failed", "5.7.30")
    assert "neither DNSSEC nor an MTA-STS policy" in outcome.text
    assert server.sessions == []


async def test_a_bounce_goes_without_requiretls_where_a_host_has_none(tls: Tls) -> None:
    with_it, without = ScriptedServer(offers=REQUIRETLS, tls=tls.good), ScriptedServer(tls=tls.good)
    for server, expected in ((with_it, "MAIL FROM:<> REQUIRETLS"), (without, "MAIL FROM:<>")):
        async with server(), site(server.port, sts=ENFORCE) as here:
            assert (await here.send(tls="prefer", sender="")).status == "delivered"
        assert [line for line in server.commands if line.startswith("MAIL")] == [expected]


@pytest.mark.parametrize("wish", ["", "no"])
async def test_requiretls_is_given_for_no_message_that_does_not_ask_for_it(tls: Tls, wish: str) -> None:
    server = ScriptedServer(offers=REQUIRETLS, tls=tls.good)
    async with server(), site(server.port, sts=ENFORCE, tls="verify") as here:
        assert (await here.send(tls=wish)).status == "delivered"
    assert [line for line in server.commands if line.startswith("MAIL")] == ["MAIL FROM:<bob@origin.test>"]


async def test_a_bounce_is_given_to_no_unproven_host_as_requiretls(tls: Tls) -> None:
    server = ScriptedServer(offers=REQUIRETLS, tls=tls.good)
    async with server(), site(server.port) as here:
        assert (await here.send(tls="prefer", sender="")).status == "delivered"
    assert [line for line in server.commands if line.startswith("MAIL")] == ["MAIL FROM:<>"]


async def test_messages_with_and_without_requiretls_share_no_connection(tls: Tls) -> None:
    server = ScriptedServer(offers=REQUIRETLS, tls=tls.good)
    async with server(), site(server.port, sts=TESTING) as here:
        for wish in ("", "require", "no", "", "require", "no"):
            assert (await here.send(tls=wish)).status == "delivered"
    mails = [[line for line in each.commands if line.startswith("MAIL")] for each in server.sessions]
    plain, demanded = "MAIL FROM:<bob@origin.test>", "MAIL FROM:<bob@origin.test> REQUIRETLS"
    assert sorted(mails) == sorted([[plain, plain], [demanded, demanded], [plain, plain]])


@pytest.mark.parametrize(
    ("scheme", "offers", "certificate", "enhanced"),
    [
        ("smtp", REQUIRETLS, "good", "2.0.0"),
        ("smtp", ESMTP, "good", "5.7.30"),
        ("smtp", ESMTP, "clear", "5.7.30"),
        ("smtp", REQUIRETLS, "other", "4.7.5"),
        ("lmtp", ESMTP, "clear", "2.0.0"),
    ],
)
async def test_requiretls_at_a_configured_next_hop(
    tls: Tls, scheme: str, offers: tuple[str, ...], certificate: str, enhanced: str
) -> None:
    server = ScriptedServer(offers=offers, tls=tls.named(certificate), lmtp=scheme == "lmtp")
    async with server(), site(25) as here:
        (outcome,) = await here.sender.deliver_to("d.test", hop(server.port, scheme), job(tls="require"))
    assert outcome.enhanced == enhanced


async def test_requiretls_where_tls_is_switched_off(tls: Tls) -> None:
    server = ScriptedServer(offers=REQUIRETLS, tls=tls.good)
    async with server(), site(server.port, tls="none") as here:
        outcome = await here.send(tls="require")
    assert (outcome.status, outcome.enhanced, outcome.policy) == ("failed", "5.7.10", "none")
    assert server.sessions == []


# TLS-Required: No


@pytest.mark.parametrize("certificate", ["other", "expired", "clear"])
async def test_tls_required_no_goes_through_where_what_the_domain_publishes_fails(tls: Tls, certificate: str) -> None:
    server = ScriptedServer(tls=tls.named(certificate))
    async with server(), site(server.port, dane_of(tls.record), ENFORCE) as here:
        outcome = await here.send(tls="no")
        assert here.sessions == {}
    assert (outcome.status, outcome.policy) == ("delivered", "may")
    assert bool(outcome.tls) == (certificate != "clear")


@pytest.mark.parametrize("level", ["require", "verify"])
async def test_tls_required_no_lifts_no_configured_level(tls: Tls, level: str) -> None:
    server = ScriptedServer()
    async with server(), site(server.port, tls=level) as here:
        outcome = await here.send(tls="no")
        (configured,) = await here.sender.deliver_to("d.test", hop(server.port), job(tls="no"))
    assert (outcome.status, outcome.policy) == ("deferred", level)
    assert (configured.status, configured.policy) == ("deferred", level)


async def test_what_fails_for_a_policy_does_not_fail_what_ignores_it(tls: Tls) -> None:
    """Whoever waits for the same next hop shares a failure only with those who ask for the same."""
    server = ScriptedServer(tls=tls.other)
    async with server(), site(server.port, sts=ENFORCE, concurrency=1) as here:
        outcomes = [await here.send(tls=wish) for wish in ("", "no", "require")]
    assert [outcome.status for outcome in outcomes] == ["deferred", "delivered", "deferred"]
    assert not any(outcome.unreachable for outcome in outcomes)


async def test_requiretls_tries_a_host_once_where_the_policy_is_only_tested(tls: Tls) -> None:
    server = ScriptedServer(offers=REQUIRETLS, tls=tls.expired)
    async with server(), site(server.port, sts=TESTING) as here:
        outcome = await here.send(tls="require")
    assert (outcome.status, outcome.enhanced, outcome.policy) == ("deferred", "4.7.5", "verify")
    assert len(server.sessions) == 1
