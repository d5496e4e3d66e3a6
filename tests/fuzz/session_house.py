"""Listeners of every kind for the state machine on SMTP sessions, whose handlers see that they are asked in order."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import uvloop

from relay.accounts.failures import LoginFailures
from relay.accounts.hashing import Hashing
from relay.accounts.limited import LimitedAuthenticator
from relay.accounts.users_authenticator import UsersAuthenticator
from relay.accounts.users_file import parse_users
from relay.config.sections import TlsSection
from relay.mail.envelope import Client, RcptTo
from relay.mail.message import Message
from relay.mail.reply import Refused, Reply
from relay.metrics import Metrics
from relay.receive.authenticator import Login
from relay.receive.command import Transaction
from relay.receive.handler import Gone
from relay.receive.server_tls import ServerTls
from relay.table_files.reloaded_file import ReloadedFile
from tests.accounts.hashes import cheap
from tests.certificates import write_certificate
from tests.fuzz.session_model import (
    ERRORS,
    KINDS,
    LARGEST,
    LARGEST_HEADER,
    PASSWORD,
    USER,
    Kind,
)
from tests.receive.door import Door, Taker


class Witness(Taker):
    """A handler that refuses some mail, and sees that it is asked in order, about clients that may send."""

    def __init__(self, kind: Kind) -> None:
        super().__init__()
        self._kind = kind
        self._open = False

    def _check(self, client: Client, is_open: bool) -> None:
        assert self._open == is_open
        assert client.tls or self._kind.tls not in ("require", "implicit")
        assert client.user or self._kind.auth != "required"
        assert client.trusted == (self._kind.trusted or bool(client.user))
        assert client.protocol.endswith("A") == (bool(client.user) and client.protocol != "SMTP")

    async def mail(self, client: Client, transaction: Transaction) -> None:
        self._check(client, False)
        if transaction.mail.sender.startswith("no@"):
            raise Refused(550, "5.7.1", "not from you")
        self._open = True

    async def rcpt(self, client: Client, transaction: Transaction, rcpt: RcptTo) -> None:
        self._check(client, True)
        await super().rcpt(client, transaction, rcpt)

    async def data(self, client: Client, transaction: Transaction, message: Message, gone: Gone) -> Reply:
        self._check(client, True)
        if b"UNWANTED" in message.content:
            return Reply(554, "5.7.1", "not this")
        return await super().data(client, transaction, message, gone)

    def reset(self) -> None:
        self._open = False


class Accounts:
    """The real check of logins, whose failures can be forgotten."""

    def __init__(self, folder: Path) -> None:
        path = folder / "users"
        path.write_text(f"{USER}:{cheap(PASSWORD)}\n")
        self._users = UsersAuthenticator(ReloadedFile(path, parse_users), Hashing())
        self.forget_failures()

    def forget_failures(self) -> None:
        self._inner = LimitedAuthenticator(self._users, LoginFailures(delay_step=0), Metrics())

    def mechanisms(self) -> Sequence[str]:
        return self._inner.mechanisms()

    def login(self, mechanism: str, client: Client) -> Login:
        return self._inner.login(mechanism, client)


class House:
    """Doors of every kind, on a loop of their own, and what was logged there."""

    def __init__(self, folder: Path, log: list[Any]) -> None:
        write_certificate(folder, "house")
        self._tls = ServerTls(TlsSection(certificate=folder / "cert.pem", private_key=folder / "key.pem")).context
        self.context = ssl.create_default_context(cafile=folder / "cert.pem")
        self.accounts = Accounts(folder)
        self.log = log
        self.runner = asyncio.Runner(loop_factory=uvloop.new_event_loop)
        self.problems: list[dict[str, Any]] = []
        self.runner.get_loop().set_exception_handler(lambda _, context: self.problems.append(context))
        self.doors = {kind: self.runner.run(self._open(kind)) for kind in KINDS}

    async def _open(self, kind: Kind) -> Door:
        door = Door(
            tls=self._tls,
            authenticator=self.accounts,
            listen={"tls": kind.tls, "auth": kind.auth},
            clients={"trusted": ["127.0.0.0/8"] if kind.trusted else []},
            limits={"errors": ERRORS},
            receive={"max_message_size": LARGEST, "max_header_size": LARGEST_HEADER},
        )
        door.taker = Witness(kind)
        return door

    def close(self) -> None:
        for door in self.doors.values():
            self.runner.run(door.close())
        self.runner.close()
