"""An authenticator within the limits on failed logins: it asks another one as long as client and user are below them.

Who is over a limit learns nothing: the reply is the same, and comes at the same time, to the right password and to a
wrong one. A client that leaves before the verdict has failed, too: Dovecot takes longer for a wrong password than for
the right one, and some mechanisms tell a client their error before it is refused. All waits are sleeps of the event
loop, which end with the connection.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Sequence
from typing import Protocol

from relay.accounts.failures import LoginFailures
from relay.accounts.names import name_key
from relay.accounts.plain_and_login import claimed_user
from relay.mail.envelope import Client
from relay.mail.reply import Refused
from relay.metrics import Metrics
from relay.receive.authenticator import NOT_NOW, WRONG, Authenticator, Challenge, LoggedIn, Login, LoginFailed

# Seconds after which a login is answered that was checked, and whose user or client proved to be over the limit: longer
# than Dovecot delays its own refusals (2 s).
TAKES = 5.0


class Running(Authenticator, Protocol):
    """An authenticator with something to do in the background."""

    async def run(self) -> None:
        """Does it until cancelled, or until there is nothing left to do."""


class LimitedAuthenticator:
    """An `Authenticator` in front of another one."""

    def __init__(self, inner: Running, failures: LoginFailures, metrics: Metrics) -> None:
        self._inner = inner
        self._failures = failures
        self._metrics = metrics

    async def run(self) -> None:
        """Does what the other one has to do in the background, until cancelled."""
        await self._inner.run()

    def mechanisms(self) -> Sequence[str]:
        return self._inner.mechanisms()

    def login(self, mechanism: str, client: Client) -> Login:
        login = self._inner.login(mechanism, client)
        return _LimitedLogin(login, mechanism, client.ip, self._failures, self._metrics)


class _LimitedLogin:
    def __init__(self, inner: Login, mechanism: str, ip: str, failures: LoginFailures, metrics: Metrics) -> None:
        self._inner = inner
        self._mechanism = mechanism
        self._users: set[str] | None = None  # the names that the client has given; None before its first response
        self._ip = ip
        self._failures = failures
        self._metrics = metrics
        self._is_open = False  # the client has said something, and has no verdict yet

    async def step(self, response: bytes | None) -> Challenge | LoggedIn:
        if response is not None and self._users is None:
            self._users = {claimed_user(self._mechanism, response)} - {""}
        users = self._users or set()
        if self._is_over(users):
            raise self._too_many()
        began = asyncio.get_running_loop().time()
        self._is_open = self._is_open or response is not None
        try:
            result = await self._inner.step(response)
        except Refused as refused:
            if refused.reply.code != WRONG:
                self._is_open = False
                if refused.reply.code == NOT_NOW:
                    self._metrics.logins.add("unchecked")
                raise
            if isinstance(refused, LoginFailed):
                users = users | {refused.user} - {""}
            await self._refuse_over_limit(users, began)
            self._fail(users)
            await asyncio.sleep(self._failures.held_for(self._ip))
            raise
        if isinstance(result, LoggedIn):
            await self._refuse_over_limit(users | {name_key(result.user)}, began)
            await asyncio.sleep(self._failures.held_for(self._ip))
            self._is_open = False
            self._metrics.logins.add("passed")
        return result

    def _is_over(self, users: Collection[str]) -> bool:
        return self._failures.client_is_over(self._ip) or any(map(self._failures.user_is_over, users))

    async def _refuse_over_limit(self, users: Collection[str], began: float) -> None:
        """Refuses a login that was checked, where that has told who the user is, or others have failed meanwhile.

        Raises:
            Refused: 454 4.7.0.
        """
        if self._is_over(users):
            await asyncio.sleep(began + TAKES - asyncio.get_running_loop().time())
            raise self._too_many()

    def _fail(self, users: Collection[str]) -> None:
        self._is_open = False
        self._failures.add(self._ip, users)
        self._metrics.logins.add("failed")

    def _too_many(self) -> Refused:
        self._is_open = False
        self._metrics.logins.add("limited")
        return Refused(454, "4.7.0", "too many failed logins, try again later")

    def close(self) -> None:
        self._inner.close()
        if self._is_open:
            self._fail(self._users or set())
