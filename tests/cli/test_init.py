"""`srs-relay init`: what it writes can be served as it is, what it prints can be published as it is."""

from __future__ import annotations

import math
import os
import re
import socket
import stat
import time
from pathlib import Path
from typing import Any

import pytest

from relay import cli
from relay.cli import init_site
from relay.config.file import load
from relay.route.alias_file import parse_virtual
from relay.sign import keys
from relay.srs import address as srs
from relay.srs.address import Scheme
from relay.srs.configured_scheme import read_secrets, scheme_from_config
from tests.cli.initialized import FILES, a_host, answers, files, zone

GENERATE = keys.generate


@pytest.fixture(autouse=True)
def host(monkeypatch: pytest.MonkeyPatch) -> None:
    a_host(monkeypatch)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "new" / "relay"


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_nothing_has_to_be_said_on_a_host_that_knows_its_name(folder: Path) -> None:
    assert cli.run(["init", str(folder)]) == 0
    assert files(folder) == FILES
    config = load(folder / "relay.toml", {})
    assert config.hostname == "mx.fwd.example"
    assert config.srs.domain == "fwd.example"
    assert config.senders.local_domains == ("fwd.example",)
    assert config.clients.trusted == ()
    assert config.queue.url == f"sqlite:///{folder}/queue.db"
    assert [keys.load(entry).record_name for entry in config.dkim] == ["relay1._domainkey.fwd.example"]
    assert len(read_secrets(config.srs.secrets_file)[0]) >= 32
    assert parse_virtual((folder / "aliases").read_text(), "aliases", ()).entries == {}


def test_secrets_are_for_the_owner_alone_whatever_the_umask(folder: Path) -> None:
    before = os.umask(0)
    try:
        assert cli.run(["init", str(folder)]) == 0
    finally:
        os.umask(before)
    assert [mode(folder / name) for name in ("srs.secret", "dkim/relay1.pem")] == [0o600, 0o600]
    assert [mode(folder), mode(folder / "dkim")] == [0o700, 0o700]


