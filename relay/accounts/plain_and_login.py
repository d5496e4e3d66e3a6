"""The SASL mechanisms PLAIN (RFC 4616) and LOGIN (draft-murchison-sasl-login), which send the password as it is.

They only find the user name and the password in what the client says; somebody else checks them.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from relay.accounts.names import name_key
from relay.mail.reply import Refused
from relay.receive.authenticator import Challenge, LoggedIn, LoginFailed

Check = Callable[[str, str], Awaitable[LoggedIn]]
"""Checks a user name and a password. Raises as `receive.authenticator.Login.step`."""


class PlainLogin:
    """One login with PLAIN: `[authzid] NUL authcid NUL password` in one response."""

    def __init__(self, check: Check) -> None:
        self._check = check

    async def step(self, response: bytes | None) -> Challenge | LoggedIn:
        if response is None:
            return Challenge(b"")
        parts = response.split(b"\0")
        if len(parts) != 3:
            raise Refused(501, "5.5.2", "Error: PLAIN takes an identity, a user name and a password, with NUL between")
        wanted, name, password = (_text(part) for part in parts)
        if wanted and name_key(wanted) != name_key(name):
            raise LoginFailed(name_key(name))  # nobody here may act for another user
        return await self._check(name, password)

    def close(self) -> None:
        pass


class LoginLogin:
    """One login with LOGIN: the name, then the password, each after a prompt. The name may come with AUTH."""

    def __init__(self, check: Check) -> None:
        self._check = check
        self._name: str | None = None

    async def step(self, response: bytes | None) -> Challenge | LoggedIn:
        if response is None:
            return Challenge(b"Username:")
        if self._name is None:
            self._name = _text(response)
            return Challenge(b"Password:")
        return await self._check(self._name, _text(response))

    def close(self) -> None:
        pass


def claimed_user(mechanism: str, response: bytes) -> str:
    """The key of the name in the first response of a login; empty where the mechanism is another one, or there is no
    name in it."""
    if mechanism == "PLAIN":
        response = next(iter(response.split(b"\0")[1:]), b"")
    elif mechanism != "LOGIN":
        return ""
    return name_key(response.decode("utf-8", "replace"))


def _text(octets: bytes) -> str:
    """What the client sent, as text. Raises LoginFailed: it is no UTF-8 (RFC 4616 section 2), so it is nobody's."""
    try:
        return octets.decode("utf-8")
    except UnicodeDecodeError:
        raise LoginFailed from None
