"""Lookups in tables: by a socket, and by Postfix's own client."""

from __future__ import annotations

import os
import socket
import subprocess
from collections.abc import Mapping
from pathlib import Path

from tests.peers import program


def socketmap(address: str, name: str, key: str, timeout: float = 10.0) -> str:
    """The reply of a socketmap to one lookup, on a connection of its own.

    Args:
        address: of the table, as in the configuration.

    Raises:
        OSError, EOFError: there is no answer.
    """
    with connect(address, timeout) as connection, connection.makefile("rwb") as stream:
        content = f"{name} {key}".encode()
        stream.write(b"%d:%s," % (len(content), content))
        stream.flush()
        length = b""
        while (octet := stream.read(1)) != b":":
            if not octet:
                raise EOFError("closed without an answer")
            length += octet
        return stream.read(int(length) + 1)[:-1].decode()


def connect(address: str, timeout: float = 10.0) -> socket.socket:
    """A connection to a table."""
    if address.startswith("unix:"):
        connection = socket.socket(socket.AF_UNIX)
        connection.settimeout(timeout)
        connection.connect(address.removeprefix("unix:"))
        return connection
    host, _, port = address.rpartition(":")
    return socket.create_connection((host.strip("[]"), int(port)), timeout=timeout)


def postmap(key: str, table: str, settings: Path | None = None) -> str:
    """What `postmap -q` finds; empty where there is no entry.

    Args:
        settings: the folder of main.cf; None for that of the system.

    Raises:
        AssertionError: it met an error.
    """
    environment: Mapping[str, str] = {**os.environ, **({"MAIL_CONFIG": str(settings)} if settings else {})}
    done = subprocess.run(
        [program("postmap"), "-q", key, table], capture_output=True, text=True, timeout=120, env=environment
    )
    assert done.stderr == "", done.stderr
    assert done.returncode == (0 if done.stdout else 1)
    return done.stdout.removesuffix("\n")
