"""`srs-relay aliases test`: the way of an address, as the relay itself would decide it."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from relay import cli
from relay.deliver.host_failover import DeliveryAgent
from relay.mail.outcome import Outcome
from relay.network import Endpoint
from relay.srs import reply_address
from relay.srs.address import Scheme, forward, forward_token

SCHEME = Scheme(domain="srs.example", secrets=(b"tops3cr3ttops3cr3t",))
CONFIG = """\
hostname = "mx.fwd.example"
listen = [{address = "192.0.2.25:2525"}]
srs = {domain = "srs.example", secrets_file = "srs.secret"}
senders = {local_domains = ["fwd.example"]}
queue = {url = "sqlite:///queue.db"}
[routes]
aliases = "aliases"
postmaster = "admin@mailbox.example"
[routes.domains]
"listed.example" = {next_hop = "smtp://10.0.0.6", recipients = "users", srs = false}
"asked.example" = {next_hop = "lmtp://10.0.0.5:24", recipients = "callout", srs = "when-needed"}
"""
ALIASES = """\
alice@fwd.example    alice@mailbox.example
team@fwd.example     alice@fwd.example, bob@asked.example
half@fwd.example     nobody@fwd.example, alice@fwd.example
closed@fwd.example   REJECT has left
bad@fwd.example      "|command"
round@fwd.example    about@fwd.example
about@fwd.example    round@fwd.example
help@fwd.example     postmaster@fwd.example
back@fwd.example     {srs}
stale@fwd.example    SRS0=AAAA=2W=origin.example=joe@srs.example
@catch.example       any@ext.example
"""

Tested = Callable[..., dict[str, Any]]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    srs = forward("joe@origin.example", SCHEME, time.time())
    (tmp_path / "srs.secret").write_text("tops3cr3ttops3cr3t\n")
    (tmp_path / "aliases").write_text(ALIASES.format(srs=srs))
    (tmp_path / "users").write_text("joe\n")
    (tmp_path / "relay.toml").write_text(CONFIG)
    return tmp_path


@pytest.fixture
def tested(folder: Path, capsys: pytest.CaptureFixture[str]) -> Tested:
    """Runs the command with --json; the exit status says whether the address is accepted."""

    def run(*args: str) -> dict[str, Any]:
        status = cli.run(["aliases", "test", *args, "--json", "--config", str(folder / "relay.toml")])
        out, err = capsys.readouterr()
        found: dict[str, Any] = json.loads(out)
        assert (status, err) == (0 if found["accepted"] else 1, "")
        assert found["accepted"] is found["reply"].startswith("250")
        return found

    return run


def leaving(found: dict[str, Any]) -> list[tuple[str, str, object]]:
    return [(each["recipient"], each["next_hop"], each["srs"]) for each in found["deliveries"]]


def steps(found: dict[str, Any]) -> list[tuple[str, str, list[str]]]:
    return [(step["address"], step["how"], step["targets"]) for step in found["steps"]]


def test_an_alias_of_aliases(folder: Path, tested: Tested) -> None:
    found = tested("Team+x@fwd.example")
    assert (found["kind"], found["reply"], found["callout"]) == ("alias", "250 2.1.5 Ok", None)
    assert [(step["address"], step["entry"], step["at"]) for step in found["steps"]] == [
        ("Team+x@fwd.example", "team@fwd.example", f"{folder}/aliases:2"),
        ("alice+x@fwd.example", "alice@fwd.example", f"{folder}/aliases:1"),
    ]
    assert leaving(found) == [
        ("alice+x@mailbox.example", "mailbox.example", "always"),
        ("bob+x@asked.example", "lmtp://10.0.0.5:24", "when-needed"),
    ]


@pytest.mark.parametrize(
    ("address", "kind", "way", "recipients"),
    [
        (
            "half@fwd.example",
            "alias",
            ["half@fwd.example entry", "nobody@fwd.example nobody", "alice@fwd.example entry"],
            ["alice@mailbox.example"],
        ),
        (
            "help@fwd.example",
            "alias",
            ["help@fwd.example entry", "postmaster@fwd.example role"],
            ["admin@mailbox.example"],
        ),
        ("x@catch.example", "alias", ["x@catch.example entry"], ["any@ext.example"]),
        ("Postmaster", "postmaster", ["Postmaster role", "Postmaster@mx.fwd.example role"], ["admin@mailbox.example"]),
        (
            "abuse@[192.0.2.25]",
            "postmaster",
            ["abuse@[192.0.2.25] role", "abuse@mx.fwd.example role"],
            ["admin@mailbox.example"],
        ),
        ("joe+x@listed.example", "domain", [], ["joe+x@listed.example"]),
    ],
)
def test_what_is_accepted(tested: Tested, address: str, kind: str, way: list[str], recipients: list[str]) -> None:
    found = tested(address)
    assert found["kind"] == kind and [f"{step[0]} {step[1]}" for step in steps(found)] == way
    assert [each["recipient"] for each in found["deliveries"]] == recipients


@pytest.mark.parametrize(
    ("address", "reply", "way"),
    [
        ("nobody@fwd.example", "550 5.1.1", []),
        ("ann@listed.example", "550 5.1.1", []),
        ("x@foreign.example", "550 5.7.1", []),
        ("closed+x@fwd.example", "550 5.1.1 <closed+x@fwd.example>: has left", ["closed+x@fwd.example entry"]),
        ("bad@fwd.example", "451 4.3.5", ["bad@fwd.example entry"]),
        ("round@fwd.example", "451 4.4.6", ["round@fwd.example entry", "about@fwd.example entry"]),
    ],
)
def test_what_is_refused(tested: Tested, address: str, reply: str, way: list[str]) -> None:
    found = tested(address)
    assert found["reply"].startswith(reply) and found["kind"] is None and found["deliveries"] == []
    assert [f"{step[0]} {step[1]}" for step in steps(found)] == way
    places = [line["at"].rpartition(":")[2] for line in found["bad_lines"]]
    assert places == (["5"] if reply == "451 4.3.5" else [])


def test_a_return_address_says_whom_it_stands_for(tested: Tested) -> None:
    now = time.time()
    srs = forward("joe@origin.example", SCHEME, now)
    reply = str(reply_address.forward("ann@author.example", SCHEME))
    assert steps(tested(srs)) == [(srs, "srs", ["joe@origin.example"])]
    assert steps(tested(reply)) == [(reply, "reply", ["ann@author.example"])]
    behind = tested("back@fwd.example")
    assert [step[1:] for step in steps(behind)] == [("entry", [srs]), ("srs", ["joe@origin.example"])]
    stale = tested("stale@fwd.example")
    assert stale["reply"].startswith("550 5.1.1") and [step[1] for step in steps(stale)] == ["entry", "nobody"]
    forged = tested(srs.replace(srs[5:9], "AAAA"))
    assert forged["reply"].startswith("550 5.1.1") and "forged" in forged["reply"]


def test_a_bounce_is_for_an_address_that_takes_bounces_only(folder: Path, tested: Tested) -> None:
    path = folder / "relay.toml"
    path.write_text(CONFIG.replace('"srs.secret"}', '"srs.secret", accept = "null"}'))
    assert tested(forward("joe@origin.example", SCHEME, time.time()))["accepted"]


def test_a_stored_sender_needs_the_queue(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    address = forward_token("id7", SCHEME, time.time())
    assert cli.run(["aliases", "test", address, "--config", str(folder / "relay.toml")]) == 1
    out, err = capsys.readouterr()
    assert out == "" and err.startswith("srs-relay: queue: ") and err.count("\n") == 1
    assert not (folder / "queue.db").exists()


@pytest.mark.parametrize("exists", [True, False])
def test_the_mailbox_host_is_asked_on_demand_only(
    tested: Tested, monkeypatch: pytest.MonkeyPatch, exists: bool
) -> None:
    asked = list[str]()

    async def probe(agent: DeliveryAgent, endpoint: Endpoint, recipient: str) -> Outcome:
        asked.append(f"{endpoint} {recipient}")
        return Outcome("delivered", 250, "2.1.5", "Ok") if exists else Outcome("failed", 550, "5.1.1", "who?")

    monkeypatch.setattr(DeliveryAgent, "probe", probe)
    found = tested("bob@asked.example")
    assert found["accepted"] and found["callout"] == {"next_hop": "lmtp://10.0.0.5:24", "asked": False} and not asked
    found = tested("bob@asked.example", "--callout")
    assert found["callout"]["asked"] and asked == ["lmtp://10.0.0.5:24 bob@asked.example"]
    assert found["accepted"] is exists


SHOWN = """\
Accepted as an alias, and would leave for 2 addresses.
  team@fwd.example   alice@fwd.example, bob@asked.example (FOLDER/aliases:2)
  alice@fwd.example  alice@mailbox.example (FOLDER/aliases:1)
