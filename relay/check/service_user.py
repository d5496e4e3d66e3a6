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
from typing import Literal

from relay.config.model import Config

_SECONDS = 10.0  # for access(2) of some files, on whatever file systems
# Prints what may not be read or written. test(1) asks the kernel, which also knows access lists and all folders above.
_ASK = 'while [ $# -gt 0 ]; do test "-$1" "$2" || printf "%s\\0" "$2"; shift 2; done'


@dataclass(frozen=True, slots=True)
class ServiceUser:
    """A user of this host."""

    uid: int
    gid: int
    name: str


def service_user(config: Config) -> ServiceUser | None:
    """The user who runs the relay: the owner of the folder of its queue, or of the queue itself where that is root.

    Only root can be somebody else than the relay and still read its secrets, so nobody else is told: None.
    """
    if os.geteuid() != 0 or config.queue.folder is None:
        return None
    for path in (config.queue.folder, Path(config.queue.url.removeprefix("sqlite:///"))):
        try:
            owner = path.stat()
        except OSError:
            continue
        if owner.st_uid != 0:
            return _user(owner.st_uid, owner.st_gid)
    return None


def _user(uid: int, gid: int) -> ServiceUser:
    try:
        entry = pwd.getpwuid(uid)
    except KeyError:  # as the user of a container, whose volume is looked at from outside
        return ServiceUser(uid, gid, str(uid))
    return ServiceUser(uid, entry.pw_gid, entry.pw_name)


def refused(user: ServiceUser, needs: Mapping[Path, Literal["r", "w"]]) -> list[tuple[Path, Literal["r", "w"]]]:
    """The files of which a user may not do what it needs to; none where that cannot be asked.

    It has to run as root.
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
