"""The hosts of the demo where one of them cannot start; `test_demo` has them running."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest

from relay.cli import demo_world
from relay.cli.demo_servers import MailServer
from relay.cli.errors import CommandFailed
from relay.sign import keys
from tests import corpus


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(keys, "generate", lambda kind: corpus.RSA_PEM)  # a fresh one takes half a second
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))


async def test_an_address_that_cannot_be_had_is_named_and_nothing_is_left(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    async def taken(*_: object) -> int:
        raise OSError(98, "Address already in use")

    monkeypatch.setattr(MailServer, "start", taken)
    with pytest.raises(CommandFailed, match=r"the demo needs 127\.0\.0\.2 on loopback: Address already in use"):
        async with demo_world.world():
            pass
    assert list(tmp_path.iterdir()) == []


async def test_a_relay_that_does_not_start_shows_its_log(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(demo_world, "_config", lambda dns, port: "hostname = 5\n")
    with pytest.raises(CommandFailed, match=r"(?s)the relay did not start:\n.*hostname"):
        async with demo_world.world():
            pass
    assert list(tmp_path.iterdir()) == []
