"""A site whose mail hosts are on loopback: what the checks that connect somewhere are tried on."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from relay.check.finding import Finding
from relay.check.site import Site
from relay.config.file import parse
from relay.dns import StaticResolver
from relay.process.files import read_files
from relay.sending_addresses import SendingAddress
from tests.journeys.relay_process import toml
from tests.peers import free_port

HOSTNAME, DOMAIN, MX = "mx.fwd.example", "fwd.example", "in.fwd.example"

Zone = Mapping[tuple[str, str], Sequence[Any] | Exception]


def local_site(
    folder: Path,
    zone: Zone,
    *,
    port: int = 25,
    aliases: str = "info@brand.example someone@mailbox.example\n",
    sends_from: Sequence[str] = ("127.0.0.1",),
    **tables: Any,
) -> Site:
    """The site with this DNS.

    Args:
        port: of all mail hosts.
        sends_from: the addresses that mail leaves from.
        tables: take the place of tables of the configuration; None leaves one out.
    """
    (folder / "srs.secret").write_text("tops3cr3t\n")
    (folder / "aliases").write_text(aliases)
    settings = {
        "hostname": HOSTNAME,
        "listen": [{"address": "0.0.0.0:25"}],
        "srs": {"domain": DOMAIN, "secrets_file": "srs.secret"},
        "routes": {"aliases": "aliases"},
        "delivery": {"port": port, "families": ["ipv4"], "public_addresses_only": False},
        **tables,
    }
    text = toml({key: value for key, value in settings.items() if value is not None})
    (folder / "relay.toml").write_text(text)
    for name in ("srs.secret", "aliases", "relay.toml"):
        (folder / name).chmod(0o600)
    config = parse(text, folder / "relay.toml", {})
    addresses = tuple(SendingAddress(ip, "ipv6" if ":" in ip else "ipv4") for ip in sends_from)
    return Site(config, read_files(config), StaticResolver(zone), addresses, time.time(), str(folder / "relay.toml"))


def levels(findings: Sequence[Finding]) -> list[str]:
    return [finding.level for finding in findings]


@contextmanager
def port_that_swallows() -> Iterator[int]:
    """The port of a server that takes no more connections: what the kernel does then is what a firewall does."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", free_port()))
        server.listen(0)
        port = server.getsockname()[1]
        waiting = []
        for _ in range(3):
            client = socket.socket()
            client.setblocking(False)
            client.connect_ex(("127.0.0.1", port))
            waiting.append(client)
        yield port
        for client in waiting:
            client.close()
