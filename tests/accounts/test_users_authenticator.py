"""PLAIN and LOGIN against a file of users."""

from __future__ import annotations

from pathlib import Path

import pytest

from relay.accounts.hashing import Hashing
from relay.accounts.users_authenticator import UsersAuthenticator
from relay.accounts.users_file import parse_users
from relay.mail.envelope import Client
from relay.mail.reply import Refused
from relay.receive.authenticator import Challenge, LoggedIn, LoginFailed
from relay.table_files.reloaded_file import ReloadedFile
from tests.accounts.hashes import cheap

ALICE = "p\u00e4ss:w\u00f6rd"
CLIENT = Client("192.0.2.1", 4000, tls="TLSv1.3 x")


@pytest.fixture
def users(tmp_path: Path) -> UsersAuthenticator:
    path = tmp_path / "users"
    path.write_text(f"Alice:{cheap(ALICE)}\nbob@x.example:{cheap('b')}\n")
    return UsersAuthenticator(ReloadedFile(path, parse_users), Hashing())


async def plain(users: UsersAuthenticator, response: str | bytes) -> str:
    octets = response.encode() if isinstance(response, str) else response
    try:
        result = await users.login("PLAIN", CLIENT).step(octets)
    except LoginFailed as failed:
        return f"{failed.reply.code} {failed.user} {failed.known}"
    except Refused as refused:
        return str(refused.reply.code)
    assert isinstance(result, LoggedIn)
    return result.user


@pytest.mark.parametrize(
    ("response", "outcome"),
    [
        ("\0alice\0p\u00e4ss:w\u00f6rd", "Alice"),
        ("alice\0ALICE\0p\u00e4ss:w\u00f6rd", "Alice"),
        ("\0alice\0pa\u0308ss:wo\u0308rd", "Alice"),
        ("\0bob@X.example\0b", "bob@x.example"),
        ("bob@x.example\0alice\0p\u00e4ss:w\u00f6rd", "535 alice False"),
        ("\0alice\0b", "535 alice True"),
        ("\0alice\0", "535 alice True"),
        ("\0carol\0b", "535 carol False"),
        ("\0\0b", "535  False"),
        (b"\0alice\0\xff", "535  False"),
        ("", "501"),
        ("alice\0b", "501"),
        ("\0alice\0b\0c", "501"),
    ],
)
async def test_plain(users: UsersAuthenticator, response: str | bytes, outcome: str) -> None:
    assert await plain(users, response) == outcome


async def test_plain_without_an_initial_response(users: UsersAuthenticator) -> None:
    assert await users.login("PLAIN", CLIENT).step(None) == Challenge(b"")


@pytest.mark.parametrize("with_name", [False, True])
async def test_login(users: UsersAuthenticator, with_name: bool) -> None:
    login = users.login("LOGIN", CLIENT)
    if not with_name:
        assert await login.step(None) == Challenge(b"Username:")
    assert await login.step(b"alice") == Challenge(b"Password:")
    assert await login.step("p\u00e4ss:w\u00f6rd".encode()) == LoggedIn("Alice")


async def test_a_name_that_nobody_has_takes_a_comparison_as_well(users: UsersAuthenticator) -> None:
    compared = list[str]()

    def compare(hashed: str, password: str) -> bool:
        compared.append(hashed)
        return False

    users._hashing = Hashing(compare)
    for name in ("carol", "alice"):
        assert (await plain(users, f"\0{name}\0x")).startswith("535")
    assert [hashed.split("$")[3] for hashed in compared] == ["m=8,t=1,p=1"] * 2
