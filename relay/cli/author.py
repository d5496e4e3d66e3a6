"""Who runs this command, for the line that it leaves in the log."""

from __future__ import annotations

import os
import pwd
import socket
from pathlib import Path

from relay.queue.audit import Author

_ELEVATED = ("SUDO_USER", "DOAS_USER")  # who became somebody else by sudo or doas
_NO_LOGIN = 2**32 - 1  # in /proc/self/loginuid, of a process that no login started


def author() -> Author:
    """The person behind this process: who ran sudo, or else who logged in, or else the account that it runs as."""
    uid = os.getuid()
    account = _name(uid)
    person = next((os.environ[name] for name in _ELEVATED if os.environ.get(name)), "") or _logged_in() or account
    return Author(person, account if account != person else None, uid, socket.gethostname())


def _logged_in() -> str:
    """Who logged in, as the kernel has noted it; empty where nobody did, or no kernel notes it."""
    try:
        uid = int(Path("/proc/self/loginuid").read_text())
    except (OSError, ValueError):
        return ""
    return "" if uid == _NO_LOGIN else _name(uid)


def _name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:  # containers run under numbers that have no name
        return str(uid)
