"""What an SMTP session asks where a client logs in (AUTH, RFC 4954): the mechanisms, and each step of a login.

`relay.accounts` has the implementations. The session speaks the protocol: base64, the lines, the replies.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from relay.mail.envelope import Client
from relay.mail.reply import Refused


@dataclass(frozen=True, slots=True)
class Challenge:
    """The server's next word; the client answers it."""

    octets: bytes


@dataclass(frozen=True, slots=True)
class LoggedIn:
    """The login is good.

    Attributes:
        user: the name of the account, in normal form.
        last: what the mechanism still has to tell the client, which answers it with an empty line.
    """

    user: str
    last: bytes | None = None


WRONG = 535
"""The code of the refusal of a login that is wrong (RFC 4954 section 6), which counts as a failure."""

NOT_NOW = 454
"""The code of the refusal of a login that cannot be checked now."""


class LoginFailed(Refused):
    """The refusal of a login that is wrong, 535 5.7.8, with the user whom it counts for.

    Attributes:
        user: the name that was tried, in normal form; empty where it is not known.
        known: whether there is an account of this name. Any other name is not logged: it may be a password in the wrong
            place.
    """

    def __init__(
        self,
        user: str = "",
        text: str = "Error: authentication failed: wrong user name or password",
        *,
        known: bool = False,
    ) -> None:
        super().__init__(WRONG, "5.7.8", text)
        self.user = user
        self.known = known


class Login(Protocol):
    """One try to log in. `close` ends it at any step."""

    async def step(self, response: bytes | None) -> Challenge | LoggedIn:
        """Take the client's response, decoded; None where AUTH came without an initial response.

        Raises:
            LoginFailed: 535 5.7.8, the login is wrong, and its user is known.
            Refused: 535 5.7.8 likewise, of nobody in particular, 454 4.7.0 it cannot be checked now, 501 5.5.2 the
                response is none of the mechanism.
        """
        ...

    def close(self) -> None:
        """The login is over, or the client has given it up (`*`, or a lost connection)."""


class Authenticator(Protocol):
    """Checks logins for one listener."""

    def mechanisms(self) -> Sequence[str]:
        """The names of the mechanisms to offer now, in upper case; none where no login can be checked."""
        ...

    def login(self, mechanism: str, client: Client) -> Login:
        """Begin a login with one of `mechanisms`.

        Args:
            client: has TLS.
        """
        ...
