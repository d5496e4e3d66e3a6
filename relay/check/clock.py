"""The clock of this host: timestamps of SRS and DKIM, certificates, and leases on PostgreSQL depend on it."""

from __future__ import annotations

import asyncio
import ctypes
import time
from pathlib import Path

from relay.check.finding import Finding
from relay.check.site import Site

FUTURE = 3600.0  # seconds by which a file may be newer than the clock: file servers have clocks of their own
_STA_UNSYNC = 0x40  # adjtimex(2), as are the fields of `_Timex`

_DAEMON = "run a time service: `apt-get install chrony`, or systemd-timesyncd and `timedatectl set-ntp true`"


class _Timex(ctypes.Structure):
    _fields_ = (
        ("modes", ctypes.c_uint),
        ("offset", ctypes.c_long),
        ("freq", ctypes.c_long),
        ("maxerror", ctypes.c_long),
        ("esterror", ctypes.c_long),
        ("status", ctypes.c_int),
        ("rest", ctypes.c_char * 512),  # more than any kernel writes
    )


async def check(site: Site) -> list[Finding]:
    """Whether it is right as far as this host can tell: its kernel, and the dates of our own files."""
    return [await asyncio.to_thread(_look, site)]


def _look(site: Site) -> Finding:
    subject = site.machine
    shown = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(site.now))
    newest = _newest(site)
    if newest is not None and newest[1] > site.now + FUTURE:
        behind = (newest[1] - site.now) / 86400
        text = f"the clock says {shown}, but {newest[0]} was written {behind:.1f} days later"
        return Finding("clock", subject, "error", text, f"set the clock; then {_DAEMON}")
    synchronized = kernel_synchronized()
    if synchronized is None:
        return Finding("clock", subject, "ok", f"it is {shown}; the kernel does not tell whether anything keeps it so")
    if not synchronized:
        text = f"nothing keeps the clock right (it is {shown}): the kernel calls it unsynchronized"
        return Finding("clock", subject, "warning", text, _DAEMON)
    return Finding("clock", subject, "ok", f"it is {shown}, and a time service keeps it so")


def kernel_synchronized() -> bool | None:
    """Whether a time service keeps the kernel's clock; None where the kernel does not tell, as in some containers."""
    state = _Timex()  # modes 0: only read
    try:
        result = ctypes.CDLL(None, use_errno=True).adjtimex(ctypes.byref(state))
    except (OSError, AttributeError):
        return None
    return None if result < 0 else not state.status & _STA_UNSYNC


def _newest(site: Site) -> tuple[Path, float] | None:
    """The newest of the files that were there before this check began, with its time of last change."""
    config = site.config
    files = [Path(__file__), config.srs.secrets_file, *(key.private_key for key in config.dkim)]
    files += [Path(site.path)] if site.path else []
    files += [pair.certificate for pair in config.tls.pairs] if config.tls is not None else []
    if config.takes_mail and config.queue.folder is not None:
        files.append(Path(config.queue.url.removeprefix("sqlite:///")))
    dated = []
    for path in files:
        try:
            dated.append((path, path.stat().st_mtime))
        except OSError:
            continue
    return max(dated, key=lambda entry: entry[1], default=None)
