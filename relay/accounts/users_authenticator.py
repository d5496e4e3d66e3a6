"""Checks logins against the file of users (`auth.users`), with PLAIN and LOGIN."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from relay.accounts.hashing import Hashing
from relay.accounts.names import name_key
from relay.accounts.plain_and_login import Check, LoginLogin, PlainLogin
from relay.accounts.users_file import Users
from relay.mail.envelope import Client
from relay.receive.authenticator import LoggedIn, Login, LoginFailed
from relay.table_files.reloaded_file import ReloadedFile

MECHANISMS: Mapping[str, Callable[[Check], Login]] = {"PLAIN": PlainLogin, "LOGIN": LoginLogin}


class UsersAuthenticator:
    """An `Authenticator` for a file of users."""

    def __init__(self, users: ReloadedFile[Users], hashing: Hashing) -> None:
        self._users = users
        self._hashing = hashing

    async def run(self) -> None:
        """There is nothing to do in the background: the worker reads the file again."""

    def mechanisms(self) -> Sequence[str]:
        return tuple(MECHANISMS)

    def login(self, mechanism: str, client: Client) -> Login:
        return MECHANISMS[mechanism](self._check)

    async def _check(self, name: str, password: str) -> LoggedIn:
        """Checks a name and a password. A name that nobody has takes as long as a wrong password.

        Raises:
            LoginFailed: 535 5.7.8.
            Refused: 454 4.7.0, too many logins are being checked.
        """
        users = self._users.value
        user = users.find(name)
        is_right = await self._hashing.is_password(users.nobody if user is None else user.hashed, password)
        if user is None or not is_right:
            raise LoginFailed(name_key(name), known=user is not None)
        return LoggedIn(user.name)
