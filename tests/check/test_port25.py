"""Port 25 outwards: where it is tried, and what its silence means."""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from dataclasses import replace
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import pytest

from relay.check import smtp_probe
from relay.check.finding import Finding
from relay.check.port25 import check
from relay.dns import DnsFailure
from relay.sending_addresses import sending_addresses
from tests.certificates import write_certificate
from tests.check.local_site import HOSTNAME, levels, local_site, port_that_swallows
from tests.deliver.scripted import ScriptedServer
from tests.peers import free_port

MAILBOX: dict[tuple[str, str], Any] = {
    ("mailbox.example", "MX"): [(10, "mx.mailbox.example")],
    ("mx.mailbox.example", "A"): ["127.0.0.1"],
}
GMAIL = {("gmail.com", "MX"): [(10, "mx.gmail.test")], ("mx.gmail.test", "A"): ["127.0.0.2"]}
BOTH = ["ipv4", "ipv6"]


async def tried(folder: Path, zone: Mapping[Any, Any], port: int, **tables: Any) -> list[Finding]:
    delivery = {"port": port, "public_addresses_only": False, **tables.pop("delivery", {})}
    return await check(local_site(folder, zone, delivery=delivery, **tables))


async def test_a_host_of_a_domain_that_mail_goes_to_greets(tmp_path: Path) -> None:
    async with ScriptedServer()() as server:
        [finding] = await tried(tmp_path, MAILBOX, server.port)
    assert finding == Finding("port25", "127.0.0.1", "ok", "the way out is open: mx.mailbox.example [127.0.0.1] greets")
    assert server.commands == ["QUIT"]


async def test_a_domain_route_without_a_next_hop_and_no_other_is_such_a_domain(tmp_path: Path) -> None:
    hop = {"recipients": "any", "next_hop": "smtp://127.0.0.1:9"}
    routes = {"domains": {"inside.example": hop, "mailbox.example": {"recipients": "any"}}}
    async with ScriptedServer()() as server:
        [finding] = await tried(tmp_path, MAILBOX, server.port, routes=routes)
    assert finding.level == "ok"


async def test_where_no_host_of_ours_answers_a_large_provider_is_asked(tmp_path: Path) -> None:
    port = free_port()
    async with ScriptedServer(greeting="421 busy")("127.0.0.2", port):
        [finding] = await tried(tmp_path, MAILBOX | GMAIL, port)
        assert finding.level == "ok" and "mx.gmail.test" in finding.text
        [finding] = await tried(tmp_path, GMAIL, port, aliases="")
        assert finding.level == "ok"


async def test_where_nobody_answers_the_port_is_closed(tmp_path: Path) -> None:
    [finding] = await tried(tmp_path, MAILBOX | GMAIL, free_port())
    assert finding.level == "error" and finding.subject == "127.0.0.1"
    assert "mx.mailbox.example [127.0.0.1]: Connection refused" in finding.text
    assert "delivery.smarthost" in finding.mend


async def test_a_port_that_swallows_everything_is_closed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(smtp_probe, "CONNECT_SECONDS", 0.2)
    with port_that_swallows() as port:
        [finding] = await tried(tmp_path, MAILBOX, port)
    assert finding.level == "error" and "connection timed out" in finding.text


async def test_each_family_that_mail_leaves_by_has_a_finding(tmp_path: Path) -> None:
    port, delivery = free_port(), {"families": BOTH}
    both = MAILBOX | {("mx.mailbox.example", "AAAA"): ["::1"]}
    sends_from = ("127.0.0.1", "::1")
    async with ScriptedServer()("127.0.0.1", port):
        async with ScriptedServer()("::1", port):
            assert levels(await tried(tmp_path, both, port, delivery=delivery, sends_from=sends_from)) == ["ok", "ok"]
        findings = await tried(tmp_path, both, port, delivery=delivery, sends_from=sends_from)
        assert levels(findings) == ["ok", "warning"] and 'families = ["ipv4"]' in findings[1].mend
        findings = await tried(tmp_path, MAILBOX, port, delivery=delivery, sends_from=sends_from)
        assert levels(findings) == ["ok", "ok"], "no mail host of this world has IPv6"
    async with ScriptedServer()("::1", port):
        findings = await tried(tmp_path, both, port, delivery=delivery, sends_from=sends_from)
        assert levels(findings) == ["error", "ok"]


async def test_without_an_answer_of_dns_nothing_can_be_told(tmp_path: Path) -> None:
    [finding] = await tried(tmp_path, {("mailbox.example", "MX"): DnsFailure("timeout")}, 25)
    assert finding.level == "warning" and "resolver" in finding.mend


async def test_a_source_address_that_this_host_does_not_have(tmp_path: Path) -> None:
    site = local_site(tmp_path, MAILBOX, delivery={"source_ipv4": "203.0.113.99", "families": ["ipv4"]})
    [finding] = await check(replace(site, addresses=sending_addresses(["ipv4"], IPv4Address("203.0.113.99"))))
    assert finding.level == "error" and "delivery.source_ipv4" in finding.mend


async def test_why_no_host_can_be_tried_is_said(tmp_path: Path) -> None:
    inside = MAILBOX | {("mx.mailbox.example", "A"): ["10.0.0.7"]}
    [finding] = await tried(tmp_path, inside, 25, delivery={"public_addresses_only": True})
    assert finding.level == "warning" and "mailbox.example have no public address" in finding.text


async def test_a_host_without_any_route_to_the_world(tmp_path: Path) -> None:
    [finding] = await tried(tmp_path, MAILBOX, 25, sends_from=())
    assert (finding.subject, finding.level) == (HOSTNAME, "error")


@pytest.mark.parametrize("scheme", ["smtp", "smtps"])
async def test_with_a_smarthost_that_is_asked_instead(tmp_path: Path, scheme: str) -> None:
    write_certificate(tmp_path, "fwd.example")
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(tmp_path / "cert.pem", tmp_path / "key.pem")
    port = free_port()
    url = f"{scheme}://127.0.0.1:{port}"
    delivery = {"smarthost": {"url": url}}
    [finding] = await tried(tmp_path, MAILBOX, 25, delivery=delivery)
    assert (finding.subject, finding.level) == (url, "error") and "Connection refused" in finding.text
    async with ScriptedServer(tls=tls, implicit=scheme == "smtps")("127.0.0.1", port):
        [finding] = await tried(tmp_path, MAILBOX, 25, delivery=delivery)
    assert (finding.subject, finding.level) == (url, "ok")


async def test_a_smarthost_that_dns_does_not_know(tmp_path: Path) -> None:
    [finding] = await tried(tmp_path, {}, 25, delivery={"smarthost": {"url": "smtp://smtp.provider.example:587"}})
    assert finding.level == "error" and "smtp.provider.example" in finding.text


async def test_a_host_with_lookup_tables_alone_sends_nothing(tmp_path: Path) -> None:
    tables = [{"address": "127.0.0.1:10003", "protocol": "socketmap"}]
    [finding] = await check(local_site(tmp_path, {}, listen=None, tables=tables))
    assert (finding.subject, finding.level) == ("this host", "ok")
