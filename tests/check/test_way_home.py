"""The way home, tried at mail hosts that answer by a script; tests/journeys/test_way_home.py has real ones."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from relay.check.finding import Finding
from relay.check.way_home import check
from relay.dns import DnsFailure
from relay.srs.address import Forged, reverse
from tests.check.local_site import DOMAIN, HOSTNAME, MX, levels, local_site
from tests.deliver.scripted import HANG_UP, STALL, Part, Play, ScriptedServer
from tests.peers import free_port

ZONE: dict[tuple[str, str], Any] = {(DOMAIN, "MX"): [(10, MX)], (MX, "A"): ["127.0.0.1"]}
DENIED = "554 5.7.1 <someone>: Relay access denied"
UNKNOWN = "550 5.1.1 forged SRS address"


def host(
    folder: Path, *, good: Play = "250 2.1.5 Ok", forged: Play = UNKNOWN, stranger: Play = DENIED, **play: Part
) -> ScriptedServer:
    """A mail host that tells the three addresses apart, as a relay with the same secret does."""
    scheme = local_site(folder, ZONE).files.scheme

    def rcpt(line: str) -> Play:
        address = line.partition("<")[2].rstrip(">")
        if not address.endswith(f"@{DOMAIN}"):
            return stranger
        try:
            reverse(address, scheme, local_site(folder, ZONE).now)
        except Forged:
            return forged
        return good

    return ScriptedServer(script={"RCPT": rcpt, **play})


async def tried(folder: Path, server: ScriptedServer, zone: Mapping[Any, Any] = ZONE) -> list[Finding]:
    async with server() as at:
        return await check(local_site(folder, zone, port=at.port))


async def test_a_host_that_takes_the_good_address_and_no_forged_one_is_the_way_home(tmp_path: Path) -> None:
    server = host(tmp_path)
    [finding] = await tried(tmp_path, server)
    assert (finding.check, finding.subject, finding.level) == ("way-home", DOMAIN, "ok")
    assert f"{MX} [127.0.0.1]" in finding.text
    [session] = server.sessions
    assert session.verbs() == ["EHLO", "MAIL", "RCPT", "RSET", "MAIL", "RCPT", "RSET", "MAIL", "RCPT", "QUIT"]
    assert {line for line in session.commands if line.startswith("MAIL")} == {"MAIL FROM:<>"}
    assert session.commands[0] == f"EHLO {HOSTNAME}" and session.contents == []


async def test_each_trial_asks_about_other_addresses_since_hosts_remember_them(tmp_path: Path) -> None:
    server = host(tmp_path)
    async with server() as at:
        for _ in range(2):
            assert levels(await check(local_site(tmp_path, ZONE, port=at.port))) == ["ok"]
    asked = [line for line in server.commands if line.startswith("RCPT")]
    assert len(set(asked)) == 6


# errors


@pytest.mark.parametrize(
    ("answer", "mend"),
    [
        ("550 5.1.1 User unknown in relay recipient table", "secret"),
        ("554 5.7.1 <x>: Relay access denied", "take mail for fwd.example"),
        ("454 4.7.1 <x>: Relay access denied", "take mail for fwd.example"),
        ("550 relay not permitted", "take mail for fwd.example"),
        ("550 5.7.1 Relaying denied. IP name lookup failed [127.0.0.1]", "take mail for fwd.example"),
        ("503 5.7.1 Relay not allowed", "take mail for fwd.example"),
        ("553 sorry, that domain isn't in my list of allowed rcpthosts (#5.7.1)", "take mail for fwd.example"),
        ("530 5.7.0 Authentication required", "from everyone"),
        ("503 This server requires authentication to send to a non-local address", "from everyone"),
        ("550 5.1.1 relay7.isp.example: no such user", "secret"),
        ("550 5.1.1 <SRS0=h=t=thelodge.example=x@fwd.example>: User unknown", "secret"),
        ("550 5.1.1 host [127.0.0.11] knows no such user", "secret"),
        ("550 5.1.1 undeliverable address: host mx.fwd.example[127.0.0.1] said: 550 5.1.1 who?", "secret"),
    ],
)
async def test_a_host_that_refuses_the_good_address_is_an_error(tmp_path: Path, answer: str, mend: str) -> None:
    [finding] = await tried(tmp_path, host(tmp_path, good=answer))
    assert finding.level == "error" and answer in finding.text and mend in finding.mend


async def test_a_host_that_refuses_the_null_sender_is_an_error(tmp_path: Path) -> None:
    [finding] = await tried(tmp_path, host(tmp_path, MAIL="550 5.1.0 no bounces here"))
    assert finding.level == "error" and "null sender" in finding.text


@pytest.mark.parametrize(
    "stranger",
    [
        *(DENIED, "550 relay not permitted", "454 4.7.1 <x>: Relay access denied", "550 5.1.2 Relay not allowed."),
        *("503 5.7.1 Relay not allowed", "530 5.7.0 Authentication required", "550 I cannot deliver mail for <x>"),
    ],
)
async def test_a_host_that_takes_a_forged_address_is_an_error(tmp_path: Path, stranger: str) -> None:
    [finding] = await tried(tmp_path, host(tmp_path, forged="250 2.1.5 Ok", stranger=stranger))
    assert finding.level == "error" and "forged" in finding.text and "reject_unverified_recipient" in finding.mend


@pytest.mark.parametrize(
    "zone",
    [
        {},
        {(DOMAIN, "TXT"): [(b"hello",)]},
        {(DOMAIN, "MX"): [(0, "")]},
        {(DOMAIN, "MX"): [(10, MX)], (MX, "TXT"): [(b"hello",)]},
    ],
    ids=["no domain", "no MX", "null MX", "no address"],
)
async def test_a_domain_that_no_host_takes_mail_for_is_an_error(tmp_path: Path, zone: Any) -> None:
    [finding] = await check(local_site(tmp_path, zone))
    assert (finding.subject, finding.level) == (DOMAIN, "error")
    assert f"\n{DOMAIN}. 3600 IN MX 10 {HOSTNAME}." in finding.mend


# what cannot be told from here


@pytest.mark.parametrize("forged", [UNKNOWN, "250 2.1.5 Ok"])
async def test_a_host_that_trusts_us_proves_nothing(tmp_path: Path, forged: str) -> None:
    [finding] = await tried(tmp_path, host(tmp_path, forged=forged, stranger="250 2.1.5 Ok"))
    assert finding.level == "warning"
    assert finding.text.startswith("not provable from here:") and "trusts this host" in finding.text


@pytest.mark.parametrize(
    "answer",
    [
        "450 4.2.0 Greylisted, try again in 300 seconds",
        "450 4.7.1 too many forged addresses from 127.0.0.1, try later",
        "451 4.3.0 not now",
        "550 5.7.23 SPF fails for mx.fwd.example",
        "554 5.7.1 Service unavailable; Client host [127.0.0.1] blocked using dnsbl.example",
        "554 5.7.1 <unknown[127.0.0.1]>: Client host rejected: Access denied",
        "550 5.7.1 127.0.0.1 is listed at dnsbl.example: open relay",
        "550 5.7.1 <mx.fwd.example>: Helo command rejected: Host not found",
        "530 5.7.0 Must issue a STARTTLS command first",
        ("421 4.7.0 go away", HANG_UP),
        HANG_UP,
    ],
)
async def test_a_refusal_for_now_or_of_this_host_proves_nothing(tmp_path: Path, answer: Play) -> None:
    [finding] = await tried(tmp_path, host(tmp_path, good=answer))
    assert finding.level == "warning" and finding.text.startswith("not provable from here:")


@pytest.mark.parametrize(
    ("forged", "stranger"),
    [
        ("250 2.1.5 Ok", "550 5.1.2 Domain not found"),
        ("250 2.1.5 Ok", "556 5.1.10 Recipient address has null MX"),
        ("250 2.1.5 Ok", "451 4.3.0 not now"),
        ("450 4.7.1 too many forged addresses from 127.0.0.1, try later", DENIED),
        (("421 4.7.0 too many errors", HANG_UP), DENIED),
    ],
)
async def test_an_answer_that_has_another_cause_proves_nothing(tmp_path: Path, forged: Play, stranger: Play) -> None:
    [finding] = await tried(tmp_path, host(tmp_path, forged=forged, stranger=stranger))
    assert finding.level == "warning" and finding.text.startswith("not provable from here:")


async def test_a_host_that_takes_no_second_mail_proves_nothing(tmp_path: Path) -> None:
    """Its refusal of MAIL says nothing about the address that would have come next."""
    mails = iter(["250 2.1.0 Ok", "550 5.7.1 too much mail from you", "250 2.1.0 Ok"])
    [finding] = await tried(tmp_path, host(tmp_path, MAIL=lambda _: next(mails)))
    assert finding.level == "warning" and finding.text.startswith("not provable from here:")
    mails = iter(["250 2.1.0 Ok", "250 2.1.0 Ok", "550 5.7.1 too much mail from you"])
    [finding] = await tried(tmp_path, host(tmp_path, forged="250 2.1.5 Ok", MAIL=lambda _: next(mails)))
    assert finding.level == "warning" and "may trust this host" in finding.text


async def test_a_host_that_hangs_up_on_who_wants_to_relay_is_judged_all_the_same(tmp_path: Path) -> None:
    hang_up = (DENIED, HANG_UP)
    assert levels(await tried(tmp_path, host(tmp_path, stranger=hang_up))) == ["ok"]
    assert levels(await tried(tmp_path, host(tmp_path, forged="250 2.1.5 Ok", stranger=hang_up))) == ["error"]


async def test_a_forged_address_that_is_deferred_for_ever_is_to_be_refused(tmp_path: Path) -> None:
    [finding] = await tried(tmp_path, host(tmp_path, forged="450 4.1.1 undeliverable address: forged"))
    assert finding.level == "warning" and "unverified_recipient_reject_code = 550" in finding.mend


@pytest.mark.parametrize("play", [{"greeting": "554 5.7.1 no service"}, {"EHLO": HANG_UP}, {"MAIL": HANG_UP}])
async def test_a_host_that_does_not_come_to_the_recipient_proves_nothing(tmp_path: Path, play: Any) -> None:
    [finding] = await tried(tmp_path, host(tmp_path, **play))
    assert finding.level == "warning" and finding.text.startswith("not provable from here:")


async def test_a_host_that_cannot_be_reached_comes_with_the_commands_for_another_host(tmp_path: Path) -> None:
    port = free_port()
    site = local_site(tmp_path, ZONE, port=port)
    [finding] = await check(site)
    assert finding.level == "warning" and "Connection refused" in finding.text
    good, forged = re.findall(
        rf"swaks --server {MX} --port {port} --quit-after RCPT --from '<>' --to (\S+?)`", finding.mend
    )
    assert reverse(good, site.files.scheme, site.now)
    with pytest.raises(Forged):
        reverse(forged, site.files.scheme, site.now)


async def test_dns_that_does_not_answer_proves_nothing(tmp_path: Path) -> None:
    [finding] = await check(local_site(tmp_path, {(DOMAIN, "MX"): DnsFailure("timeout")}))
    assert finding.level == "warning"
    [finding] = await check(local_site(tmp_path, {(DOMAIN, "MX"): [(10, MX)], (MX, "A"): DnsFailure("timeout")}))
    assert finding.level == "warning"


# several hosts and addresses


async def test_each_host_has_a_finding_and_a_shared_address_is_asked_once(tmp_path: Path) -> None:
    zone = ZONE | {(DOMAIN, "MX"): [(10, MX), (20, "b.test"), (30, "c.test")], ("b.test", "A"): ["127.0.0.1"]}
    server = host(tmp_path)
    findings = await tried(tmp_path, server, zone)
    assert levels(findings) == ["ok", "ok", "warning"] and len(server.sessions) == 1
    assert "c.test has no address" in findings[2].text


async def test_one_bad_address_of_a_host_is_the_fault_of_the_host(tmp_path: Path) -> None:
    good, bad = host(tmp_path), host(tmp_path, good="550 5.1.1 who?")
    zone = ZONE | {(MX, "A"): ["127.0.0.1", "127.0.0.2"]}
    async with good() as at, bad("127.0.0.2", at.port):
        [finding] = await check(local_site(tmp_path, zone, port=at.port))
    assert finding.level == "error" and "[127.0.0.2]" in finding.text


async def test_an_address_of_a_family_that_we_do_not_send_with_is_left_out(tmp_path: Path) -> None:
    assert levels(await tried(tmp_path, host(tmp_path), ZONE | {(MX, "AAAA"): ["2001:db8::5"]})) == ["ok"]
    [finding] = await tried(tmp_path, host(tmp_path), {(DOMAIN, "MX"): [(10, MX)], (MX, "AAAA"): ["2001:db8::5"]})
    assert finding.level == "warning" and "delivery.families" in finding.text


async def test_an_address_without_a_route_counts_only_where_there_is_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("relay.check.way_home.kernel_choice", lambda ip, source: None if ":" in ip else "127.0.0.1")
    both = ZONE | {(MX, "AAAA"): ["2001:db8::5"]}
    async with host(tmp_path)() as at:
        delivery = {"port": at.port, "families": ["ipv6", "ipv4"]}
        assert levels(await check(local_site(tmp_path, both, delivery=delivery))) == ["ok"]
        ipv6_alone: dict[tuple[str, str], Any] = {(DOMAIN, "MX"): [(10, MX)], (MX, "AAAA"): ["2001:db8::5"]}
        [finding] = await check(local_site(tmp_path, ipv6_alone, delivery=delivery))
    assert finding.level == "warning" and "no route" in finding.text


async def test_a_host_that_never_answers_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("relay.check.way_home.SECONDS", 0.3)
    [finding] = await tried(tmp_path, host(tmp_path, good=STALL))
    assert finding.level == "warning" and "not finished within 0.3 s" in finding.text


async def test_the_hosts_are_asked_side_by_side(tmp_path: Path) -> None:
    together = asyncio.Barrier(2)

    class Slow(ScriptedServer):
        async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await together.wait()
            await super()._serve(reader, writer)

    zone = ZONE | {(MX, "A"): ["127.0.0.1", "127.0.0.2"]}
    async with Slow()() as at, Slow()("127.0.0.2", at.port):
        async with asyncio.timeout(10):
            assert levels(await check(local_site(tmp_path, zone, port=at.port))) == ["warning"]
