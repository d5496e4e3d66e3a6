"""The name servers that the relay asks."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from relay.check import resolver
from relay.check.finding import Finding
from relay.cli.zone import ZoneServer
from tests.check.name_servers import ZONE, Refusing, Validating, running
from tests.check.sites import levels, site


async def asked(folder: Path, *servers: str) -> list[Finding]:
    return await resolver.check(site(folder, {}, dns={"nameservers": list(servers), "timeout": "1s"}))


async def test_all_is_well(tmp_path: Path) -> None:
    async with running(Validating()) as server:
        [finding] = await asked(tmp_path, server)
    assert (finding.subject, finding.level) == (server, "ok")
    assert "validates" in finding.text and " ms" in finding.text


@pytest.mark.parametrize(
    ("config", "hint"),
    [({}, True), ({"dns": {"trust_ad": True}}, False), ({"delivery": {"dane": "off"}}, False)],
)
async def test_dane_needs_one_on_this_host(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, config: dict[str, dict[str, object]], hint: bool
) -> None:
    async with running(Validating()) as server:
        assert not (await asked(tmp_path, server))[0].mend
        monkeypatch.setattr(resolver, "is_on_this_host", lambda address: False)
        dns = {"nameservers": [server], "timeout": "1s", **config.get("dns", {})}
        found = await resolver.check(site(tmp_path, {}, dns=dns, delivery=config.get("delivery", {})))
    assert levels(found) == [(server, "ok")]
    assert ("DANE is not followed" in found[0].mend) == hint


async def test_one_that_does_not_validate(tmp_path: Path) -> None:
    async with running(ZoneServer(ZONE)) as server:
        [finding] = await asked(tmp_path, server)
    assert (finding.level, "does not seem to validate" in finding.text) == ("warning", True)
    assert finding.mend


async def test_wrong_signatures_of_ours_are_not_its_fault(tmp_path: Path) -> None:
    async with running(Validating(bogus=("fwd.example",))) as server:
        assert levels(await asked(tmp_path, server)) == [(server, "ok")]


async def test_one_that_does_not_answer(tmp_path: Path) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
        silent.bind(("127.0.0.1", 0))
        dead = f"127.0.0.1:{silent.getsockname()[1]}"
        async with running(Validating()) as server, running(Refusing()) as refusing:
            assert levels(await asked(tmp_path, dead, server, refusing)) == [
                (dead, "warning"),
                (server, "ok"),
                (refusing, "warning"),
            ]
            assert levels(await asked(tmp_path, dead, refusing)) == [(dead, "error"), (refusing, "error")]


async def test_one_that_is_slow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resolver, "SLOW", 0.0)
    async with running(Validating()) as server:
        [finding] = await asked(tmp_path, server)
    assert (finding.level, "in its cache" in finding.text) == ("warning", True)


@pytest.mark.parametrize(
    ("server", "owner"),
    [
        ("8.8.8.8", "Google"),
        ("8.8.4.4:53", "Google"),
        ("[2606:4700:4700:0:0::1111]:53", "Cloudflare"),
        ("2620:fe::fe", "Quad9"),
        ("208.67.222.222", "OpenDNS"),
        ("127.0.0.1:53", ""),
        ("192.0.2.53", ""),
    ],
)
def test_public_resolvers_are_known(server: str, owner: str) -> None:
    assert resolver.public_owner(server) == owner


async def test_a_public_resolver_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with running(Validating()) as server:
        monkeypatch.setattr(resolver, "public_owner", {server: "Google"}.get)
        [finding] = await asked(tmp_path, server)
    assert (finding.level, "public resolver (Google)" in finding.text) == ("warning", True)
    async with running(Refusing()) as server:
        monkeypatch.setattr(resolver, "public_owner", {server: "Google"}.get)
        assert levels(await asked(tmp_path, server)) == [(server, "error"), (server, "warning")]
