"""Why Dovecot's authentication socket cannot be used, and what the administrator can do about it."""

from __future__ import annotations

import errno
import os
import pwd
from pathlib import Path

from relay.accounts.dovecot_protocol import Handshake

OTHER_SOCKET = "name the socket that Dovecot has for clients, usually auth-client"


class Unreachable(Exception):
    """No connection can be made. `str` is the problem, `mend` what to do about it."""

    def __init__(self, problem: str, mend: str) -> None:
        super().__init__(problem)
        self.mend = mend


def not_greeted(handshake: Handshake, problem: str) -> Unreachable:
    """A greeting that is not whole. The sockets auth-userdb and auth-master say VERSION and SPID, and no more.

    Args:
        problem: why there is no more of it.
    """
    if handshake.version and not handshake.mechanisms:
        return Unreachable("it is a socket of Dovecot, but not for clients", OTHER_SOCKET)
    return Unreachable(problem, "see the log of Dovecot")


def not_connected(error: OSError, path: Path, user: str) -> Unreachable:
    """A connection that the system refuses.

    Args:
        user: who has to be able to connect; empty for the user of this process.
    """
    user = user or _our_user()
    if isinstance(error, FileNotFoundError):
        return Unreachable("there is no such socket", f"start Dovecot with: {unix_listener(path, user)}")
    if isinstance(error, PermissionError):
        return Unreachable(f"the user {user} may not connect to it", f"let Dovecot have: {unix_listener(path, user)}")
    if isinstance(error, ConnectionRefusedError):
        return Unreachable("nobody listens on it", "start Dovecot")
    if error.errno in (errno.EMFILE, errno.ENFILE):
        return Unreachable("the relay has no more file descriptors", "raise LimitNOFILE")
    return Unreachable(error.strerror or str(error), OTHER_SOCKET)


def unix_listener(path: Path, user: str) -> str:
    """The lines of dovecot.conf that make the socket for a user, in one."""
    return f"service auth {{ unix_listener {path} {{ mode = 0600 user = {user} }} }}"


def _our_user() -> str:
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return str(os.geteuid())
