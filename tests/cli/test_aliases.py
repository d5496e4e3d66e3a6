"""`srs-relay aliases list|add|remove`: the alias file, changed without a loss."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from relay import cli

CONFIG = """\
hostname = "mx.fwd.example"
listen = [{address = "127.0.0.1:2525"}]
srs = {domain = "fwd.example", secrets_file = "srs.secret"}
senders = {local_domains = ["fwd.example"]}
routes = {aliases = "aliases", domains = {"example.org" = {next_hop = "lmtp://10.0.0.5:24", recipients = "any"}}}
"""
ALIASES = b"""\
# people\xff
alice@fwd.example   carol@ext.example,
# carol is away
    dave@ext.example
closed@fwd.example  REJECT has left
@fwd.example        any@ext.example
admin               root@ext.example"""

Run = Callable[..., int]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "srs.secret").write_text("tops3cr3ttops3cr3t\n")
    (tmp_path / "aliases").write_bytes(ALIASES)
    (tmp_path / "relay.toml").write_text(CONFIG)
    return tmp_path


@pytest.fixture
def ran(folder: Path) -> Run:
    return lambda *args: cli.run(["aliases", *args, "--config", str(folder / "relay.toml")])


def test_the_entries_are_listed_in_the_order_of_the_file(
    folder: Path, ran: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    assert ran("list") == 0
    assert capsys.readouterr() == (
        "alice@fwd.example   carol@ext.example, dave@ext.example\n"
        "closed@fwd.example  REJECT has left\n"
        "@fwd.example        any@ext.example\n"
        "admin               root@ext.example\n",
        "",
    )
    assert ran("list", "--json") == 0
    assert json.loads(capsys.readouterr().out) == [
        {
            "address": "alice@fwd.example",
            "targets": ["carol@ext.example", "dave@ext.example"],
            "reject": None,
            "line": 2,
        },
        {"address": "closed@fwd.example", "targets": None, "reject": "has left", "line": 5},
        {"address": "@fwd.example", "targets": ["any@ext.example"], "reject": None, "line": 6},
        {"address": "admin", "targets": ["root@ext.example"], "reject": None, "line": 7},
    ]


@pytest.mark.parametrize(
    ("pattern", "addresses"),
    [
        ("ALICE@fwd.example", ["alice@fwd.example"]),
        ("*@fwd.example", ["alice@fwd.example", "closed@fwd.example", "@fwd.example"]),
        ("dave@*", ["alice@fwd.example"]),
        ("nobody", []),
    ],
)
def test_a_pattern_is_for_addresses_and_targets(
    ran: Run, capsys: pytest.CaptureFixture[str], pattern: str, addresses: list[str]
) -> None:
    assert ran("list", pattern, "--json") == 0
    assert [entry["address"] for entry in json.loads(capsys.readouterr().out)] == addresses
    assert ran("list", pattern) == 0
    assert capsys.readouterr().out.splitlines()[-1].split()[0] == (addresses[-1] if addresses else "no")


def test_bad_lines_are_named_and_make_the_status_1(folder: Path, ran: Run, capsys: pytest.CaptureFixture[str]) -> None:
    path = folder / "aliases"
    path.write_bytes(
        b'bad@x.example "|command"\nhalf@x.example a@ext.example, b(c\nalice@x.example a@ext.example\n'
        b"\xff@x.example a@ext.example\nAlice@x.example b@ext.example\n"
    )
    assert ran("list") == 1
    out, err = capsys.readouterr()
    assert [line.split() for line in out.splitlines()] == [
        ["half@x.example", "a@ext.example"],
        ["alice@x.example", "a@ext.example"],
    ]
    assert err.splitlines() == [
        f'{path}:1: "|command": a command is no address',
        f"{path}:2: b(c@fwd.example: the local part is malformed",
        f"{path}:4: \\xff@x.example: not UTF-8",
        f"{path}:5: Alice@x.example is ignored, for it stands at {path}:3 already",
    ]


def test_an_entry_from_beginning_to_end(folder: Path, ran: Run, capsys: pytest.CaptureFixture[str]) -> None:
    path = folder / "aliases"
    path.chmod(0o604)
    assert ran("add", "bob@fwd.example", "bob@ext.example", "eve@ext.example") == 0
    assert capsys.readouterr() == ("", f"added bob@fwd.example to {path}\n")
    assert path.read_bytes() == ALIASES + b"\nbob@fwd.example    bob@ext.example, eve@ext.example"
    assert ran("add", "Bob@fwd.example", "fred@ext.example") == 1
    there = f"Bob@fwd.example is there already, at {path}:8: bob@ext.example, eve@ext.example; --replace replaces it"
    assert capsys.readouterr() == ("", f"srs-relay: {there}\n")
    assert ran("add", "bob@fwd.example", "--reject", "gone", "--replace") == 0
    assert capsys.readouterr() == ("", f"replaced bob@fwd.example in {path}\n")
    assert path.read_bytes() == ALIASES + b"\nbob@fwd.example    REJECT gone"
    assert ran("remove", "BOB@fwd.example") == 0
    assert capsys.readouterr() == ("", f"removed bob@fwd.example from {path}\n".replace("bob", "BOB"))
    assert path.read_bytes() == ALIASES and path.stat().st_mode & 0o777 == 0o604


def test_the_first_alias_makes_the_file(folder: Path, ran: Run, capsys: pytest.CaptureFixture[str]) -> None:
    path = folder / "aliases"
    path.unlink()
    for command in (("list",), ("remove", "alice@fwd.example"), ("test", "alice@fwd.example")):
        assert ran(*command) == 1
        out, err = capsys.readouterr()
        assert out == "" and err.startswith(f"srs-relay: {path}: there is no such file; ") and err.count("\n") == 1
    assert ran("add", "alice@fwd.example", "carol@ext.example") == 0
    assert path.read_bytes() == b"alice@fwd.example    carol@ext.example\n"
    assert path.stat().st_mode & 0o777 == 0o640


def test_a_domain_that_becomes_ours_is_named(ran: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert ran("add", "joe@new.example", "joe@ext.example") == 0
    assert "warning: the relay now serves new.example: every address there that no" in capsys.readouterr().err
    assert ran("add", "@all.example", "joe@ext.example") == 0
    assert "warning: the relay now serves all.example: mail for every address" in capsys.readouterr().err
    for address in ("ann@new.example", "joe@example.org", "ann@fwd.example"):
        assert ran("add", address, "joe@ext.example") == 0
        assert "warning" not in capsys.readouterr().err
    assert ran("remove", "joe@new.example") == ran("remove", "ann@new.example") == 0
    assert "warning: the relay serves new.example no longer" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("args", "status", "said"),
    [
        (("add", "bob@fwd.example"), 2, "name the targets, or --reject with a text"),
        (("add", "bob@fwd.example", "x@y.example", "--reject", ""), 2, "name the targets, or --reject with a text"),
        (("add", "bob@fwd.example", "b(c"), 2, "b(c@fwd.example: the local part is malformed"),
        (("add", "bob@fwd.example", ""), 2, "a target is empty"),
        (("add", "b(c@fwd.example", "x@y.example"), 2, "b(c@fwd.example: the local part is malformed"),
        (("add", "@fwd example", "x@y.example"), 2, "'@fwd example' is neither an address nor @ and a domain"),
        (("add",), 2, "Missing argument 'ADDRESS'"),
        (("add", "any@ext.example", "nobody@fwd.example"), 1, "any@ext.example: aliases lead to each other"),
        (("remove", "nobody@fwd.example"), 1, "nobody@fwd.example has no entry in {path}: it matches @fwd.example, at"),
        (("remove", "\udcff\u202e"), 1, "\\xff\\u202e has no entry in {path}"),
        (("test", "nobody"), 2, "'nobody': the address has no domain"),
    ],
)
def test_what_cannot_be_done_is_one_line(
    folder: Path, ran: Run, capsys: pytest.CaptureFixture[str], args: tuple[str, ...], status: int, said: str
) -> None:
    assert ran(*args) == status
    out, err = capsys.readouterr()
    assert out == "" and err.count("\n") == 1 and said.format(path=folder / "aliases") in err
    assert (folder / "aliases").read_bytes() == ALIASES


@pytest.mark.parametrize("args", [("list",), ("add", "a@b.example", "c@d.example"), ("remove", "a@b.example")])
def test_without_a_table_the_key_is_named(
    folder: Path, ran: Run, capsys: pytest.CaptureFixture[str], args: tuple[str, ...]
) -> None:
    (folder / "relay.toml").write_text(CONFIG.replace('aliases = "aliases", ', ""))
    assert ran(*args) == 1
    said = 'srs-relay: the configuration has no routes.aliases: write aliases = "aliases" into [routes]\n'
    assert capsys.readouterr() == ("", said)


@pytest.mark.parametrize("args", [("list",), ("add", "a@b.example", "c@d.example"), ("remove", "a@b.example")])
@pytest.mark.parametrize("what", ["folder", "pipe", "no toml"])
def test_what_is_no_table_is_one_line(
    folder: Path, ran: Run, capsys: pytest.CaptureFixture[str], args: tuple[str, ...], what: str
) -> None:
    path = folder / "aliases"
    if what == "no toml":
        (folder / "relay.toml").write_text(CONFIG.replace('"aliases"', '"aliases.toml"'))
        path.rename(folder / "aliases.toml")
    else:
        path.unlink()
        path.mkdir() if what == "folder" else os.mkfifo(path)
    assert ran(*args) == 1
    out, err = capsys.readouterr()
    assert out == "" and err.count("\n") == 1 and str(path) in err


def test_a_toml_file_keeps_its_comments(folder: Path, ran: Run, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "relay.toml").write_text(CONFIG.replace('"aliases"', '"aliases.toml"'))
    path = folder / "aliases.toml"
    before = '# people\n"alice@fwd.example" = "carol@ext.example" # for now\n'
    path.write_text(before)
    assert ran("add", "bob@fwd.example", "b@ext.example", "c@ext.example") == 0
    assert path.read_text() == f'{before}"bob@fwd.example" = ["b@ext.example", "c@ext.example"]\n'
    capsys.readouterr()
    assert ran("list", "--json", "bob*") == 0
    entry = {"address": "bob@fwd.example", "targets": ["b@ext.example", "c@ext.example"], "reject": None, "line": None}
    assert json.loads(capsys.readouterr().out) == [entry]
    assert ran("remove", "bob@fwd.example") == 0 and path.read_text() == before


def test_commands_at_the_same_time_lose_nothing(folder: Path) -> None:
    def add(number: int) -> subprocess.CompletedProcess[bytes]:
        address = f"user{number}@fwd.example"
        command = [sys.executable, "-m", "relay", "aliases", "add", address, "x@ext.example"]
        return subprocess.run([*command, "--config", str(folder / "relay.toml")], capture_output=True, timeout=60)

    with ThreadPoolExecutor(3) as pool:
        assert [done.returncode for done in pool.map(add, range(9))] == [0] * 9
    lines = (folder / "aliases").read_bytes().splitlines()
    assert lines[:7] == ALIASES.splitlines()
    assert sorted(lines[7:]) == [f"user{number}@fwd.example    x@ext.example".encode() for number in range(9)]
