"""`srs-relay users …`: who may log in: adds, lists and removes users, and changes their passwords.

A running relay reads the file again within two seconds.
"""

from __future__ import annotations

import getpass
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from relay.accounts import users_edit
from relay.accounts.account_files import read_account_files
from relay.accounts.names import check_name
from relay.accounts.password_hash import hash_password, prepared
from relay.accounts.user_senders import UserSenders
from relay.accounts.users_edit import UsersEditError
from relay.cli.errors import CommandFailed
from relay.cli.options import ConfigFile
from relay.config.file import load
from relay.config.missing_files import missing_file_mend
from relay.config.model import Config
from relay.mail.visible import visible

app = typer.Typer(no_args_is_help=True, help="Users who may log in: add, list and remove them, change passwords.")

Name = Annotated[str, typer.Argument(metavar="NAME", help="The name with which the user logs in.")]
Json = Annotated[bool, typer.Option("--json", help="Machine-readable output.")]


@app.command()
def add(name: Name, config: ConfigFile = None) -> None:
    """Add a user.

    The password is asked for twice on a terminal; otherwise it is the first line of the standard input.
    """
    path = _users_file(load(config, require_files=False))
    try:
        check_name(name)  # before anybody types a password
    except ValueError as error:
        raise CommandFailed(f"{name!r}: {error}") from None
    _edited(lambda: users_edit.add(path, name, hash_password(_new_password(name))))
    print(f"added {visible(name)} to {path}", file=sys.stderr)


@app.command("list")
def list_(config: ConfigFile = None, as_json: Json = False) -> None:
    """Every user, with the senders that the user may use."""
    loaded = load(config, require_files=False)
    named = {"auth.users": _users_file(loaded), "auth.senders": loaded.auth.senders if loaded.auth else None}
    for key, path in named.items():
        if path is not None and not path.exists():
            raise CommandFailed(f"{path}: there is no such file{missing_file_mend(key, path, config)}")
    try:
        files = read_account_files(loaded.auth)
    except ValueError as error:
        raise CommandFailed(str(error)) from None
    senders = UserSenders(loaded.senders.local_domains, files.senders)
    users = files.users.value.by_key.values() if files.users is not None else ()
    rows = [{"name": user.name, "senders": sorted(senders.of(user.name))} for user in users]
    if as_json:
        print(json.dumps(rows, indent=2))
        return
    for row in rows:
        print(visible(f"{row['name']}: {' '.join(row['senders']) or 'no sender'}"))
    if not rows:
        print("no users")


@app.command()
def remove(name: Name, config: ConfigFile = None) -> None:
    """Remove a user.

    Sessions in which the user has logged in go on; a reload of the relay (SIGHUP) ends them.
    """
    path = _users_file(load(config, require_files=False))
    _edited(lambda: users_edit.remove(path, name))
    print(f"removed {visible(name)} from {path}", file=sys.stderr)


@app.command()
def passwd(name: Name, config: ConfigFile = None) -> None:
    """Change the password of a user.

    The password is asked for as by `add`. Sessions in which the user has logged in go on; a reload (SIGHUP) ends them.
    """
    path = _users_file(load(config, require_files=False))
    _edited(lambda: users_edit.require(path, name))
    _edited(lambda: users_edit.set_password(path, name, hash_password(_new_password(name))))
    print(f"changed the password of {visible(name)} in {path}", file=sys.stderr)


def _users_file(config: Config) -> Path:
    """The file of users. Raises CommandFailed: the configuration names none."""
    if config.auth is None:
        raise CommandFailed('there is no table [auth]: write it with users = "users"')
    if config.auth.users is None:
        raise CommandFailed("auth.dovecot checks the passwords, so the users are in Dovecot's files")
    return config.auth.users


def _edited(edit: Callable[[], None]) -> None:
    """Changes the file. Raises CommandFailed: it cannot be changed as asked."""
    try:
        edit()
    except UsersEditError as error:
        raise CommandFailed(str(error)) from None


def _new_password(name: str) -> str:
    """The password of a user, from the terminal or the standard input.

    Raises:
        CommandFailed: it cannot be one, or was typed differently the second time.
    """
    try:
        if sys.stdin.isatty():
            password = getpass.getpass(f"Password for {name}: ")
            prepared(password)
            if getpass.getpass("The same again: ") != password:
                raise CommandFailed("the two passwords differ; nothing was changed")
            return password
        password = sys.stdin.buffer.readline().decode("utf-8").rstrip("\r\n")
        prepared(password)
    except UnicodeDecodeError:
        raise CommandFailed("the password is not UTF-8; nothing was changed") from None
    except ValueError as error:
        raise CommandFailed(f"{error}; nothing was changed") from None
    return password
