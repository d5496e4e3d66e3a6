"""Domain routes: which users exist, by a file, by callout, or all of them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from relay.config.sections import RoutesSection
from relay.deliver.classify import classify
from relay.mail.outcome import Outcome
from relay.mail.reply import Refused
from relay.network import Endpoint
from relay.rate import TokenBuckets
from relay.route.domain_routes import DomainTable
from relay.route.domain_users import parse_recipients
from relay.route.tables import read_tables
from relay.table_files.reloaded_file import look

USERS = """\
# users of example.org
bob
Carol@Example.org
ann@other.example
dave@example.org  OK
"quoted user"
list+owner
jörg@example.org
"""


async def probe(next_hop: Endpoint, address: str) -> Outcome:
    known = address == "eve@asked.example"
    return classify("rcpt", 250 if known else 550, "")


def rewrite(path: Path, text: str | bytes) -> None:
    """Change the file as if that had been long ago."""
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    os.utime(path, (1, 1))


@pytest.fixture
def users(tmp_path: Path) -> Path:
    path = tmp_path / "users"
    path.write_text(USERS)
    return path


@pytest.fixture
def table(users: Path) -> DomainTable:
    routes = RoutesSection.model_validate(
        {
            "domains": {
                "Example.ORG": {"recipients": str(users), "next_hop": "lmtp://10.0.0.5:24"},
                "other.example": {"recipients": str(users)},
                "asked.example": {"recipients": "callout", "next_hop": "smtp://10.0.0.6"},
                "any.example": {"recipients": "any"},
            }
        }
    )
    return DomainTable(routes, read_tables(routes, ()).recipients, probe, TokenBuckets(60, 100))


@pytest.mark.parametrize(
    ("address", "accepted"),
    [
        ("bob@example.org", True),
        ("BOB@Example.Org", True),
        ('"bob"@example.org', True),
        ("bob+detail@example.org", True),
        ("carol@example.org", True),
        ("dave@example.org", True),
        ('"quoted user"@example.org', True),
        ("list+owner@example.org", True),
        ("list@example.org", False),
        ("jörg@example.org", True),
        ("ann@example.org", False),
        ("+bob@example.org", False),
        ("@example.org", False),
        ("ann@other.example", True),
        ("carol@other.example", False),
        ("bob@other.example", True),
        ("eve@asked.example", True),
        ("mallory@asked.example", False),
        ("anyone@any.example", True),
    ],
)
async def test_users(table: DomainTable, address: str, accepted: bool) -> None:
    try:
        await table.accepts(address, "")
    except Refused as refused:
        assert not accepted, refused
        assert (refused.reply.code, refused.reply.enhanced) == (550, "5.1.1")
    else:
        assert accepted


@pytest.mark.parametrize(
    ("address", "listed"),
    [("bob@example.org", True), ("bob+x@example.org", False), ("eve@asked.example", False), ("x@none.example", False)],
)
async def test_only_a_file_lists_users(table: DomainTable, address: str, listed: bool) -> None:
    assert await table.lists(address) is listed


def test_routes(table: DomainTable) -> None:
    route = table.route_for("example.org")
    assert route is not None
    assert str(route.next_hop) == "lmtp://10.0.0.5:24"
    assert table.route_for("none.example") is None
    assert table.domains == {"example.org", "other.example", "asked.example", "any.example"}


async def test_the_file_is_followed(users: Path) -> None:
    routes = RoutesSection.model_validate({"domains": {"example.org": {"recipients": str(users)}}})
    tables = read_tables(routes, ())
    table = DomainTable(routes, tables.recipients, probe, TokenBuckets(60, 100))
    rewrite(users, "newcomer\n")
    look(tables.files)
    await table.accepts("newcomer@example.org", "")
    with pytest.raises(Refused):
        await table.accepts("bob@example.org", "")


async def test_users_with_odd_addresses_are_found_in_every_form(users: Path) -> None:
    rewrite(users, '"taro..y."@example.org. OK\n..hana OK\n"a b" OK\njiro.@example.org OK\n"\\k.o"@example.org\n')
    routes = RoutesSection.model_validate({"domains": {"example.org": {"recipients": str(users)}}})
    table = DomainTable(routes, read_tables(routes, ()).recipients, probe, TokenBuckets(60, 100))
    for local in ('"taro..y."', "taro..y.", '"..hana"', '"..hana+x"', '"a b"', '"jiro."', "k.o"):
        await table.accepts(f"{local}@example.org", "")
    for local in ("taro.y", "hana", "jiro"):
        with pytest.raises(Refused):
            await table.accepts(f"{local}@example.org", "")


@pytest.mark.parametrize("text", ["@example.org OK\n", "bob OK\n@Example.ORG. OK\n@other.example OK\n"])
async def test_a_domain_in_the_file_is_every_address_of_it(users: Path, text: str) -> None:
    rewrite(users, text)
    routes = RoutesSection.model_validate(
        {"domains": {"example.org": {"recipients": str(users)}, "third.example": {"recipients": str(users)}}}
    )
    table = DomainTable(routes, read_tables(routes, ()).recipients, probe, TokenBuckets(60, 100))
    await table.accepts("anyone+at-all@example.org", "")
    assert not await table.lists("anyone@example.org")
    with pytest.raises(Refused):
        await table.accepts("anyone@third.example", "")


@pytest.mark.parametrize("line", ["b(c", "@example..org", "bob@", "j\udcf6rg", "b\x00b", "b(c@example.org"])
async def test_a_bad_line_is_named_and_may_be_any_user_who_is_not_listed(users: Path, line: str) -> None:
    rewrite(users, f"bob\n{line} OK\nann\n".encode(errors="surrogateescape"))
    routes = RoutesSection.model_validate({"domains": {"example.org": {"recipients": str(users)}}})
    with capture_logs() as logs:
        tables = read_tables(routes, ())
    assert [entry["at"] for entry in logs] == [f"{users}:2"]
    assert tables.bad_lines == {str(users): 1}
    table = DomainTable(routes, tables.recipients, probe, TokenBuckets(60, 100))
    for user in ("bob", "bob+x", "ann"):
        await table.accepts(f"{user}@example.org", "")
    with pytest.raises(Refused) as refused:
        await table.accepts("carol@example.org", "")
    assert (refused.value.reply.code, refused.value.reply.enhanced) == (451, "4.3.5")


def test_a_bad_line_about_another_domain_is_not_ours() -> None:
    recipients = parse_recipients("bob\nb(c@other.example\n# B\udcfcro\nann B\udcfcro\n", "users", "example.org")
    assert recipients.bad.lines == () and recipients.users == {"bob@example.org", "ann@example.org"}


def test_a_file_without_one_line_that_can_be_read_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^users:2: b\(c: "):
        parse_recipients("\nb(c\nd(e\n", "users", "example.org")
    assert parse_recipients("# nobody yet\n", "users", "example.org").users == frozenset()


def test_callout_needs_a_host_to_ask() -> None:
    with pytest.raises(ValueError, match='recipients = "callout" needs next_hop'):
        RoutesSection.model_validate({"domains": {"example.org": {"recipients": "callout"}}})
