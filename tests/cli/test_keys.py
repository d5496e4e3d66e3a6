"""`srs-relay keys`: what it makes can sign, what it prints can be published, what it changes can be loaded."""

from __future__ import annotations

import asyncio
import json
import os
import re
import stat
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from relay import cli
from relay.cli.zone import ZoneServer
from relay.config.file import load
from relay.mail.message import Message
from relay.process.files import read_signer
from relay.sign import keys
from relay.sign.keys import SigningKey
from tests import corpus
from tests.cli.key_commands import CONFIG, PEM, filled, ran, refused, texts
from tests.judges import dkimpy

GENERATE = keys.generate
DAY = 86400.0


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keys, "generate", PEM.__getitem__)  # a fresh one takes half a second


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return filled(tmp_path)


def toml_date(days: float) -> str:
    return datetime.fromtimestamp(time.time() + days * DAY, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


# --- new --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("algorithm", ["rsa2048", "ed25519"])
def test_a_new_key_signs_with_the_lines_that_are_printed(
    folder: Path, algorithm: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(keys, "generate", GENERATE)
    assert ran(folder, "new", "--domain", "New.example", "--algorithm", algorithm) == 0
    record, _, lines = capsys.readouterr().out.partition("\n\n")
    (folder / "relay.toml").write_text(CONFIG + lines)
    message = b"From: a@new.example\r\n\r\nHi.\r\n"
    signer = read_signer(load(folder / "relay.toml", {}))
    signature = signer.signatures(signer.unsigned(Message(message)), time.time()).fields
    [verdict] = dkimpy(signature + message, texts(record))
    assert verdict == ("relay1", "new.example", "pass")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make files for others")
def test_root_makes_keys_for_the_owner_of_the_folder(folder: Path) -> None:
    os.chown(folder, 2525, 2526)
    os.chown(folder / "relay.toml", 2527, 2528)
    assert ran(folder, "new") == ran(folder, "rotate") == 0
    for made in (folder / "dkim", *(folder / "dkim").iterdir()):
        assert (made.stat().st_uid, made.stat().st_gid) == (2525, 2526)
    assert ((folder / "relay.toml").stat().st_uid, (folder / "relay.toml").stat().st_gid) == (2527, 2528)


def test_no_selector_is_taken_twice_and_no_file_is_replaced(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for _ in range(2):
        assert ran(folder, "new") == 0
    assert sorted(path.name for path in (folder / "dkim").iterdir()) == [
        "fwd.example.relay2.pem",
        "fwd.example.relay3.pem",
    ]
    capsys.readouterr()
    assert refused(folder, capsys, "new", "--selector", "relay1").endswith(
        "relay1._domainkey.fwd.example is configured already; take another --selector"
    )
    there = folder / "relay1.pem"
    assert (
        refused(folder, capsys, "new", "--out", str(there))
        == f"srs-relay: {there} is there already, and stays as it is"
    )


def test_a_wrong_algorithm_is_told_the_choices(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line = refused(folder, capsys, "new", "--algorithm", "wrong")
    assert "--algorithm': 'wrong' is not one of 'rsa2048', 'rsa4096', 'ed25519'" in line


@pytest.mark.parametrize("command", ["", "new", "list", "dns", "rotate"])
def test_the_help_fits_a_terminal_and_no_line_of_it_is_cut(
    command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert cli.run(["keys", *([command] if command else []), "--help"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line for line in lines if len(line) > 80 or (line.endswith("...") and "[ARGS]..." not in line)] == []


# --- list and dns -----------------------------------------------------------------------------------------------------

RECORD = corpus.RSA.public_record()
OTHER = SigningKey("x", "y", keys.parse(GENERATE("rsa2048"))).public_record()


async def listed(folder: Path, records: Mapping[str, list[str]], capsys: pytest.CaptureFixture[str]) -> list[Any]:
    """`keys list --json` with these TXT records in DNS, where the selector `silent` gets SERVFAIL."""
    zone = {
        (name, "TXT"): [keys.zone_line(name, text).partition(" TXT ")[2] for text in values]
        for name, values in records.items()
    }
    server = ZoneServer(zone, {"silent._domainkey.brand.example": "servfail"})
    host, port = await server.start()
    config = (folder / "relay.toml").read_text()
    (folder / "relay.toml").write_text(config.replace("127.0.0.1:9", f"{host}:{port}"))
    try:
        assert await asyncio.to_thread(ran, folder, "list", "--json") == 0
    finally:
        await server.close()
    rows: list[Any] = json.loads(capsys.readouterr().out)
    return rows


@pytest.mark.parametrize(
    ("records", "state", "problem"),
    [
        ([RECORD], "matches", ""),
        ([RECORD.replace("v=DKIM1; ", "") + "; t=s"], "matches", ""),
        ([], "missing", ""),
        ([OTHER], "differs", "another key"),
        (["v=DKIM1; p="], "revoked", ""),
        ([RECORD, OTHER], "differs", "2 records"),
        ([RECORD + "; h=sha1"], "differs", "not for sha256"),
        ([RECORD[:-9]], "differs", "no base64"),
        (["who knows"], "differs", "no tag=value"),
    ],
)
async def test_the_list_says_whether_dns_has_a_key(
    folder: Path, records: list[str], state: str, problem: str, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = await listed(folder, {"relay1._domainkey.fwd.example": records}, capsys)
    assert (first["dns"], second["dns"]) == (state, "missing")
    assert problem in first["problem"] and bool(problem) == bool(first["problem"])


async def test_the_list_says_when_dns_does_not_answer(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = folder / "relay.toml"
    config.write_text(config.read_text().replace("b2025", "silent"))
    _, second = await listed(folder, {}, capsys)
    assert second["dns"] == "no answer" and "SERVFAIL" in second["problem"]


async def test_the_list_says_what_each_key_signs_and_when(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = folder / "relay.toml"
    since = toml_date(1)
    config.write_text(config.read_text() + f"active_from = {since}\n")
    first, second = await listed(folder, {}, capsys)
    assert (first["record"], first["algorithm"], first["bits"]) == ("relay1._domainkey.fwd.example", "rsa-sha256", 1024)
    assert (first["state"], first["active_from"], first["signs"]) == ("active", None, ["fwd.example"])
    assert (first["everyone_else"], first["arc"]) == (True, True)
    assert (second["state"], second["active_from"]) == ("waiting", since)
    assert (second["signs"], second["everyone_else"], second["arc"]) == (
        ["brand.example", "*.brand.example"],
        False,
        False,
    )


def test_the_list_for_a_person_names_every_key(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = folder / "relay.toml"
    config.write_text(config.read_text().replace("[dns]", '[dns]\ntimeout = "100ms"'))
    assert ran(folder, "list") == 0
    said = capsys.readouterr().out
    assert "signs fwd.example, everyone else; seals ARC" in said
    assert "signs brand.example, *.brand.example" in said
    assert said.count("DNS: no answer") == 2


@pytest.mark.parametrize(("days", "listed"), [(-1, True), (-11.9, True), (-12.1, False)])
def test_a_record_stays_listed_until_its_last_signature_is_verified(
    folder: Path, days: float, listed: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    """`queue.retry_for` is five days by default, and the margin seven."""
    config = folder / "relay.toml"
    config.write_text(config.read_text() + f"active_until = {toml_date(days)}\n")
    assert ran(folder, "dns") == ran(folder, "dns", "--json") == 0
    zone, _, as_json = capsys.readouterr().out.partition("\n[")
    names = {"relay1._domainkey.fwd.example", *(["b2025._domainkey.brand.example"] if listed else [])}
    assert texts(zone) == dict.fromkeys(names, RECORD)
    assert {row["name"]: row["text"] for row in json.loads(f"[{as_json}")} == dict.fromkeys(names, RECORD)
    assert "b2025._domainkey.brand.example" in zone


# --- rotate -----------------------------------------------------------------------------------------------------------


def test_rotation_changes_nothing_in_the_file_but_the_keys(folder: Path) -> None:
    assert ran(folder, "rotate", "--after", "3d") == 0
    text = (folder / "relay.toml").read_text()
    [turn] = set(re.findall(r"active_\w+ = (.*)", text))
    added = (
        f"active_until = {turn}\n\n[[dkim]]\n"
        f'domain = "fwd.example"\nselector = "relay2"\n'
        f'private_key = "dkim/fwd.example.relay2.pem"\nactive_from = {turn}\n'
    )
    assert text == CONFIG.replace('#sign = ["fwd.example"]\n', '#sign = ["fwd.example"]\n' + added)
    assert 0 <= datetime.fromisoformat(turn).timestamp() - (time.time() + 3 * DAY) <= 60


def test_after_a_rotation_one_key_signs_at_any_time(folder: Path) -> None:
    assert ran(folder, "rotate", "--domain", "Brand.example", "--after", "12h") == 0
    table = read_signer(load(folder / "relay.toml", {})).table
    turn = next(key.active_from for key in table.keys if key.selector == "b2026")
    for domain in ("brand.example", "deep.brand.example"):
        signing = [[key.selector for key in table.select("a", domain, now)] for now in (turn - 1, turn)]
        assert signing == [["b2025"], ["b2026"]]


def test_rotation_prints_both_records_and_their_times(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert ran(folder, "rotate") == 0
    said = capsys.readouterr()
    assert list(texts(said.out)) == ["relay2._domainkey.fwd.example", "relay1._domainkey.fwd.example"]
    turn, until, keep = re.findall(r"\d{4}-\d\d-\d\d \d\d:\d\d", said.out)
    assert (
        turn == until
        and datetime.fromisoformat(keep).timestamp() - datetime.fromisoformat(turn).timestamp() == 12 * DAY
    )
    assert f"reload the relay before {turn}" in said.err


def test_every_active_key_of_a_domain_gets_a_successor_of_its_kind(folder: Path) -> None:
    (folder / "ed.pem").write_bytes(corpus.ED25519_PEM)
    config = folder / "relay.toml"
    config.write_text(CONFIG + '[[dkim]]\ndomain = "fwd.example"\nselector = "ed1"\nprivate_key = "ed.pem"\n')
    assert ran(folder, "rotate") == 0
    entries = [(entry.selector, keys.load(entry).algorithm) for entry in load(config, {}).dkim]
    assert entries == [
        ("relay1", "rsa-sha256"),
        ("relay2", "rsa-sha256"),
        ("b2025", "rsa-sha256"),
        ("ed1", "ed25519-sha256"),
        ("relay3", "ed25519-sha256"),
    ]


def test_a_key_that_ends_sooner_is_followed_at_its_end(folder: Path) -> None:
    end = toml_date(1)
    (folder / "relay.toml").write_text(CONFIG + f"active_until = {end}\n")
    assert ran(folder, "rotate", "--domain", "brand.example") == 0
    [*_, old, new] = load(folder / "relay.toml", {}).dkim
    assert old.active_until == new.active_from == datetime.fromisoformat(end)


def test_a_link_and_a_mode_outlive_a_rotation(folder: Path) -> None:
    config = folder / "relay.toml"
    target = config.rename(folder / "true.toml")
    target.chmod(0o640)
    config.symlink_to(target.name)
    assert ran(folder, "rotate") == 0
    assert config.is_symlink() and "relay2" in target.read_text()
    assert stat.S_IMODE(target.stat().st_mode) == 0o640
    assert not list(folder.glob(".new-*"))


def test_a_link_into_another_folder_keeps_its_own_relative_paths(folder: Path) -> None:
    config = folder / "relay.toml"
    (folder / "elsewhere").mkdir()
    target = config.rename(folder / "elsewhere" / "true.toml")
    config.symlink_to(target)
    assert ran(folder, "rotate") == 0
    assert [entry.selector for entry in load(config, {}).dkim] == ["relay1", "relay2", "b2025"]
    assert (folder / "dkim" / "fwd.example.relay2.pem").exists()


@pytest.mark.parametrize(
    ("config", "args", "said"),
    [
        (CONFIG, ["--domain", "x.example"], "x.example has no active key in [[dkim]]; `srs-relay keys new` makes one"),
        (
            CONFIG + "active_from = 2999-01-01\n",
            ["--domain", "brand.example"],
            "b2025._domainkey.brand.example waits already, and signs from 2999-01-01 00:00 UTC on",
        ),
        (CONFIG, ["--after", "3"], "a duration is written with its unit"),
        (CONFIG, ["--after", "99999999d"], "--after: a year at most"),
        (
            re.sub(r"\[\[dkim\]\](.|\n)*", "", CONFIG)
            + 'dkim = [{domain = "fwd.example", selector = "s", private_key = "relay1.pem"}]\n',
            [],
            "the file has no entry [[dkim]] for s._domainkey.fwd.example that could be changed",
        ),
        (
            CONFIG.replace("# Ours.", "x = '''\n[[dkim]]\n'''").replace("x =", "authserv_id ="),
            [],
            "written in a way that a command cannot change",
        ),
    ],
)
def test_a_rotation_that_cannot_be_leaves_everything_as_it_was(
    folder: Path, config: str, args: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "relay.toml").write_text(config)
    assert said in refused(folder, capsys, "rotate", *args)


def test_keys_that_opendkim_has_are_listed_but_not_rotated(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config, tables = folder / "relay.toml", folder / "opendkim"
    tables.mkdir()
    (tables / "KeyTable").write_text(f"k od.example:mail:{folder}/relay1.pem\n")
    (tables / "SigningTable").write_text("*@od.example k\n")
    config.write_text(CONFIG + '[signing]\nopendkim = "opendkim"\n')
    assert ran(folder, "dns") == 0
    assert texts(capsys.readouterr().out)["mail._domainkey.od.example"] == RECORD
    assert refused(folder, capsys, "rotate", "--domain", "od.example").endswith(
        "the keys of od.example are not in [[dkim]], and only those are rotated;"
        " one of `srs-relay keys new --domain od.example` comes before OpenDKIM's"
    )


def test_what_somebody_changes_during_a_rotation_is_not_lost(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    config = folder / "relay.toml"

    def slow(kind: str) -> bytes:
        config.write_text(CONFIG + "# theirs\n")
        return PEM[kind]

    monkeypatch.setattr(keys, "generate", slow)
    assert ran(folder, "rotate") == 1
    assert "was changed meanwhile, and stays as it is" in capsys.readouterr().err
    assert config.read_text() == CONFIG + "# theirs\n"
    assert not list((folder / "dkim").iterdir()) and not list(folder.glob(".new-*"))


def test_a_key_may_last_as_long_as_a_date_can_say(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "relay.toml").write_text(CONFIG + "active_until = 9999-12-31\n")
    assert ran(folder, "dns") == ran(folder, "dns", "--json") == 0
    assert "b2025._domainkey.brand.example" in texts(capsys.readouterr().out.partition("\n[")[0])


def test_a_rotation_needs_the_file(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["keys", "rotate"]) == 2
    assert "--config: it is the file that is changed" in capsys.readouterr().err
