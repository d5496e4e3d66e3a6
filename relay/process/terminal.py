"""The terminal that the relay was started on, and whether SIGHUP means that it is gone.

SIGHUP has two meanings: an administrator wants a reload, or the terminal has hung up (termios(3), setsid(2)). A relay
in the foreground of a window or an SSH session ends with it, as any other program does.
"""

from __future__ import annotations

import os
import signal

_FROM_KERNEL = 0x80  # SI_KERNEL in si_code, sigaction(2)


class Terminal:
    """The controlling terminal of this process at its start, or none, as in a service or after setsid(1)."""

    def __init__(self) -> None:
        self._was_there = _is_there() and signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN  # nohup(1) ignores it
        self._session = {os.getppid(), os.getsid(0)} - {os.getpid()}  # a shell passes the signal on to its jobs

    def has_hung_up(self, received: signal.struct_siginfo) -> bool:
        """Whether this SIGHUP says that the terminal is gone.

        A signal that somebody else sends later, to a relay that has outlived its terminal, does not.
        """
        told_by_it = received.si_code == _FROM_KERNEL or received.si_pid in self._session
        return self._was_there and told_by_it and not _is_there()


def _is_there() -> bool:
    """Whether there is a controlling terminal: after it has hung up, nobody of its session can open it."""
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY))
    except OSError:
        return False
    return True
