"""The fetching of a policy: from a real server, with the certificate checked, no redirects, and bounds."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from relay.transport_security import https_get
from relay.transport_security.https_get import OCTETS, NotFetched, get
from tests.check.policy_host import serving

ANSWERS = {
    "/good": (200, b"hello\n"),
    "/most": (200, b"x" * OCTETS),
    "/more": (200, b"x" * (OCTETS + 1)),
    "/moved": (301, b"https://mta-sts.fwd.example/good"),
}


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with serving(tmp_path, "mta-sts.fwd.example", ANSWERS) as (port, certificate):
        monkeypatch.setattr(https_get, "PORT", port)
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        yield


async def fetched(path: str, host: str = "mta-sts.fwd.example") -> str:
    return await get(host, ["127.0.0.1"], path)


@pytest.mark.usefixtures("server")
async def test_a_file_is_fetched() -> None:
    assert await fetched("/good") == "hello\n"
    assert len(await fetched("/most")) == OCTETS


@pytest.mark.usefixtures("server")
@pytest.mark.parametrize(("path", "said"), [("/gone", "404"), ("/moved", "301"), ("/more", "more than")])
async def test_what_is_no_policy(path: str, said: str) -> None:
    with pytest.raises(NotFetched, match=said):
        await fetched(path)


@pytest.mark.usefixtures("server")
async def test_the_certificate_has_to_be_good(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(NotFetched, match=r"certificate of mta-sts\.other\.example"):
        await fetched("/good", "mta-sts.other.example")
    monkeypatch.delenv("SSL_CERT_FILE")
    with pytest.raises(NotFetched, match="self-signed"):
        await fetched("/good")


@pytest.mark.usefixtures("server")
async def test_another_address_is_tried() -> None:
    assert await get("mta-sts.fwd.example", ["::1", "127.0.0.1"], "/good") == "hello\n"


async def test_no_host(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(NotFetched, match="no address"):
        await get("mta-sts.fwd.example", [], "/good")
    with socket.socket() as taken:  # does not listen
        taken.bind(("127.0.0.1", 0))
        monkeypatch.setattr(https_get, "PORT", taken.getsockname()[1])
        with pytest.raises(NotFetched, match="refused"):
            await fetched("/good")


async def test_a_silent_host_does_not_hold_us_up(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setattr(https_get, "PORT", silent.getsockname()[1])
        monkeypatch.setattr(https_get, "SECONDS", 0.4)
        with pytest.raises(NotFetched, match="timed out"):
            await fetched("/good")
