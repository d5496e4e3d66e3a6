"""An authenticator within the limits on failed logins: it asks another one as long as client and user are below them.

Who is over a limit learns nothing: the reply is the same, and comes at the same time, to the right password and to a
wrong one. All waits are sleeps of the event loop, which end with the connection.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Protocol

from relay.accounts.failures import LoginFailures
from relay.accounts.names import name_key
from relay.mail.envelope import Client
from relay.mail.reply import Refused
from relay.metrics import Metrics
from relay.receive.authenticator import Authenticator, Challenge, LoggedIn, Login, LoginFailed

TAKES = 5.0  # seconds after which a user over the limit is answered: longer than Dovecot delays its own refusals (2 s)


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
        return _LimitedLogin(self._inner.login(mechanism, client), client.ip, self._failures, self._metrics)


class _LimitedLogin:
    def __init__(self, inner: Login, ip: str, failures: LoginFailures, metrics: Metrics) -> None:
        self._inner = inner
        self._ip = ip
        self._failures = failures
        self._metrics = metrics

    async def step(self, response: bytes | None) -> Challenge | LoggedIn:
        if self._failures.client_is_over(self._ip):
            raise self._too_many()
        try:
            result = await self._checked(response)
        except LoginFailed:
            self._metrics.logins.add("failed")
            raise
        if isinstance(result, LoggedIn):
            self._metrics.logins.add("passed")
        return result

    async def _checked(self, response: bytes | None) -> Challenge | LoggedIn:
        loop = asyncio.get_running_loop()
        began = loop.time()
        try:
            result = await self._inner.step(response)
        except LoginFailed as failed:
            await self._refuse_over_limit(failed.user, began)
            self._failures.add(self._ip, failed.user)
            await asyncio.sleep(self._failures.held_for(self._ip))
            raise
        if isinstance(result, LoggedIn):
            await self._refuse_over_limit(name_key(result.user), began)
            await asyncio.sleep(self._failures.held_for(self._ip))
        return result

    async def _refuse_over_limit(self, user: str, began: float) -> None:
        """Refuses a login that was checked where its user, or meanwhile its client, is over the limit.

        Raises:
            Refused: 454 4.7.0.
        """
        if self._failures.user_is_over(user) or self._failures.client_is_over(self._ip):
            await asyncio.sleep(began + TAKES - asyncio.get_running_loop().time())
            raise self._too_many()

    def _too_many(self) -> Refused:
        self._metrics.logins.add("limited")
        return Refused(454, "4.7.0", "too many failed logins, try again later")

    def close(self) -> None:
        self._inner.close()
