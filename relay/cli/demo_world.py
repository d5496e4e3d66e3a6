"""The hosts of the demo: a small DNS, the sender's server, the mailbox host, and the relay between them.

Each host has its own address in 127.0.0.0/8, and all have the same port, as mail servers do. The relay is a `serve`
process with a configuration in a temporary folder.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import socket
import sys
import tempfile
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

from relay.cli.demo_servers import MailServer
from relay.cli.errors import CommandFailed
from relay.cli.zone import ZoneServer
from relay.dns import CachingResolver, Resolver
from relay.sign import keys

PATIENCE = 15.0  # seconds for the relay to start or stop, and for a message to arrive; each takes well under one

SENDER_IP, RELAY_IP, MAILBOX_IP = "127.0.0.2", "127.0.0.3", "127.0.0.4"
SENDER, ALIAS, MAILBOX = "news@shop.example", "alice@fwd.example", "alice@mailbox.example"
_DOMAINS = {"shop.example": SENDER_IP, "fwd.example": RELAY_IP, "mailbox.example": MAILBOX_IP}


@dataclass(frozen=True, slots=True)
class World:
    """The relay's address and folder, the two servers beside it, DNS, and the sender's key."""

    folder: Path
    relay: tuple[str, int]
    sender: MailServer
    mailbox: MailServer
    resolver: Resolver
    key: keys.SigningKey


@contextlib.asynccontextmanager
async def world() -> AsyncIterator[World]:
    """Start everything, and stop it at the end.

    Raises:
        CommandFailed: an address cannot be had, or the relay does not start.
    """
    async with contextlib.AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="srs-relay-demo-")))
        sender_key = keys.SigningKey("shop.example", "news1", keys.parse(keys.generate("rsa2048")))
        relay_pem = keys.generate("rsa2048")
        relay_key = keys.SigningKey("fwd.example", "relay1", keys.parse(relay_pem))
        public_keys = {key.record_name: key.public_record() for key in (sender_key, relay_key)}

        zone = ZoneServer(_zone(public_keys))
        stack.push_async_callback(zone.close)
        dns = "{}:{}".format(*await zone.start())
        sender, mailbox = MailServer("mx.shop.example", SENDER_IP), MailServer("mx.mailbox.example", MAILBOX_IP)
        port = 0
        for host in (sender, mailbox):
            stack.push_async_callback(host.close)
            try:
                port = await host.start(port)  # one port for all hosts, as with port 25
            except OSError as error:
                raise CommandFailed(f"the demo needs {host.ip} on loopback: {error.strerror}") from None
        _write(folder / "relay1.pem", relay_pem.decode("ascii"))
        _write(folder / "srs.secret", secrets.token_hex(16) + "\n")
        _write(folder / "aliases", f"{ALIAS} {MAILBOX}\n")
        _write(folder / "relay.toml", _config(dns, port))
        await stack.enter_async_context(_relay(folder, port))
        resolver = CachingResolver([dns], timeout=5.0, cache_entries=100)
        yield World(folder, (RELAY_IP, port), sender, mailbox, resolver, sender_key)


def _write(path: Path, text: str) -> None:
    path.touch(mode=0o600)
    path.write_text(text, encoding="utf-8")


def _zone(public_keys: dict[str, str]) -> dict[tuple[str, str], list[str]]:
    records = {(name, "TXT"): [keys.zone_line(name, text).partition(" TXT ")[2]] for name, text in public_keys.items()}
    records["_dmarc.shop.example", "TXT"] = ['"v=DMARC1; p=reject"']
    for domain, ip in _DOMAINS.items():
        records[domain, "MX"] = [f"10 mx.{domain}."]
        records[domain, "TXT"] = [f'"v=spf1 ip4:{ip} -all"']
        records[f"mx.{domain}", "A"] = [ip]
        records[f"mx.{domain}", "TXT"] = ['"v=spf1 a -all"']
        records[".".join([*reversed(ip.split(".")), "in-addr.arpa"]), "PTR"] = [f"mx.{domain}."]
    return records


def _config(dns: str, port: int) -> str:
    return f"""\
hostname = "mx.fwd.example"
workers = 1
listen = [{{address = "{RELAY_IP}:{port}"}}]
dns = {{nameservers = ["{dns}"]}}
senders = {{local_domains = ["fwd.example"]}}
srs = {{domain = "fwd.example", secrets_file = "srs.secret", hash = "framed", hash_length = 8, hash_min = 8}}
dkim = [{{domain = "fwd.example", selector = "relay1", private_key = "relay1.pem"}}]
routes = {{aliases = "aliases"}}
queue = {{url = "sqlite:///queue.db", min_free = "16MB"}}

# The world of the demo lies on loopback, where mail from DNS is otherwise never sent.
[delivery]
public_addresses_only = false
source_ipv4 = "{RELAY_IP}"
families = ["ipv4"]
port = {port}
"""


@contextlib.asynccontextmanager
async def _relay(folder: Path, port: int) -> AsyncIterator[None]:
    """A relay process that listens on entry, and that has ended on exit."""
    environ = {name: value for name, value in os.environ.items() if not name.startswith(("RELAY_", "SRS_RELAY_"))}
    with (folder / "log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "relay", "serve", "--config", str(folder / "relay.toml")),
            stdout=log,
            stderr=log,
            stdin=asyncio.subprocess.DEVNULL,
            env=environ,
            start_new_session=True,  # Ctrl-C must not reach it; we stop it
        )
    try:
        async with asyncio.timeout(PATIENCE):
            while not await _greets(RELAY_IP, port):
                if process.returncode is not None:
                    raise CommandFailed(f"the relay did not start:\n{(folder / 'log').read_text(errors='replace')}")
                await asyncio.sleep(0.02)
        yield
    finally:
        if process.returncode is None:
            process.terminate()
            try:
                async with asyncio.timeout(PATIENCE):
                    await process.wait()
            except TimeoutError:
                process.kill()
                await process.wait()


async def _greets(host: str, port: int) -> bool:
    try:
        # Blocking, but short: an asyncio connection that is refused while cancelled leaves a traceback (CPython 3.11).
        sock = socket.create_connection((host, port), timeout=1)
    except OSError:
        return False
    reader, writer = await asyncio.open_connection(sock=sock)
    try:
        return (await reader.readline()).startswith(b"220")
    except OSError:
        return False
    finally:
        writer.close()
