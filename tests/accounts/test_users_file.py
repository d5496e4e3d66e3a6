"""The file of users: its lines, its bad ones, and which names are the same."""

from __future__ import annotations

from collections.abc import MutableMapping
from typing import Any

import pytest
import structlog.testing

from relay.accounts.password_hash import costs_of
from relay.accounts.users_file import parse_users
from tests.accounts.hashes import cheap

HASH = cheap("x")


def test_lines_comments_and_blank_lines() -> None:
    users = parse_users(f"# people\n\nalice:{HASH}\r\n  bob@b\u00fccher.example:{HASH}  \n\t# no\n", "users")
    assert [user.name for user in users.by_key.values()] == ["alice", "bob@b\u00fccher.example"] and not users.bad.lines
    for name in ("alice", "ALICE", "bob@xn--bcher-kva.example", "Bob@B\u00dcCHER.example"):
        assert users.find(name) is not None
    assert users.find("bob") is users.find("") is users.find("#") is None


def test_an_empty_file_has_no_users() -> None:
    assert not parse_users("# nobody yet\n", "users").by_key


@pytest.fixture
def log() -> Any:
    with structlog.testing.capture_logs() as lines:
        yield lines


def test_bad_lines_are_named_and_skipped_and_never_shown(log: list[MutableMapping[str, Any]]) -> None:
    text = (
        f"alice:{HASH}\nhunter2\nbob:hunter3\nALICE:{HASH}\na b:{HASH}\n:{HASH}\ncarol:\nx@y@z:{HASH}\n\udcff:{HASH}\n"
    )
    users = parse_users(text, "users")
    assert list(users.by_key) == ["alice"]
    assert [line.where for line in users.bad.lines] == [f"users:{number}" for number in range(2, 10)]
    assert len(log) == 8 and "hunter" not in str(log) and HASH not in str(log)
    assert log[1]["problem"] == "bob: what follows the name is no Argon2 hash"


def test_a_file_of_bad_lines_only_is_none() -> None:
    with pytest.raises(ValueError, match=r"^users:2: bob: "):
        parse_users("\nbob:hunter3\n", "users")


def test_a_stranger_costs_what_most_users_do() -> None:
    text = f"a:{cheap('x', memory_cost=64)}\nb:{cheap('x', memory_cost=64)}\nc:{HASH}\n"
    assert costs_of(parse_users(text, "users").nobody).memory == 64


def test_nothing_prints_a_hash() -> None:
    assert "argon2" not in repr(parse_users(f"alice:{HASH}\n", "users"))
