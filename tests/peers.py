"""The real programs that tests talk to: where they are, which Debian package brings them, and waiting for them.

A missing peer skips its tests by name, with the apt line that brings it; where `CI` is set it fails them, so that a
test can never go quiet there. `tests/conftest.py` acts on the mark that `needs` makes.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from functools import cache
from itertools import cycle
from pathlib import Path
from typing import TypeVar

import pytest

T = TypeVar("T")

# A name is a program, `perl:Module` or `python3:module` (of Debian's own interpreter), and stands beside its package.
PACKAGES = {
    "clamd": "clamav-daemon",
    "dovecot": "dovecot-lmtpd",
    "fail2ban-regex": "fail2ban",
    "haproxy": "haproxy",
    "ip": "iproute2",
    "opendkim": "opendkim",
    "openssl": "openssl",
    "perl:Mail::Address": "libmailtools-perl",
    "perl:Mail::DKIM": "libmail-dkim-perl",
    "perl:Mail::SRS": "libmail-srs-perl",
    "perl:Net::SSLeay": "libnet-ssleay-perl",
    "postfix": "postfix",
    "postgres": "postgresql",
    "posttls-finger": "postfix",
    "postsrsd": "postsrsd",
    "python3:SRS": "python3-srs",
    "python3:test.test_email": "libpython3.11-testsuite",
    "rspamd": "rspamd",
    "smtp-sink": "postfix",
    "smtp-source": "postfix",
    "strace": "strace",
    "swaks": "swaks",
    "unbound": "unbound",
}
# Daemons live outside an ordinary user's PATH; PostgreSQL keeps a folder a version.
_FOLDERS = ("/usr/sbin", "/sbin", "/usr/local/sbin")


def needs(*peers: str, root: bool = False, package: str = "") -> pytest.MarkDecorator:
    """Mark a test (or, as `pytestmark`, a module) as talking to these programs; it is then a `peer` test as well.

    Args:
        peers: names as in `PACKAGES`.
        root: the test changes users or binds what only root may.
        package: the Debian package, for a peer that `PACKAGES` does not know.
    """
    return pytest.mark.needs(*peers, root=root, package=package)


def require(*peers: str, root: bool = False, package: str = "") -> None:
    """The same from inside a fixture or a test: skip (fail in CI) right here unless all of it is there."""
    missing = [peer for peer in peers if not _present(peer)]
    if missing:
        packages = sorted({PACKAGES.get(peer, package or peer) for peer in missing})
        _without(f"{', '.join(missing)} not installed: apt-get install {' '.join(packages)}")
    if root and os.geteuid() != 0:
        _without("only root can run this test")


def _without(reason: str) -> None:
    if os.environ.get("CI"):
        pytest.fail(f"in CI nothing is skipped: {reason}", pytrace=False)
    pytest.skip(reason)


@cache
def _present(peer: str) -> bool:
    language, _, module = peer.partition(":")
    if language == "perl":
        return _runs("perl", f"-M{module}", "-e1")
    if language == "python3":
        return _runs("/usr/bin/python3", "-c", f"import {module}")
    return find_program(peer) is not None


def _runs(*command: str) -> bool:
    return shutil.which(command[0]) is not None and subprocess.run(command, capture_output=True).returncode == 0


def find_program(name: str) -> str | None:
    """The path of a program, the folders of daemons included; None where it is not installed."""
    versions = sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    return shutil.which(name, path=os.pathsep.join([os.environ.get("PATH", ""), *_FOLDERS, *map(str, versions)]))


def program(name: str) -> str:
    """The path of a program that the test has already said it needs.

    Raises:
        FileNotFoundError: it is not installed.
    """
    found = find_program(name)
    if found is None:
        raise FileNotFoundError(f"{name}: apt-get install {PACKAGES.get(name, name)}")
    return found


# Each process that runs tests has a block of ports of its own: no other takes a port between the moment it is found
# and the moment a server listens on it. All lie below the ports that the kernel gives to outgoing connections.
_BLOCKS = range(10_000, 32_000, 500)


@cache
def _ports() -> tuple[socket.socket, Iterator[int]]:
    """What holds this process's block, an abstract Unix socket that ends with the process; and its ports, in a circle.

    Raises:
        AssertionError: all blocks are taken.
    """
    for start in _BLOCKS:
        holder = socket.socket(socket.AF_UNIX)
        try:
            holder.bind(f"\0srs-relay-tests-{start}")
        except OSError:
            holder.close()
        else:
            return holder, cycle(range(start, start + _BLOCKS.step))
    raise AssertionError("too many test runs at a time on this host: no block of ports is left")


def free_port() -> int:
    """A TCP and UDP port that is free on every IPv4 address of this host, all of 127.0.0.0/8 included.

    No other test run takes it, in whatever process.
    """
    _, ports = _ports()
    for port in ports:
        with socket.socket() as tcp, socket.socket(type=socket.SOCK_DGRAM) as udp:
            try:
                tcp.bind(("", port))
                udp.bind(("", port))
            except OSError:
                continue
            return port
    raise AssertionError("a circle has no end")


def _late(what: str, timeout: float) -> AssertionError:
    return AssertionError(f"waited {timeout:g} s in vain for {what}")


def wait_until(condition: Callable[[], T], what: str, timeout: float = 20.0) -> T:
    """Poll until the condition is true and return what it gave.

    Raises:
        AssertionError: it stayed false for `timeout` seconds; `what` says what was waited for.
    """
    end = time.monotonic() + timeout
    while not (value := condition()):
        if time.monotonic() > end:
            raise _late(what, timeout)
        time.sleep(0.02)
    return value


async def wait_for(condition: Callable[[], T], what: str, timeout: float = 20.0) -> T:
    """`wait_until` for a test that runs an event loop, which goes on meanwhile."""
    end = time.monotonic() + timeout
    while not (value := condition()):
        if time.monotonic() > end:
            raise _late(what, timeout)
        await asyncio.sleep(0.02)
    return value


def answers(host: str, port: int) -> bool:
    """Whether an SMTP or LMTP server greets with 220 there."""
    try:
        with socket.create_connection((host, port), timeout=2) as connection:
            return connection.recv(512).startswith(b"220")
    except OSError:
        return False
