"""Checks logins with Dovecot: what the client and the mechanism say to each other goes through its socket.

Where Dovecot is not there yet, the relay starts without it, offers no login, and connects as soon as it can.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from relay.accounts.dovecot_connection import Disconnected, DovecotConnection
from relay.accounts.dovecot_link import DovecotLink
from relay.accounts.dovecot_protocol import LINE, Accepted, Continued, Failed, auth_line, cont_line
from relay.accounts.names import name_key
from relay.mail.envelope import Client
from relay.mail.reply import Refused
from relay.receive.authenticator import Challenge, LoggedIn, LoginFailed


class DovecotAuthenticator:
    """The `Authenticator` of `[auth] dovecot`.

    Args:
        path: the socket.
        quiet: whether another worker logs what all of them see: that the socket is there or not.
    """

    def __init__(self, path: Path, *, quiet: bool = False) -> None:
        self._link = DovecotLink(path, quiet=quiet)

    async def run(self) -> None:
        """Keeps the connection until cancelled."""
        await self._link.run()

    def mechanisms(self) -> Sequence[str]:
        return self._link.mechanisms

    def login(self, mechanism: str, client: Client) -> DovecotLogin:
        return DovecotLogin(self._link, mechanism, client)


class DovecotLogin:
    """A `Login` that Dovecot checks: each response of the client goes to it, and each answer comes back."""

    def __init__(self, link: DovecotLink, mechanism: str, client: Client) -> None:
        self._link = link
        self._mechanism = mechanism
        self._client = client
        self._connection: DovecotConnection | None = None
        self._number = 0
        self._refused: Refused | None = None  # decided; the client has yet to answer the mechanism's error

    async def step(self, response: bytes | None) -> Challenge | LoggedIn:
        if self._refused is not None:
            raise self._refused
        try:
            answer = await self._ask(response)
        except Disconnected:
            raise _not_now() from None
        if isinstance(answer, Continued):
            return Challenge(answer.challenge)
        if isinstance(answer, Accepted):
            return LoggedIn(answer.user, answer.last)
        refused = _refusal(answer)
        if answer.last is None:
            raise refused
        self._refused = refused
        return Challenge(answer.last)

    async def _ask(self, response: bytes | None) -> Continued | Accepted | Failed:
        if self._connection is not None:
            line = cont_line(self._number, response or b"")
        else:
            connection = await self._link.connection()
            if self._mechanism not in connection.mechanisms:  # an unknown one ends the connection, for all logins
                raise Refused(504, "5.5.4", "Error: this mechanism is not offered any more")
            self._number = connection.begin()
            self._connection = connection
            line = auth_line(self._number, self._mechanism, self._client, response)
        if len(line) > LINE:  # likewise
            raise Refused(500, "5.5.6", "Error: authentication exchange line is too long")  # RFC 4954 section 4
        return await self._connection.ask(self._number, line)

    def close(self) -> None:
        if self._connection is not None:
            self._connection.cancel(self._number)


def _not_now(reason: str = "") -> Refused:
    return Refused(454, "4.7.0", f"Temporary authentication failure: {reason or 'try again later'}")


def _refusal(failed: Failed) -> Refused:
    """RFC 4954 section 6. Whether there is such a user is for Dovecot to know."""
    if failed.temporary:
        return _not_now(failed.reason)
    user = name_key(failed.user)
    return LoginFailed(user, f"Error: authentication failed: {failed.reason}") if failed.reason else LoginFailed(user)
