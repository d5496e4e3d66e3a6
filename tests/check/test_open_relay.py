"""Addresses that strangers may come from and that are trusted: each with the fault, and without it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from relay.check import open_relay
from relay.check.finding import Finding
from relay.check.open_relay import check
from tests.check.local_site import HOSTNAME, local_site

PROXIED = {"address": "0.0.0.0:2525", "proxy_protocol": True}


@pytest.fixture(autouse=True)
def network(monkeypatch: pytest.MonkeyPatch) -> None:
    """A host behind the gateways of a container network, but in no container."""
    monkeypatch.setattr(open_relay, "default_gateways", lambda: ["172.17.0.1", "fd00:17::1"])
    monkeypatch.setattr(open_relay, "_CONTAINER_MARKS", ())


async def looked(folder: Path, *trusted: str, **tables: Any) -> list[Finding]:
    return await check(local_site(folder, {}, clients={"trusted": [*trusted]}, **tables))


@pytest.mark.parametrize(
    "trusted",
    [(), ("127.0.0.1", "::1"), ("172.17.0.2",), ("172.17.0.8/29", "192.0.2.0/24", "2001:db8:7::/48")],
)
async def test_own_hosts_that_are_trusted_are_fine(tmp_path: Path, trusted: tuple[str, ...]) -> None:
    [finding] = await looked(tmp_path, *trusted)
    assert (finding.subject, finding.level) == (HOSTNAME, "ok")


@pytest.mark.parametrize(
    ("trusted", "gateway"),
    [("172.17.0.1", "172.17.0.1"), ("172.16.0.0/12", "172.17.0.1"), ("fd00:17::/64", "fd00:17::1")],
)
async def test_a_default_gateway_that_is_trusted_is_an_open_relay(tmp_path: Path, trusted: str, gateway: str) -> None:
    [finding] = await looked(tmp_path, trusted)
    assert (finding.subject, finding.level) == (gateway, "error")
    assert "clients.trusted" in finding.text and finding.mend


async def test_a_relay_that_only_its_own_host_reaches_is_none(tmp_path: Path) -> None:
    listen = [{"address": "127.0.0.1:10025"}, {"address": "[::1]:10025"}]
    [finding] = await looked(tmp_path, "172.16.0.0/12", listen=listen)
    assert finding.level == "ok"


async def test_proxies_wider_than_one_host(tmp_path: Path) -> None:
    [finding] = await looked(tmp_path, listen=[{**PROXIED, "proxies": ["10.0.0.0/24"]}])
    assert (finding.subject, finding.level) == ("10.0.0.0/24", "error") and "256" in finding.text


async def test_a_gateway_that_is_a_proxy(tmp_path: Path) -> None:
    [finding] = await looked(tmp_path, listen=[{**PROXIED, "proxies": ["172.17.0.1"]}])
    assert (finding.subject, finding.level) == ("172.17.0.1", "error")


@pytest.mark.parametrize(
    "listen",
    [
        [{**PROXIED, "proxies": ["10.0.0.5", "2001:db8::5"]}],
        [{**PROXIED, "proxies": ["127.0.0.0/8"]}],
        [PROXIED],
        [{"address": "0.0.0.0:2525", "proxies": ["10.0.0.0/24"]}],
    ],
    ids=["single hosts", "loopback", "the default", "without the protocol"],
)
async def test_proxies_that_are_fine(tmp_path: Path, listen: list[dict[str, Any]]) -> None:
    [finding] = await looked(tmp_path, listen=listen)
    assert finding.level == "ok"


async def test_a_wide_public_network_is_worth_a_look(tmp_path: Path) -> None:
    [finding] = await looked(tmp_path, "8.8.0.0/16")
    assert (finding.subject, finding.level) == ("8.8.0.0/16", "warning")
    assert [f.level for f in await looked(tmp_path, "8.8.8.0/22", "10.0.0.0/8", "2a00:1::/48")] == ["ok"]


async def test_the_own_address_of_a_container_is_worth_a_look(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    site = local_site(tmp_path, {}, clients={"trusted": ["10.0.2.100"]}, sends_from=("10.0.2.100",))
    assert [finding.level for finding in await check(site)] == ["ok"]
    monkeypatch.setattr(open_relay, "_CONTAINER_MARKS", (tmp_path,))
    [finding] = await check(site)
    assert (finding.subject, finding.level) == ("10.0.2.100", "warning")