To alice@mailbox.example
  next hop  mailbox.example
  sender    an SRS address in the place of a foreign one
To bob@asked.example
  next hop  lmtp://10.0.0.5:24
  sender    an SRS address where SPF would fail for a foreign one
"""


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("team@fwd.example", SHOWN),
        (
            "half@fwd.example",
            "Accepted as an alias, and would leave for 1 address.\n"
            "  half@fwd.example    nobody@fwd.example, alice@fwd.example (FOLDER/aliases:3)\n"
            "  nobody@fwd.example  no such user here\n",
        ),
        (
            "bob@asked.example",
            "Accepted as a user of a domain route, and would leave for 1 address.\n"
            "  callout   lmtp://10.0.0.5:24 would be asked about this user: --callout does it\n",
        ),
        (
            "closed@fwd.example",
            "Refused: 550 5.1.1 <closed@fwd.example>: has left\n"
            "  closed@fwd.example  REJECT has left (FOLDER/aliases:4)\n",
        ),
        (
            "bad@fwd.example",
            "Deferred: 451 4.3.5 <bad@fwd.example>: the table of addresses here has a bad line, try again later\n"
            "  bad@fwd.example  a bad line (FOLDER/aliases:5)\n"
            '  bad line  FOLDER/aliases:5: "|command": a command is no address\n',
        ),
        (
            "joe@listed.example",
            "Accepted as a user of a domain route, and would leave for 1 address.\n"
            "To joe@listed.example\n"
            "  next hop  smtp://10.0.0.6:25\n"
            "  sender    stays as it is, for this route has srs = false\n",
        ),
    ],
)
def test_what_a_person_reads(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], address: str, shown: str
) -> None:
    monkeypatch.setenv("COLUMNS", "400")
    cli.run(["aliases", "test", address, "--config", str(folder / "relay.toml")])
    assert capsys.readouterr().out.replace(str(folder), "FOLDER").startswith(shown)


def test_a_bounce_leaves_without_a_sender(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    address = forward("joe@origin.example", SCHEME, time.time())
    assert cli.run(["aliases", "test", address, "--config", str(folder / "relay.toml")]) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "the SRS address of joe@origin.example" in out and "sender <>, for this is a bounce" in out
    assert "tops3cr3t" not in out


def test_the_way_without_aliases(folder: Path, tested: Tested) -> None:
    (folder / "relay.toml").write_text(CONFIG.replace('aliases = "aliases"\n', ""))
    assert tested("joe@listed.example")["accepted"]
    assert tested("alice@fwd.example")["reply"].startswith("550 5.7.1")
