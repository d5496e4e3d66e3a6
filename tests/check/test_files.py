"""Who may read and write the files of a configuration, and what stands in them."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from relay.check.files import check
from tests.certificates import write_certificate
from tests.check.local_site import levels, local_site
from tests.peers import needs

NOBODY = 65534


@pytest.fixture
def passable() -> Iterator[Path]:
    """A folder that other users can reach: pytest's own are closed to them."""
    folder = Path(tempfile.mkdtemp(prefix="srs-relay-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


async def test_files_that_are_as_init_writes_them_are_fine(tmp_path: Path) -> None:
    [finding] = await check(local_site(tmp_path, {}))
    assert (finding.subject, finding.level) == (str(tmp_path / "relay.toml"), "ok")


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o666])
async def test_a_secret_that_others_may_read_is_named_with_its_mend(tmp_path: Path, mode: int) -> None:
    site = local_site(tmp_path, {})
    (tmp_path / "srs.secret").chmod(mode)
    [finding] = await check(site)
    assert (finding.subject, finding.level) == (str(tmp_path / "srs.secret"), "warning")
    assert f"{mode:03o}" in finding.text and finding.mend == f"chmod 600 {tmp_path}/srs.secret"


async def test_a_folder_in_which_everybody_may_replace_secrets_is_named(tmp_path: Path) -> None:
    site = local_site(tmp_path, {})
    tmp_path.chmod(0o777)
    [finding] = await check(site)
    assert (finding.subject, finding.level, finding.mend) == (str(tmp_path), "warning", f"chmod o-w {tmp_path}")
    tmp_path.chmod(0o1777)
    assert levels(await check(site)) == ["ok"], "with the sticky bit nobody can"


@pytest.mark.parametrize("name", ["relay.toml", "aliases"])
async def test_a_file_that_everybody_may_change_is_named(tmp_path: Path, name: str) -> None:
    site = local_site(tmp_path, {})
    (tmp_path / name).chmod(0o646)
    [finding] = await check(site)
    assert (finding.subject, finding.level) == (str(tmp_path / name), "warning")
    (tmp_path / name).chmod(0o664)
    assert levels(await check(site)) == ["ok"]


async def test_lines_of_a_table_that_cannot_be_used_are_named(tmp_path: Path) -> None:
    aliases = "a@brand.example b@mailbox.example\n" + "@@ bad line\n" * 5
    [finding] = await check(local_site(tmp_path, {}, aliases=aliases))
    assert (finding.subject, finding.level) == (str(tmp_path / "aliases"), "warning")
    assert "2: " in finding.text and "and 2 more" in finding.text and "451 4.3.5" in finding.mend


async def test_lines_of_an_access_table_that_cannot_be_used_are_named(tmp_path: Path) -> None:
    (tmp_path / "rules").write_text("192.0.2.1 REJEKT\n192.0.2.2 OK\n/(/ OK\n")
    [finding] = await check(local_site(tmp_path, {}, clients={"access": "rules"}, senders={"access": "rules"}))
    assert (finding.subject, finding.level) == (str(tmp_path / "rules"), "warning")
    assert "1: REJEKT is none of our actions" in finding.text and "3: /(/: " in finding.text
    assert "451 4.3.5" in finding.mend


async def test_a_recipient_file_that_two_domains_share_is_named_once(tmp_path: Path) -> None:
    (tmp_path / "users").write_text("joe@a.example\njoe@b.example\n(bad\n")
    route = {"recipients": "users", "next_hop": "smtp://127.0.0.1:9"}
    site = local_site(tmp_path, {}, routes={"domains": {"a.example": route, "b.example": route}})
    assert [finding.subject for finding in await check(site)] == [str(tmp_path / "users")]


# the user who runs the relay


@needs(root=True)
async def test_what_root_made_for_the_user_of_the_relay_is_closed_to_it(passable: Path) -> None:
    site = local_site(passable, {})
    os.chown(passable, NOBODY, NOBODY)
    closed = await check(site)
    assert {finding.level for finding in closed} == {"error"}
    assert [finding.subject for finding in closed] == [
        str(passable / name) for name in ("srs.secret", "aliases", "relay.toml")
    ]
    assert "may not read" in closed[0].text and closed[0].mend == f"chown nobody {passable}/srs.secret"
    for name in ("srs.secret", "aliases", "relay.toml"):
        os.chown(passable / name, NOBODY, NOBODY)
    [finding] = await check(site)
    assert finding.level == "ok" and "nobody" in finding.text


@needs(root=True)
async def test_a_queue_that_root_made_cannot_be_written(passable: Path) -> None:
    site = local_site(passable, {})
    for name in ("", "srs.secret", "aliases", "relay.toml"):
        os.chown(passable / name, NOBODY, NOBODY)
    (passable / "queue.db").write_bytes(b"")
    (passable / "queue.db").chmod(0o600)
    [finding] = await check(site)
    assert (finding.subject, finding.level) == (
        str(passable / "queue.db"),
        "warning",
    ) and "may not write" in finding.text


@needs(root=True)
async def test_a_folder_above_that_is_closed_to_the_user_of_the_relay(passable: Path) -> None:
    inner = passable / "etc"
    inner.mkdir()
    write_certificate(inner, "fwd.example")
    for name in ("cert.pem", "key.pem"):
        os.chown(inner / name, NOBODY, NOBODY)
    (inner / "key.pem").chmod(0o600)
    site = local_site(passable, {}, tls={"certificate": "etc/cert.pem", "private_key": "etc/key.pem"})
    for name in ("", "srs.secret", "aliases", "relay.toml"):
        os.chown(passable / name, NOBODY, NOBODY)
    assert levels(await check(site)) == ["ok"]
    inner.chmod(0o700)
    closed = await check(site)
    assert [finding.subject for finding in closed] == [str(inner / "key.pem"), str(inner / "cert.pem")]
    assert {finding.mend for finding in closed} == {f"chmod o+x {inner}"} and str(inner) in closed[0].text
    inner.chmod(0o701)
    assert levels(await check(site)) == ["ok"]


@needs(root=True)
async def test_a_secret_of_another_user_may_be_readable_for_its_group(passable: Path) -> None:
    """As docs/postfix-relayhost.md says of the keys of OpenDKIM."""
    site = local_site(passable, {})
    os.chown(passable, NOBODY, NOBODY)
    for name in ("srs.secret", "aliases", "relay.toml"):
        os.chown(passable / name, 0, NOBODY)
        (passable / name).chmod(0o640)
    assert levels(await check(site)) == ["ok"]
    (passable / "srs.secret").chmod(0o644)
    [finding] = await check(site)
    assert (finding.level, finding.mend) == ("warning", f"chmod 640 {passable}/srs.secret")


@needs(root=True)
async def test_a_relay_that_runs_as_root_may_read_everything(passable: Path) -> None:
    assert levels(await check(local_site(passable, {}))) == ["ok"]
