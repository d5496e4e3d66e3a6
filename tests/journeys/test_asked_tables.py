"""Aliases, recipients and access tables in databases and regexp tables, at the SMTP door: there, changed, and away."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.journeys.clients import Dialogue
from tests.journeys.relay_process import RelayProcess
from tests.journeys.sinks import RecordingSink
from tests.journeys.world import MAILBOX, SENDER, World
from tests.peers import free_port, needs, wait_until
from tests.postgresql import PostgresServer

pytestmark = pytest.mark.slow

ANN = "ann@sender.example"
LETTER = b"From: ann@sender.example\r\nSubject: tables\r\n\r\nHello\r\n"
ACCEPTED, UNKNOWN, DENIED, AWAY, BAD = (250, "2.1.5"), (550, "5.1.1"), (550, "5.7.1"), (451, "4.3.0"), (451, "4.3.5")
TABLES = {
    "aliases": {
        "alice@fwd.example": "carol@mailbox.example",
        "team@fwd.example": "alice@fwd.example, dave+x@mailbox.example",
        "nest@fwd.example": "team@fwd.example",
        "closed@fwd.example": "carol@mailbox.example",
        "gone@fwd.example": "REJECT gone for good",
        "broken@fwd.example": "(",
        "loop@fwd.example": "pool@fwd.example",
        "pool@fwd.example": "loop@fwd.example",
        "o'neil@fwd.example": "carol@mailbox.example",
        "alice@other.example": "carol@mailbox.example",
        "@catch.example": "rest@mailbox.example",
        "named@catch.example": "carol@mailbox.example",
    },
    "users": {"bob@corp.example": "1"},
    "access": {
        "blocked.example": "REJECT not you",
        "held.example": "HOLD",
        "fine@blocked.example": "DUNNO",
        "nonsense.example": "FROBNICATE",
        "closed@fwd.example": "REJECT closed",
    },
}


class Databases:
    """The tables in one of the databases."""

    def __init__(self, folder: Path, server: PostgresServer | None) -> None:
        self._file, self._server = folder / "tables.sqlite", server
        self.url = f"sqlite:///{self._file}" if server is None else server.create_database()
        for name, rows in TABLES.items():
            self.do(f"CREATE TABLE {name} (address text PRIMARY KEY, value text)")
            for row in rows.items():
                self.put(name, *row)

    def do(self, statement: str) -> None:
        if self._server is not None:
            self._server.sql(statement, self.url.rpartition("/")[2])
            return
        with sqlite3.connect(self._file) as connection:
            connection.execute(statement)

    def put(self, table: str, address: str, value: str) -> None:
        cells = ", ".join("'" + cell.replace("'", "''") + "'" for cell in (address, value))
        self.do(f"INSERT INTO {table} VALUES ({cells})")

    def source(self, table: str, select: str = "value") -> dict[str, str]:
        return {"url": self.url, "query": f"SELECT {select} FROM {table} WHERE address = '%s'"}

    @property
    def name(self) -> str:
        """As the log and `aliases test` have it."""
        return self.url.replace("relay@", "").replace(f":{self._server.port}", "") if self._server else self.url

    def leave(self) -> None:
        if self._server is not None:
            self._server.stop()
        else:
            self._file.rename(self._file.with_suffix(".away"))

    def come_back(self) -> None:
        if self._server is not None:
            self._server.start()
        else:
            self._file.with_suffix(".away").rename(self._file)


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    with PostgresServer() as server:
        yield server


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=needs("postgres"))])
def databases(request: pytest.FixtureRequest, tmp_path: Path) -> Databases:
    return Databases(tmp_path, None if request.param == "sqlite" else request.getfixturevalue("server"))


VIRTUAL = "/^(list)-(.*)@fwd\\.example$/ $2@mailbox.example\n"


def started(
    world: World, databases: Databases, *, mode: str = "queue", virtual: str = VIRTUAL, **tables: Any
) -> RelayProcess:
    recipients_access = {} if "senders" in tables else {"access": databases.source("access")}
    routes: Mapping[str, Any] = {
        "aliases": ["aliases", databases.source("aliases"), "regexp:virtual.re"],
        "alias_domains": ["fwd.example", "catch.example"],
        "domains": {
            "corp.example": {
                "next_hop": f"smtp://{MAILBOX}:{world.port}",
                "recipients": [databases.source("users"), "regexp:users.re"],
            }
        },
        **recipients_access,
    }
    laid_over: dict[str, Any] = {"delivery": {"mode": mode}, "senders": {"access": databases.source("access")}}
    laid_over |= tables
    return world.relay(
        aliases="file@fwd.example carol@mailbox.example\n",
        files={
            "virtual.re": virtual,
            "users.re": "/^team-[0-9]+@/ yes\n",
        },
        routes=routes,
        http={"address": f"127.0.0.1:{free_port()}"},
        **laid_over,
    )


def heard(relay: RelayProcess, recipient: str, sender: str = ANN) -> tuple[int, str]:
    with Dialogue((relay.address, relay.port)) as session:
        return session.offer(sender, recipient)[:2]


HEARD = [
    ("file@fwd.example", ACCEPTED),
    ("alice@fwd.example", ACCEPTED),
    ("Alice+detail@FWD.example", ACCEPTED),
    ("nest@fwd.example", ACCEPTED),
    ("o'neil@fwd.example", ACCEPTED),
    ("alice@other.example", DENIED),
    ("anyone@catch.example", ACCEPTED),
    ("list-erik@fwd.example", ACCEPTED),
    ("postmaster@fwd.example", UNKNOWN),
    ("gone@fwd.example", UNKNOWN),
    ("loop@fwd.example", (451, "4.4.6")),
    ("broken@fwd.example", BAD),
    ("nobody@fwd.example", UNKNOWN),
    ("x'or'1'='1@fwd.example", UNKNOWN),
    ("x'or'1'='1@elsewhere.example", DENIED),
    ("%s@fwd.example", (550, "5.7.1")),
    ("closed@fwd.example", DENIED),
    ("bob@corp.example", ACCEPTED),
    ("bob+x@corp.example", ACCEPTED),
    ("team-7@corp.example", ACCEPTED),
    ("team-x@corp.example", UNKNOWN),
]


def test_what_is_heard_of_recipients(world: World, databases: Databases) -> None:
    world.start(RecordingSink(MAILBOX, world.port))
    relay = started(world, databases)
    assert [(recipient, heard(relay, recipient)) for recipient, _ in HEARD] == HEARD


def test_a_bad_line_of_a_regexp_table_is_for_what_no_line_before_it_matches(world: World, databases: Databases) -> None:
    world.start(RecordingSink(MAILBOX, world.port))
    relay = started(world, databases, virtual="/^early@/ x@mailbox.example\n/(/ x\n/^late@/ x@mailbox.example\n")
    wanted = {"early@fwd.example": ACCEPTED, "late@fwd.example": BAD, "alice@fwd.example": ACCEPTED}
    wanted |= {"file@fwd.example": ACCEPTED, "x@elsewhere.example": DENIED}
    assert {recipient: heard(relay, recipient) for recipient in wanted} == wanted


def test_what_is_heard_of_senders(world: World, databases: Databases) -> None:
    world.start(RecordingSink(MAILBOX, world.port))
    relay = started(world, databases)
    wanted = {
        "x@blocked.example": DENIED,
        "x@sub.blocked.example": DENIED,
        "fine@blocked.example": ACCEPTED,
        "x@nonsense.example": BAD,
        "x@held.example": ACCEPTED,
        "": ACCEPTED,
    }
    assert {sender: heard(relay, "alice@fwd.example", sender) for sender in wanted} == wanted
    assert {event["table"] for event in relay.events("access")} == {"senders.access"}


@pytest.mark.parametrize("mode", ["queue", "in-session"])
def test_mail_goes_where_the_tables_say(world: World, databases: Databases, mode: str) -> None:
    sink = world.start(RecordingSink(MAILBOX, world.port))
    relay = started(world, databases, mode=mode)
    for recipient in ("nest@fwd.example", "list-erik@fwd.example", "anyone@catch.example"):
        with Dialogue((relay.address, relay.port)) as session:
            assert session.deliver(ANN, recipient, LETTER).code == 250
    relay.wait_for_empty_queue()
    arrived = sorted(name for message in sink.wait(3) for name in message.recipients)
    assert arrived == [
        "carol@mailbox.example",
        "dave+x@mailbox.example",
        "erik@mailbox.example",
        "rest@mailbox.example",
    ]


def test_a_database_that_is_away_defers_and_comes_back(world: World, databases: Databases) -> None:
    """What was asked within the last minute is still known; what waits in the queue needs no table."""
    sink = world.start(RecordingSink(MAILBOX, world.port))
    relay = started(world, databases, workers=1)
    assert heard(relay, "alice@fwd.example") == heard(relay, "bob@corp.example") == ACCEPTED
    with Dialogue((relay.address, relay.port)) as session:
        assert session.deliver(ANN, "nest@fwd.example", LETTER).code == 250
    sink.wait(1)
    databases.leave()
    assert heard(relay, "alice@fwd.example") == heard(relay, "bob@corp.example") == ACCEPTED
    away = ["unasked@fwd.example", "unasked@corp.example", "list-zoe@fwd.example"]
    assert {recipient: heard(relay, recipient) for recipient in away} == dict.fromkeys(away, AWAY)
    assert heard(relay, "alice@fwd.example", "new@unasked.example") == AWAY
    assert heard(relay, "x@elsewhere.example") == DENIED
    shown = json.loads(relay.command("aliases", "test", "other@fwd.example", "--json").stdout)
    assert shown["reply"].startswith("451 4.3.0") and databases.name in shown["away"]
    assert relay.command("check", "--only", "files").returncode == 1
    assert {event["table"] for event in relay.events("table_away")} == {databases.name}
    assert 1 <= len(relay.events("table_away")) <= 3, "once for each query"
    assert 'srs_relay_database_lookups_total{result="failed"}' in relay.http("/metrics")[1]
    databases.come_back()
    wait_until(lambda: heard(relay, "unasked@fwd.example") == UNKNOWN, "answers again")
    assert relay.events("table_back")
    assert relay.command("check", "--only", "files").returncode == 0


def test_many_sessions_ask_once(world: World, databases: Databases) -> None:
    world.start(RecordingSink(MAILBOX, world.port))
    relay = started(world, databases, workers=1, limits={"connections_per_client": 400})
    with ThreadPoolExecutor(50) as threads:
        answers = list(threads.map(lambda _: heard(relay, "nest@fwd.example"), range(300)))
    assert set(answers) == {ACCEPTED}
    counts = dict(line.split() for line in relay.http("/metrics")[1].splitlines() if "database_lookups_total{" in line)
    asked = sum(float(counts[f'srs_relay_database_lookups_total{{result="{each}"}}']) for each in ("found", "notfound"))
    assert asked < 30, counts


def test_the_way_of_an_address_names_its_tables(world: World, databases: Databases) -> None:
    world.start(RecordingSink(MAILBOX, world.port))
    relay = started(world, databases)
    way = json.loads(relay.command("aliases", "test", "nest@fwd.example", "--json").stdout)
    assert [(step["address"], step["at"]) for step in way["steps"][:2]] == [
        ("nest@fwd.example", databases.name),
        ("team@fwd.example", databases.name),
    ]
    way = json.loads(relay.command("aliases", "test", "list-erik@fwd.example", "--json").stdout)
    assert way["steps"][0]["at"] == f"{relay.folder}/virtual.re:1"
    way = json.loads(relay.command("aliases", "test", "file@fwd.example", "--json").stdout)
    assert way["steps"][0]["at"] == f"{relay.folder}/aliases:1"
    listed = relay.command("aliases", "list")
    assert listed.stdout.split() == ["file@fwd.example", "carol@mailbox.example"]


def test_a_reload_opens_the_tables_anew(world: World, databases: Databases) -> None:
    world.start(RecordingSink(MAILBOX, world.port))
    relay = started(world, databases)
    assert heard(relay, "new@fwd.example") == UNKNOWN
    databases.put("aliases", "new@fwd.example", "carol@mailbox.example")
    os.kill(relay.pid, signal.SIGHUP)
    wait_until(lambda: heard(relay, "new@fwd.example") == ACCEPTED, "the new alias")


def test_explain_names_the_table_of_each_step(world: World, databases: Databases) -> None:
    world.start(RecordingSink(MAILBOX, world.port))
    relay = started(world, databases)
    (relay.folder / "letter").write_bytes(LETTER)
    letter = str(relay.folder / "letter")
    options = ["--ip", "127.0.0.1", "--from", ANN, "--to", "nest@fwd.example", "--to", "list-zoe@fwd.example"]
    shown = relay.command("explain", *options, letter).stdout
    flat = " ".join(shown.split())
    assert f"nest@fwd.example is in {databases.name}" in flat
    assert "list-zoe@fwd.example is in" in flat and "virtual.re:1" in "".join(shown.split())
    found = json.loads(relay.command("explain", "--json", *options, letter).stdout)
    assert f"team@fwd.example is in {databases.name}" in found["tables"]


def test_a_bounce_to_an_alias_waits_for_the_database(world: World, databases: Databases) -> None:
    refused = {"erik@mailbox.example": "550 5.1.1 no such user"}
    sink = world.start(RecordingSink(MAILBOX, world.port, refused=refused))
    home = world.start(RecordingSink(SENDER, world.port))
    relay = started(
        world, databases, workers=1, clients={"trusted": ["127.0.0.0/8"]}, senders={"local_domains": ["fwd.example"]}
    )
    with Dialogue((relay.address, relay.port)) as session:
        assert session.deliver(ANN, "list-erik@fwd.example", LETTER).code == 250
    home.wait(1)
    relay.wait_for_empty_queue()
    databases.leave()
    with Dialogue((relay.address, relay.port)) as session:
        assert session.deliver("alice@fwd.example", "list-erik@fwd.example", LETTER).code == 250
    wait_until(lambda: relay.events("outcome_put_off"), "the refusal, and nobody who could be told of it")
    assert [one["state"] for one in relay.queue()] == ["queued"]
    databases.come_back()
    wait_until(lambda: heard(relay, "unasked@fwd.example") == UNKNOWN, "answers again")
    assert relay.command("queue", "retry", "--all").returncode == 0
    assert sink.wait(1)[0].recipients == ("carol@mailbox.example",)
    relay.wait_for_empty_queue()


@needs("postgres")
def test_a_server_that_hangs_holds_up_only_who_needs_it(world: World, server: PostgresServer, tmp_path: Path) -> None:
    world.start(RecordingSink(MAILBOX, world.port))
    databases = Databases(tmp_path, server)
    relay = started(world, databases, workers=1)
    assert heard(relay, "alice@fwd.example") == ACCEPTED
    with server.frozen(), ThreadPoolExecutor(40) as threads:
        started_at = time.monotonic()
        hanging = [threads.submit(heard, relay, f"unasked{number}@fwd.example") for number in range(40)]
        wait_until(lambda: len(relay.events("mail")) > 40, "all of them at RCPT")
        assert heard(relay, "alice@fwd.example") == ACCEPTED
        assert time.monotonic() - started_at < 3
        assert {each.result() for each in hanging} == {AWAY}
        assert time.monotonic() - started_at < 9, "all have waited at the same time, 5 s"
    wait_until(lambda: heard(relay, "unasked@fwd.example") == UNKNOWN, "answers again")
