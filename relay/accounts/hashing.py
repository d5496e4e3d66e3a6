"""Compares passwords with their hashes in threads of their own: the event loop answers other sessions meanwhile.

Each comparison takes 64 MiB and all processors for a tenth of a second. So few run at once, few wait, and the others
come again later: whoever tries passwords in great numbers takes neither memory nor time from the mail.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

from relay.accounts.password_hash import is_password
from relay.mail.reply import Refused

AT_ONCE = 2  # comparisons in one worker: 128 MiB
WAITING = 30  # further ones that wait for their turn, for two seconds or so
_NICE = 10  # added to the niceness (nice(2)): the loop and its sessions come first


class Hashing:
    """The comparisons of one worker.

    Args:
        compare: whether a hash is that of a password.
    """

    def __init__(self, compare: Callable[[str, str], bool] = is_password) -> None:
        self._compare = compare
        self._threads = ThreadPoolExecutor(AT_ONCE, "password-hash", initializer=_be_nice)
        self._taken = 0

    async def is_password(self, hashed: str, password: str) -> bool:
        """Whether a hash is that of a password.

        Raises:
            Refused: 454 4.7.0, too many others wait.
        """
        if self._taken >= AT_ONCE + WAITING:
            raise Refused(454, "4.7.0", "too many clients are logging in now, try again later")
        self._taken += 1
        comparison = asyncio.get_running_loop().run_in_executor(self._threads, self._compare, hashed, password)
        # Counted until it is over: a client that leaves does not stop the thread.
        comparison.add_done_callback(self._done)
        return await comparison

    def _done(self, _: asyncio.Future[bool]) -> None:
        self._taken -= 1


def _be_nice() -> None:
    """Lowers the priority of this thread, and of those that Argon2 starts from it; Linux has one for each thread."""
    with suppress(OSError):
        thread = threading.get_native_id()
        os.setpriority(os.PRIO_PROCESS, thread, os.getpriority(os.PRIO_PROCESS, thread) + _NICE)
