"""`srs-relay users`: who may log in."""

from __future__ import annotations

import getpass
import io
import json
import sys
from pathlib import Path

import pytest

from relay import cli
from relay.accounts.password_hash import is_password

CONFIG = """\
hostname = "mx.fwd.example"
srs = {domain = "fwd.example", secrets_file = "srs.secret"}
senders = {local_domains = ["fwd.example"]}
listen = [{address = "127.0.0.1:2587", auth = "required"}]
tls = {certificate = "srs.secret", private_key = "srs.secret"}
auth = {users = "users", senders = "senders"}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "srs.secret").write_text("secret\n")
    (tmp_path / "senders").write_text("alice press@fwd.example @x.example\n")
    (tmp_path / "relay.toml").write_text(CONFIG)
    return tmp_path


class Input(io.TextIOWrapper):
    def __init__(self, octets: bytes, *, is_terminal: bool = False) -> None:
        super().__init__(io.BytesIO(octets), encoding="utf-8")
        self._is_terminal = is_terminal

    def isatty(self) -> bool:
        return self._is_terminal


@pytest.fixture
def ran(folder: Path, monkeypatch: pytest.MonkeyPatch) -> object:
    def run(*args: str, says: bytes = b"") -> int:
        monkeypatch.setattr(sys, "stdin", Input(says))
        return cli.run(["users", *args, "--config", str(folder / "relay.toml")])

    return run


def hash_of(folder: Path, name: str) -> str:
    lines = (folder / "users").read_text().splitlines()
    return next(line.partition(":")[2] for line in lines if line.startswith(f"{name}:"))


def test_a_user_from_beginning_to_end(folder: Path, ran: object, capsys: pytest.CaptureFixture[str]) -> None:
    assert callable(ran)
    assert ran("add", "alice", says="p\u00e4ss w\u00f6rd\r\nmore\n".encode()) == 0
    assert is_password(hash_of(folder, "alice"), "p\u00e4ss w\u00f6rd")
    assert ran("add", "bob@x.example", says=b"bob") == 0
    assert (folder / "users").stat().st_mode & 0o777 == 0o600
    assert capsys.readouterr().out == ""
    assert ran("list") == 0
    assert (
        capsys.readouterr().out
        == "alice: @x.example alice@fwd.example press@fwd.example\nbob@x.example: bob@x.example\n"
    )
    assert ran("list", "--json") == 0
    assert json.loads(capsys.readouterr().out)[1] == {"name": "bob@x.example", "senders": ["bob@x.example"]}
    assert ran("passwd", "Alice", says=b"new\n") == 0
    assert is_password(hash_of(folder, "alice"), "new")
    assert ran("remove", "alice") == ran("remove", "bob@x.example") == 0
    capsys.readouterr()
    assert ran("list") == 0 and capsys.readouterr().out == "no users\n"


@pytest.mark.parametrize(
    ("missing", "mend"),
    [
        ("users", "`srs-relay users add NAME --config {folder}/relay.toml` makes it"),
        ("senders", "`touch {folder}/senders` makes it"),
    ],
)
def test_a_file_that_is_missing_is_named_with_what_makes_it(
    folder: Path, ran: object, capsys: pytest.CaptureFixture[str], missing: str, mend: str
) -> None:
    assert callable(ran)
    assert ran("add", "alice", says=b"secret") == 0
    (folder / missing).unlink()
    capsys.readouterr()
    assert ran("list") == 1
    err = capsys.readouterr().err
    assert err.startswith(f"srs-relay: {folder}/{missing}: there is no such file; ") and err.count("\n") == 1
    assert mend.format(folder=folder) in err


@pytest.mark.parametrize(
    ("args", "says", "line"),
    [
        (("add", "alice"), b"x\n", "there is a user alice already; `srs-relay users passwd` changes the password"),
        (("add", "ALICE"), b"x\n", "there is a user ALICE already; `srs-relay users passwd` changes the password"),
        (("add", "bob"), b"\n", "the password is empty; nothing was changed"),
        (("add", "bob"), b"", "the password is empty; nothing was changed"),
        (("add", "bob"), b"\xff\n", "the password is not UTF-8; nothing was changed"),
        (("add", "bob"), b"a\0b\n", "the password has control characters; nothing was changed"),
        (("passwd", "bob"), b"x\n", "there is no user bob; `srs-relay users list` names them"),
        (("remove", "bob"), b"", "there is no user bob; `srs-relay users list` names them"),
        (
            ("add", "a:b"),
            b"x\n",
            "'a:b': a name has no colon, no white space, no control characters, and no # in front",
        ),
        (("add", "a\tb"), b"x\n", None),
    ],
)
def test_what_cannot_be_done_is_one_line(
    folder: Path, ran: object, capsys: pytest.CaptureFixture[str], args: tuple[str, ...], says: bytes, line: str | None
) -> None:
    assert callable(ran)
    assert ran("add", "alice", says=b"secret") == 0
    before = (folder / "users").read_bytes()
    capsys.readouterr()
    assert ran(*args, says=says) == 1
    out, err = capsys.readouterr()
    assert out == "" and err.count("\n") == 1 and (line is None or err == f"srs-relay: {line}\n")
    assert (folder / "users").read_bytes() == before


@pytest.mark.parametrize("again", ["secret", "secrte"])
def test_a_terminal_is_asked_twice_without_echo(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], again: str
) -> None:
    answers = ["secret", again]
    monkeypatch.setattr(sys, "stdin", Input(b"", is_terminal=True))
    monkeypatch.setattr(getpass, "getpass", lambda prompt: answers.pop(0))
    status = cli.run(["users", "add", "alice", "--config", str(folder / "relay.toml")])
    assert (status, (folder / "users").exists()) == ((0, True) if again == "secret" else (1, False))
    assert "secret" not in "".join(capsys.readouterr())


@pytest.mark.parametrize(
    ("auth", "line"),
    [
        ("", 'there is no table [auth]: write it with users = "users"'),
        ('auth = {dovecot = "/run/dovecot/auth-client"}', "auth.dovecot checks the passwords, so the users are"),
    ],
)
def test_without_a_file_of_users(
    folder: Path, ran: object, capsys: pytest.CaptureFixture[str], auth: str, line: str
) -> None:
    assert callable(ran)
    text = CONFIG.replace('auth = {users = "users", senders = "senders"}', auth).replace(', auth = "required"', "")
    (folder / "relay.toml").write_text(text)
    assert ran("add", "alice", says=b"x") == 1
    assert line in capsys.readouterr().err
