"""A relay with users: the configuration and the files of a submission host in the world of `tests.journeys.world`."""

from __future__ import annotations

import base64
import socket
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from relay.accounts.password_hash import hash_password
from tests.certificates import write_certificate
from tests.journeys.clients import Dialogue
from tests.journeys.relay_process import RelayProcess
from tests.journeys.sinks import RecordingSink
from tests.journeys.world import FWD, MAILBOX, World
from tests.peers import free_port

PASSWORD = "pass word:1"
HASH = hash_password(PASSWORD)
SENDERS = "alice press@fwd.example @whole.example\n"


@dataclass
class Submission:
    """A relay with two more listeners, both for logins.

    Attributes:
        starttls: the port where a login is offered, after STARTTLS.
        implicit: the port with TLS from the first octet, where a login is required.
    """

    relay: RelayProcess
    sink: RecordingSink
    starttls: int
    implicit: int
    certificate: Path

    @property
    def context(self) -> ssl.SSLContext:
        """What a client expects that knows the certificate."""
        return ssl.create_default_context(cafile=self.certificate)

    def client(self, source: str = "127.0.0.1") -> TlsDialogue:
        return TlsDialogue((self.relay.address, self.implicit), self.context, source)


class TlsDialogue(Dialogue):
    """A client that begins with TLS."""

    def __init__(self, server: tuple[str, int], context: ssl.SSLContext, source: str) -> None:
        plain = socket.create_connection(server, timeout=60, source_address=(source, 0))
        self._socket = context.wrap_socket(plain, server_hostname="mx.fwd.example")
        self._file = self._socket.makefile("rb")
        self.greeting = self.reply()

    def log_in(self, name: str, password: str) -> int:
        """EHLO and AUTH PLAIN; the code of the reply."""
        self("EHLO pc.example")
        return self("AUTH PLAIN " + base64.b64encode(f"\0{name}\0{password}".encode()).decode()).code


def submission(
    world: World,
    *,
    files: Mapping[str, str] | None = None,
    auth: Mapping[str, str] | None = None,
    proxied: bool = False,
    **tables: Any,
) -> Submission:
    """A started relay with the users alice and bob@two.example, who share a password; `auth` replaces them.

    Args:
        proxied: clients come to the implicit port through a proxy on this host.
    """
    folder = world.base / "tls"
    folder.mkdir()
    folder.chmod(0o755)
    write_certificate(folder, "fwd", "mx.fwd.example")
    (folder / "cert.pem").chmod(0o644)
    starttls, implicit = free_port(), free_port()
    sink = world.start(RecordingSink(MAILBOX, world.port))
    relay = world.relay(
        files={"users": f"alice:{HASH}\nbob@two.example:{HASH}\n", "senders": SENDERS, **(files or {})},
        listen=[
            {"address": f"{FWD}:{world.port}", "tls": "none"},
            {"address": f"{FWD}:{starttls}", "auth": "offered"},
            {"address": f"{FWD}:{implicit}", "tls": "implicit", "auth": "required", "proxy_protocol": proxied},
        ],
        tls={"certificate": str(folder / "cert.pem"), "private_key": str(folder / "key.pem")},
        auth=auth or {"users": "users", "senders": "senders"},
        **tables,
    )
    return Submission(relay, sink, starttls, implicit, folder / "cert.pem")
