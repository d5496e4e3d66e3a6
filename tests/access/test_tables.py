"""Access tables in databases and regexp tables: which keys they are asked, in which order, and what counts."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from relay.access.access_file import parse_access
from relay.access.tables import CLIENTS, RECIPIENTS, SENDERS, AccessSource, AccessTables, Decision
from relay.authenticate.iprev import Iprev
from relay.lookup.regexp import RegexpFile, parse_regexp
from relay.lookup.source import Found, SourceUnavailable
from relay.mail.envelope import Client
from relay.table_files.reloaded_file import ReloadedFile


class Database:
    name = "db"

    def __init__(self, rows: Mapping[str, str], problem: str = "") -> None:
        self.rows, self.problem, self.asked = rows, problem, list[str]()

    async def get(self, key: str) -> Found | None:
        self.asked.append(key)
        if self.problem:
            raise SourceUnavailable(self.problem)
        return Found(self.rows[key], "db") if key in self.rows else None


async def client(*sources: AccessSource, ip: str = "192.0.2.7", name: str = "") -> Decision | None:
    async def reverse() -> Iprev | None:
        return Iprev("pass", name) if name else None

    return await AccessTables({CLIENTS: sources}).client(Client(ip, 25), reverse)


def said(decision: Decision | None) -> str:
    return "" if decision is None else f"{decision.action.verb} {decision.action.text} {decision.action.reply}".strip()


def regexp(path: Path, text: str) -> RegexpFile:
    path.write_text(text)
    return RegexpFile(ReloadedFile(path, parse_regexp))


async def test_the_keys_of_a_client() -> None:
    database = Database({})
    assert await client(database, name="a.b.example") is None
    names = ["a.b.example", ".b.example", "b.example", ".example", "example"]
    assert database.asked == [*names, "192.0.2.7", "192.0.2", "192.0", "192"]
    database = Database({"2001:db8": "REJECT six"})
    assert said(await client(database, ip="2001:db8:0:1::7")).startswith("REJECT six")


async def test_the_keys_of_an_address() -> None:
    database = Database({})
    tables = AccessTables({SENDERS: [database], RECIPIENTS: [database]})
    assert await tables.sender("Ann+x@B.example") is None
    names = ["ann+x@b.example", "ann@b.example", "b.example", ".example", "example", "ann+x@", "ann@"]
    assert database.asked == names
    database.asked.clear()
    assert await tables.sender("") is None
    assert database.asked == ["<>"]
    database.asked.clear()
    await tables.recipient("Ann@b.example")
    assert database.asked[0] == "ann@b.example"


async def test_a_pattern_sees_whole_names_and_addresses(tmp_path: Path) -> None:
    table = regexp(tmp_path / "re", "/^b\\.example$|^192\\.0\\.2$/ REJECT part\n/^(pool)-/ REJECT no $1\n/^<>$/ HOLD\n")
    assert await client(table, name="a.b.example") is None
    assert said(await client(table, name="pool-7.isp.example")).startswith("REJECT no pool")
    assert said(await AccessTables({SENDERS: [table]}).sender("")).startswith("HOLD")


async def test_the_first_table_that_says_something_counts(tmp_path: Path) -> None:
    path = tmp_path / "clients"
    path.write_text("192.0.2.0/24 REJECT file\n192.0.2.8 DUNNO\n")
    file, database = ReloadedFile(path, parse_access), Database({"192.0.2": "DEFER db"})
    assert said(await client(file, database)).startswith("REJECT file")
    assert database.asked == []
    assert said(await client(database, file)).startswith("DEFER db")
    assert said(await client(file, database, ip="192.0.2.8")).startswith("DEFER db"), "DUNNO ends one table only"


@pytest.mark.parametrize("problem", ["away"])
async def test_one_that_is_away_defers_and_nobody_is_asked_in_its_place(problem: str, tmp_path: Path) -> None:
    behind = Database({"192.0.2.7": "OK"})
    decision = await client(Database({}, problem), behind)
    assert decision is not None and decision.action.reply is not None
    assert (decision.action.reply.code, decision.action.reply.enhanced) == (451, "4.3.0")
    assert behind.asked == []


@pytest.mark.parametrize("value", ["FROBNICATE", "RELAY", "PREPEND X: y", "REJECT 4.2.0 no"])
async def test_a_value_that_is_no_action_defers(value: str) -> None:
    decision = await client(Database({"192.0.2.7": value}))
    assert decision is not None and decision.action.reply is not None
    assert (decision.action.reply.code, decision.action.reply.enhanced) == (451, "4.3.5")
