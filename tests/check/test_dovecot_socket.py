"""What `srs-relay check` says of the socket on which Dovecot checks logins."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from relay.check import dovecot_socket, files
from relay.check.finding import Finding
from relay.check.site import Site
from tests.accounts.scripted_dovecot import GREETING, ScriptedDovecot
from tests.check.local_site import local_site


def site_of(folder: Path) -> Site:
    return local_site(folder, {}, auth={"dovecot": str(folder / "auth-client")})


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[ScriptedDovecot]:
    scripted = ScriptedDovecot(tmp_path / "auth-client")
    await scripted.start()
    yield scripted
    await scripted.stop()


async def found(server: ScriptedDovecot, *lines: str) -> Finding:
    looking = asyncio.create_task(dovecot_socket.look(site_of(server.path.parent)))
    await (await server.next()).greet(lines or GREETING)
    [finding] = await looking
    assert finding.subject == str(server.path)
    return finding


async def test_the_mechanisms_are_shown(server: ScriptedDovecot) -> None:
    finding = await found(server)
    assert finding.level == "ok"
    assert finding.text == "Dovecot checks logins here: PLAIN, LOGIN, XOAUTH2, SCRAM-SHA-256"


async def test_a_dovecot_without_a_usable_mechanism(server: ScriptedDovecot) -> None:
    finding = await found(server, "VERSION\t1\t2", "MECH\tEXTERNAL", "DONE")
    assert finding.level == "error" and "auth_mechanisms" in finding.mend


async def test_what_is_no_dovecot(server: ScriptedDovecot) -> None:
    finding = await found(server, "220 mx.test ESMTP")
    assert finding.level == "error" and finding.text.startswith("no login can be checked: ")


async def test_a_socket_that_is_not_there(tmp_path: Path) -> None:
    [finding] = await dovecot_socket.look(site_of(tmp_path))
    assert finding.level == "error" and finding.text == "no login can be checked: there is no such socket"
    assert f"unix_listener {tmp_path}/auth-client " in finding.mend
    assert finding in await files.check(site_of(tmp_path))


async def test_without_dovecot_nothing_is_said(tmp_path: Path) -> None:
    assert await dovecot_socket.look(local_site(tmp_path, {})) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="only root looks for another user")
async def test_a_socket_that_is_closed_to_the_user_of_the_relay(server: ScriptedDovecot) -> None:
    server.path.chmod(0o600)
    os.chown(server.path.parent, 65534, 65534)
    finding = await found(server)
    assert finding.level == "error" and finding.text == "nobody may not connect to it"
    assert "mode = 0600 user = nobody" in finding.mend
