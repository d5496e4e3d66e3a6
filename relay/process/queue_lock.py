"""The lock on an SQLite queue, which the supervisor takes and its workers inherit.

The file has two locks. The one of fcntl(2) belongs to the supervisor alone, and ends with it: it tells a second relay
that this one is at work. The one of flock(2) is inherited by the workers, and ends with the last of them: a relay that
comes after one that was killed waits for it.
"""

from __future__ import annotations

import fcntl
import os
import time
from datetime import UTC, datetime
from pathlib import Path

import structlog

from relay.queue.file_errors import make_folder, mend

log = structlog.get_logger()

LOCK_PATIENCE = 15.0  # seconds for the workers of a relay that was killed, or is stopping, to end
END_PATIENCE = 0.5  # seconds for a relay that was just killed to be gone
_LOCK_PAUSE = 0.05  # seconds between two tries


class CannotStart(Exception):
    """The relay cannot run as configured; the text is one line for the administrator."""


def lock_queue(url: str) -> int | None:
    """The descriptor that holds the lock on the queue at `queue.url`; None for PostgreSQL, which needs no lock.

    Raises:
        CannotStart: another relay works on it, processes of one that has ended do not end, or the file cannot be made.
    """
    if not url.startswith("sqlite:///"):
        return None
    path = Path(url.removeprefix("sqlite:///") + ".lock")
    try:
        lock = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    except FileNotFoundError as error:
        how = f"queue.url: make the folder first, for the user of the relay ({make_folder(path.parent)})"
        raise CannotStart(f"{path}: {how}: {error.strerror}") from None
    except OSError as error:
        raise CannotStart(f"{path}: {error.strerror}{mend(path, error)}") from None
    os.set_inheritable(lock, False)
    try:
        _be_its_supervisor(lock, path)
        _wait_for_others(lock, path)
    except BaseException:
        os.close(lock)
        raise
    return lock


def give_way(lock: int) -> None:
    """Let another relay wait for the end of our workers, while this one is stopping."""
    fcntl.lockf(lock, fcntl.LOCK_UN)


def _be_its_supervisor(lock: int, path: Path) -> None:
    """Take the lock of the supervisor, and write the process id into the file.

    Raises:
        CannotStart: another supervisor has it.
    """
    deadline = time.monotonic() + END_PATIENCE
    while not _is_ours(lock):
        if time.monotonic() > deadline:
            raise CannotStart(f"{path}: {_user_of(lock)}: stop it first, or give this one another queue.url")
        time.sleep(_LOCK_PAUSE)
    try:
        os.ftruncate(lock, 0)
        os.pwrite(lock, f"{os.getpid()}\n".encode("ascii"), 0)
    except OSError as error:
        raise CannotStart(f"{path}: {error.strerror}{mend(path, error)}") from None


def _is_ours(lock: int) -> bool:
    """Whether this process has, or now gets, the lock of the supervisor."""
    try:
        fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _user_of(lock: int) -> str:
    """Who has the queue, by what it has written into the file when it came."""
    pid = os.pread(lock, 20, 0).decode("ascii", "replace").strip()
    since = datetime.fromtimestamp(os.fstat(lock).st_mtime, UTC).astimezone()
    where = "" if Path("/proc", pid or "0").exists() else ", in another container"
    return f"the queue is in use by the srs-relay with process id {pid or '?'}{where}, since {since:%Y-%m-%d %H:%M:%S}"


def _wait_for_others(lock: int, path: Path) -> None:
    """Wait until the last process of an earlier relay has ended.

    Raises:
        CannotStart: it has not.
    """
    deadline = time.monotonic() + LOCK_PATIENCE
    others: list[int] | None = None
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if others is None:
                others = _others(lock)
                log.warning(
                    "waiting_for_queue",
                    problem="processes of an earlier srs-relay are ending",
                    processes=others,
                    file=str(path),
                    at_most=LOCK_PATIENCE,
                )
            if time.monotonic() > deadline:
                pids = " ".join(map(str, _others(lock)))
                named = f" (kill {pids})" if pids else ""
                raise CannotStart(
                    f"{path}: the queue is in use: processes of an earlier srs-relay have not ended{named}"
                ) from None
        time.sleep(_LOCK_PAUSE)


def _others(lock: int) -> list[int]:
    """The other processes that have the file of the lock open, as far as we may see them."""
    ours = os.fstat(lock)
    pids = []
    for process in Path("/proc").glob("[0-9]*"):
        if int(process.name) == os.getpid():
            continue
        try:
            if any(_is_same(descriptor, ours) for descriptor in (process / "fd").iterdir()):
                pids.append(int(process.name))
        except OSError:  # not ours to look at, or it has ended
            continue
    return sorted(pids)


def _is_same(descriptor: Path, file: os.stat_result) -> bool:
    try:
        return os.path.samestat(descriptor.stat(), file)
    except OSError:
        return False