def test_two_relays_share_no_secret(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(keys, "generate", GENERATE)
    for name in ("one", "two"):
        assert cli.run(["init", str(tmp_path / name)]) == 0
    for name in ("srs.secret", "dkim/relay1.pem"):
        assert (tmp_path / "one" / name).read_bytes() != (tmp_path / "two" / name).read_bytes()


def test_what_was_said_is_in_the_files(folder: Path) -> None:
    said = ["--domain", "Fwd.Example", "--hostname", "host.provider.example", "--alias", "alice", "al@mailbox.example"]
    assert cli.run(["init", str(folder), *said]) == 0
    config = load(folder / "relay.toml", {})
    assert (config.hostname, config.srs.domain) == ("host.provider.example", "fwd.example")
    assert config.routes.postmaster == "al@mailbox.example"
    assert config.routes.alias_file is not None
    table = parse_virtual(config.routes.alias_file.read_text(), "aliases", ())
    assert table.expand("alice@fwd.example") == ("al@mailbox.example",)


def test_the_mailbox_of_postmaster_can_be_another(folder: Path) -> None:
    assert cli.run(["init", str(folder), "--postmaster", '"the \\"admin"@mailbox.example']) == 0
    assert load(folder / "relay.toml", {}).routes.postmaster == '"the \\"admin"@mailbox.example'


def test_aliases_repeat(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pairs = ["--alias", "a@x.example", "al@mailbox.example", "--alias", "bob", "b@y.example"]
    assert cli.run(["init", str(folder), *pairs]) == 0
    table = parse_virtual((folder / "aliases").read_text(), "aliases", ())
    assert table.expand("a@x.example") == ("al@mailbox.example",)
    assert table.expand("bob@fwd.example") == ("b@y.example",)
    assert answers(zone(capsys.readouterr().out, "."), "x.example", "MX") == ["10 mx.fwd.example."]
    assert load(folder / "relay.toml", {}).routes.postmaster == "al@mailbox.example"


def test_an_alias_may_close_an_address_of_a_catch_all(folder: Path) -> None:
    pairs = ["--alias", "left", "REJECT she\nhas left", "--alias", "@fwd.example", "all@mailbox.example"]
    assert cli.run(["init", str(folder), *pairs]) == 0
    table = parse_virtual((folder / "aliases").read_text(), "aliases", ())
    assert (table.rejection("left@fwd.example"), table.bad.lines) == ("she has left", ())
    assert table.expand("joe@fwd.example") == ("all@mailbox.example",)
    assert load(folder / "relay.toml", {}).routes.postmaster == "all@mailbox.example"


def test_the_records_are_a_zone_file(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    addresses = ["--address", "198.51.100.4", "--address", "2001:DB8:7::19"]
    assert cli.run(["init", str(folder), *addresses]) == 0
    published = zone(capsys.readouterr().out)
    assert answers(published, "fwd.example", "MX") == ["10 mx.fwd.example."]
    assert answers(published, "mx.fwd.example", "A") == ["198.51.100.4"]
    assert answers(published, "mx.fwd.example", "AAAA") == ["2001:db8:7::19"]
    assert answers(published, "fwd.example", "TXT") == ["v=spf1 mx -all"]
    assert answers(published, "mx.fwd.example", "TXT") == ["v=spf1 a -all"]
    assert answers(published, "_dmarc.fwd.example", "TXT") == ["v=DMARC1; p=reject"]
    (key,) = (keys.load(entry) for entry in load(folder / "relay.toml", {}).dkim)
    assert answers(published, key.record_name, "TXT") == [key.public_record()]


@pytest.mark.parametrize(
    ("full_name", "args", "hostname", "domain"),
    [
        ("mx1.mail.fwd.example", [], "mx1.mail.fwd.example", "mail.fwd.example"),
        ("fwd.example", [], "fwd.example", "fwd.example"),
        ("localhost", ["--domain", "fwd.example"], "mx.fwd.example", "fwd.example"),
        ("ip-10-0-0-5.ec2.internal", ["--domain", "fwd.example"], "mx.fwd.example", "fwd.example"),
        ("vm7.provider.example", ["--domain", "fwd.example"], "vm7.provider.example", "fwd.example"),
        ("localhost", ["--hostname", "mx.fwd.example"], "mx.fwd.example", "fwd.example"),
    ],
)
def test_names_are_guessed(
    monkeypatch: pytest.MonkeyPatch, folder: Path, full_name: str, args: list[str], hostname: str, domain: str
) -> None:
    monkeypatch.setattr(socket, "getfqdn", lambda: full_name)
    assert cli.run(["init", str(folder), *args]) == 0
    config = load(folder / "relay.toml", {})
    assert (config.hostname, config.srs.domain) == (hostname, domain)


def test_a_host_without_a_name_gets_an_example_to_change(
    monkeypatch: pytest.MonkeyPatch, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(socket, "getfqdn", lambda: "localhost")
    assert cli.run(["init", str(folder)]) == 0
    assert "fwd.example is only an example" in capsys.readouterr().err
    assert load(folder / "relay.toml", {}).hostname == "mx.fwd.example"
    assert cli.run(["init", str(folder), "--force", "--domain", "fwd.example"]) == 0
    assert "only an example" not in capsys.readouterr().err


@pytest.mark.parametrize(
    "wrong",
    [
        ["--domain", "fwd"],
        ["--domain", "☃\u200d.example"],
        ["--hostname", "mx fwd.example"],
        ["--address", "mx.fwd.example"],
        ["--alias", "a b", "al@mailbox.example"],
        ["--alias", "alice", "al"],
        ["--postmaster", "admin"],
        ["--hostname", "localhost"],
        ["--address", "10.0.0.5"],
        ["--address", "fe80::1"],
        ["--alias", "/^info@/", "al@mailbox.example"],
        ["--alias", "alice"],
        ["--next-hop", "lmtp://10.0.0.5:24"],
        ["--next-hop", "10.0.0.5:24", "--for", "mailboxes"],
        ["--next-hop", "smtp://127.0.0.1:25", "--for", "mailboxes"],
        ["--alias", "alice", "al@mailbox.example", "--for", "relayhost"],
        ["--srs-domain", "srs"],
        ["--for", "everything"],
    ],
)
def test_a_wrong_value_is_named_and_nothing_is_written(
    folder: Path, capsys: pytest.CaptureFixture[str], wrong: list[str]
) -> None:
    assert cli.run(["init", str(folder), *wrong]) == 2
    captured = capsys.readouterr()
    assert wrong[0] in captured.err
    assert (captured.out, captured.err.count("\n")) == ("", 1)
    assert not folder.exists()


@pytest.mark.parametrize("name", FILES)
def test_nothing_is_overwritten(folder: Path, capsys: pytest.CaptureFixture[str], name: str) -> None:
    (folder / name).parent.mkdir(parents=True)
    (folder / name).write_text("mine")
    assert cli.run(["init", str(folder)]) == 1
    captured = capsys.readouterr()
    assert str(folder / name) in captured.err
    assert (captured.out, captured.err.count("\n")) == ("", 1)
    assert files(folder) == [name]
    assert (folder / name).read_text() == "mine"


def test_force_replaces_the_configuration_alone(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["init", str(folder), "--alias", "alice", "al@mailbox.example"]) == 0
    kept = {name: (folder / name).read_bytes() for name in FILES if name != "relay.toml"}
    records = capsys.readouterr().out
    assert cli.run(["init", str(folder), "--force", "--hostname", "mx2.fwd.example"]) == 0
    assert load(folder / "relay.toml", {}).hostname == "mx2.fwd.example"
    assert {name: (folder / name).read_bytes() for name in kept} == kept
    dkim_line = next(line for line in records.splitlines() if "_domainkey" in line)
    assert dkim_line in capsys.readouterr().out


def scheme(folder: Path) -> Scheme:
    return scheme_from_config(load(folder / "relay.toml", {}))


def test_addresses_are_hard_to_forge_from_the_first_day(folder: Path) -> None:
    assert cli.run(["init", str(folder)]) == 0
    assert "framed_since" not in (folder / "relay.toml").read_text()
    renewed = scheme(folder)
    assert (renewed.framed, renewed.framed_since, renewed.hash_length, renewed.hash_min) == (True, -math.inf, 8, 8)
    assert cli.run(["init", str(folder), "--force"]) == 0
    assert scheme(folder) == renewed


@pytest.mark.parametrize("broken", [False, True])
def test_force_keeps_the_addresses_that_the_old_configuration_has_sent(folder: Path, broken: bool) -> None:
    assert cli.run(["init", str(folder)]) == 0
    config, now = folder / "relay.toml", time.time()
    config.write_text(re.sub(r"\nhash.*", "", config.read_text()))
    before = scheme(folder)
    assert not before.framed and before.hash_length == 4
    sent = [srs.forward(sender, before, now) for sender in ("ann@a.example", "SRS0=a=b=c=d@h.example")]
    if broken:
        config.write_text("no TOML")
    for _ in range(2):  # again within those days
        assert cli.run(["init", str(folder), "--force"]) == 0
        renewed = scheme(folder)
        for later in (now, now + 86400, now + 20 * 86400):
            assert srs.reverse(sent[0], renewed, later) == "ann@a.example"
            assert srs.reverse(sent[1], renewed, later) == "SRS0=a=b=c=d@h.example"
        assert srs.reverse(srs.forward("ann@a.example", renewed, now), renewed, now) == "ann@a.example"
        assert (renewed.framed, renewed.hash_length, renewed.hash_min) == (True, 8, 4)
        assert not renewed.writes_framed(int(now // 86400)) and renewed.writes_framed(int(now // 86400) + 2)


def test_the_same_command_with_force_changes_the_addresses(folder: Path) -> None:
    """As `init` itself says it where the host has another family, too."""
    command = ["init", str(folder), "--alias", "alice", "al@mailbox.example", "--address", "203.0.113.5"]
    assert cli.run(command) == 0
    aliases = (folder / "aliases").read_bytes()
    assert cli.run([*command, "--force", "--address", "2001:db8:5::5"]) == 0
    assert (folder / "aliases").read_bytes() == aliases
    config = load(folder / "relay.toml", {})
    assert (config.routes.postmaster, config.delivery.families) == ("al@mailbox.example", ("ipv6", "ipv4"))


def test_force_does_not_drop_an_alias_silently(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["init", str(folder), "--alias", "alice", "al@mailbox.example"]) == 0
    before = files(folder), (folder / "relay.toml").read_bytes()
    for target in ("al@other.example", "REJECT gone"):
        capsys.readouterr()
        assert (
            cli.run(["init", str(folder), "--force", "--hostname", "mx2.fwd.example", "--alias", "alice", target]) == 1
        )
        said = capsys.readouterr().err
        assert str(folder / "aliases") in said and f"write alice@fwd.example {target} into it" in said
        assert (files(folder), (folder / "relay.toml").read_bytes()) == before


def test_a_failure_midway_leaves_nothing_behind(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    fdopen = os.fdopen

    def full_disk(handle: int, mode: str, **more: Any) -> Any:
        if any(folder.rglob(".new-*")) and (folder / "dkim").exists():
            raise OSError(28, "No space left on device")
        return fdopen(handle, mode, **more)

    monkeypatch.setattr(os, "fdopen", full_disk)
    assert cli.run(["init", str(folder)]) == 1
    assert files(folder) == []


@pytest.mark.parametrize(
    ("may", "ipv6", "listen"),
    [
        (True, True, ["0.0.0.0:25", "[::]:25"]),
        (False, True, ["0.0.0.0:2525", "[::]:2525"]),
        (True, False, ["0.0.0.0:25"]),
    ],
)
def test_it_listens_where_this_user_and_this_host_can(
    monkeypatch: pytest.MonkeyPatch,
    folder: Path,
    capsys: pytest.CaptureFixture[str],
    may: bool,
    ipv6: bool,
    listen: list[str],
) -> None:
    monkeypatch.setattr(init_site, "may_bind", lambda port: may)
    monkeypatch.setattr(init_site, "has_ipv6", lambda: ipv6)
    assert cli.run(["init", str(folder)]) == 0
    assert [listener.address for listener in load(folder / "relay.toml", {}).listen] == listen
    assert ("2525" in capsys.readouterr().err) is not may
