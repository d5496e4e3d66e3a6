"""The user who runs the relay, as far as the files show it, and what that user may do with files.

An administrator runs commands as root, and files that root made are closed to the relay, which is another user.
"""

from __future__ import annotations

import grp
import os
import pwd
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

from relay.config.model import Config

Access: TypeAlias = Literal["r", "w", "x"]  # x: pass through a folder

_SECONDS = 10.0  # for access(2) of some files, on whatever file systems
# Prints what may not be read, written or passed. test(1) asks the kernel, which also knows access lists and the folders
# above.
_ASK = 'while [ $# -gt 0 ]; do test "-$1" "$2" || printf "%s\\0" "$2"; shift 2; done'


@dataclass(frozen=True, slots=True)
class ServiceUser:
    """A user of this host.

    Attributes:
        certain: False where the files do not agree who runs the relay.
    """

    uid: int
    gid: int
    name: str
    certain: bool = True


def service_user(config: Config) -> ServiceUser | None:
    """The user who runs the relay: whoever holds the lock on its queue now, or else the owner of the queue's folder.

    None if that is root, and where the relay has no queue in a file. Only root can be somebody else than the relay and
    still read its secrets, so nobody else is told either.
    """
    if os.geteuid() != 0 or not config.takes_mail or config.queue.folder is None:
        return None
    queue = Path(config.queue.url.removeprefix("sqlite:///"))
    running = _holder(Path(f"{queue}.lock"))
    if running is not None:
        return _user(running, certain=True)
    owner = _owner(config.queue.folder)
    if owner is None:
        return None
    file = _owner(queue)
    return _user(owner, certain=file is None or file.st_uid == owner.st_uid)


def _owner(path: Path) -> os.stat_result | None:
    try:
        return path.stat()
    except OSError:
        return None


def _holder(lock: Path) -> os.stat_result | None:
    """The process that holds a lock of flock(2), as its folder in /proc shows it; None where none does."""
    wanted = _owner(lock)
    try:
        lines = [line.split() for line in Path("/proc/locks").read_text().splitlines()]
    except OSError:
        return None
    for fields in lines:
        if wanted is not None and len(fields) > 5 and fields[1] == "FLOCK":  # number, kind, …, process, place
            major, minor, inode = fields[5].split(":")
            if (os.makedev(int(major, 16), int(minor, 16)), int(inode)) == (wanted.st_dev, wanted.st_ino):
                return _owner(Path("/proc", fields[4]))
    return None


def _user(owner: os.stat_result, certain: bool) -> ServiceUser | None:
    if owner.st_uid == 0:
        return None
    try:
        entry = pwd.getpwuid(owner.st_uid)
    except KeyError:  # as the user of a container, whose volume is looked at from outside
        return ServiceUser(owner.st_uid, owner.st_gid, str(owner.st_uid), certain)
    return ServiceUser(owner.st_uid, entry.pw_gid, entry.pw_name, certain)


def refused(user: ServiceUser, needs: Mapping[Path, Access]) -> list[tuple[Path, Access]]:
    """The files and folders of which a user may not do what it needs to; none where that cannot be asked.

    It has to run as root.

    Args:
        needs: absolute paths.
    """
    arguments = [part for path, access in needs.items() for part in (access, str(path))]
    groups = [group.gr_gid for group in grp.getgrall() if user.name in group.gr_mem]
    try:
        done = subprocess.run(
            ["/bin/sh", "-c", _ASK, "sh", *arguments],
            user=user.uid,
            group=user.gid,
            extra_groups=groups,
            capture_output=True,
            timeout=_SECONDS,
            cwd="/",
        )
    except (OSError, subprocess.SubprocessError):
        return []
    closed = {Path(os.fsdecode(name)) for name in done.stdout.split(b"\0") if name}
    return [(path, access) for path, access in needs.items() if path in closed]
