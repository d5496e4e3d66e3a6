"""A small internet on loopback: four domains, a host and an address for each, one SMTP port, one DNS.

    sender.example   127.0.0.11   where mail comes from, and bounces go home to
    fwd.example      127.0.0.12   the relay under test
    next.example     127.0.0.13   a second forwarder behind it
    mailbox.example  127.0.0.14   where mail ends

MX look-ups find the next host, SPF of each domain names its own address only (that of sender.example also 127.0.0.1,
where a client is that does not say where it comes from), and the relays publish their DKIM keys.
"""

from __future__ import annotations

import base64
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, Protocol, TypeVar

import dns.message
import dns.rdatatype
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from relay.cli.zone import Behaviour, ZoneServer
from tests.journeys.loop_thread import LoopThread
from tests.journeys.relay_process import RelayProcess
from tests.judges import dkimpy
from tests.peers import free_port

SENDER, FWD, NEXT, MAILBOX = "127.0.0.11", "127.0.0.12", "127.0.0.13", "127.0.0.14"
SECRET = "tops3cr3t"
_HOSTS = {"sender.example": SENDER, "fwd.example": FWD, "next.example": NEXT, "mailbox.example": MAILBOX}

Zone = dict[tuple[str, str], list[str]]


class _Startable(Protocol):
    def start(self) -> object: ...
    def stop(self) -> object: ...


S = TypeVar("S", bound=_Startable)


class World:
    """What one test runs. Everything that was started through it is stopped, in reverse order, by `close`."""

    def __init__(self) -> None:
        # pytest's own folders are closed to other users, and Postfix and Dovecot change theirs.
        self.base = Path(tempfile.mkdtemp(prefix="srs-relay-"))
        self.base.chmod(0o755)
        self.port = free_port()
        self.zone: Zone = _zone()
        self.failures: dict[str, Behaviour] = {}
        self.relays: list[RelayProcess] = []
        self.nameservers: list[Nameserver] = []
        self._running: list[_Startable] = []

    def start(self, thing: S) -> S:
        """Start something, and stop it in the end."""
        self._running.append(thing)
        thing.start()
        return thing

    def start_all(self, *things: _Startable) -> None:
        """Start several things side by side; a Postfix takes two seconds."""
        with ThreadPoolExecutor(len(things)) as pool:
            list(pool.map(self.start, things))

    def nameserver(self) -> str:
        """`address:port` of a DNS that serves `zone` as it is now, and gives no answer to the names in `failures`."""
        server = self.start(Nameserver(self.zone, self.failures))
        self.nameservers.append(server)
        return server.endpoint

    def relay(
        self,
        domain: str = "fwd.example",
        *,
        aliases: str = "",
        files: Mapping[str, str] | None = None,
        wrapper: Sequence[str] = (),
        **tables: Any,
    ) -> RelayProcess:
        """A started relay for one of the forwarding domains.

        Args:
            files: lie beside relay.toml, as the aliases, srs.secret, and for each domain of this world DOMAIN.pem do.
            wrapper: a command to run it under.
            tables: laid over the configuration.
        """
        address = _HOSTS[domain]
        config = {
            "hostname": f"mx.{domain}",
            "workers": 2,
            "listen": [{"address": f"{address}:{self.port}", "tls": "none"}],
            "senders": {"local_domains": [domain]},
            "srs": {"domain": domain, "secrets_file": "srs.secret"},
            "dkim": [{"domain": domain, "selector": "relay1", "private_key": f"{domain}.pem"}],
            "routes": {"aliases": "aliases"},
            "delivery": {
                "public_addresses_only": False,
                "port": self.port,
                "families": ["ipv4"],
                "source_ipv4": address,
            },
            "queue": {"retry_min": "1s", "retry_max": "2s"},
            "log": {"format": "json"},
        }
        if "dns" not in tables:
            config["dns"] = {"nameservers": [self.nameserver()], "timeout": "2s"}
        relay = RelayProcess(self.base / domain, _merged(config, tables), wrapper)
        keys = {f"{name}.pem": key_pair(name)[0] for name in _HOSTS}
        for name, text in {"aliases": aliases, "srs.secret": SECRET + "\n", **keys, **(files or {})}.items():
            (relay.folder / name).write_text(text)
            (relay.folder / name).chmod(0o600)
        self.relays.append(relay)
        return self.start(relay)

    @property
    def keys(self) -> dict[str, str]:
        """The DKIM records of the zone as a verifier reads them: {name: text}."""
        return {
            name: records[0].replace('" "', "").strip('"')
            for (name, _), records in self.zone.items()
            if "._domainkey." in name
        }

    def signers(self, content: bytes) -> list[str]:
        """The domains of the DKIM signatures that verify with the keys in the zone, top to bottom."""
        found = dkimpy(re.sub(rb"\r?\n", b"\r\n", content), self.keys)
        return [verdict.domain for verdict in found if verdict.result == "pass"]

    def complaints(self) -> list[str]:
        """What no relay may ever say: tracebacks, on stderr or in the log."""
        found = [f"{relay.folder.name}: {relay.stderr}" for relay in self.relays if "Traceback" in relay.stderr]
        return found + [
            f"{relay.folder.name}: {line}" for relay in self.relays for line in relay.log if "exception" in line
        ]

    def logs(self) -> list[tuple[str, str]]:
        """The last lines of every log, for the report of a test that failed."""
        names = ("log", "stderr")
        files = sorted(path for path in self.base.glob("*/*") if path.name in names and path.is_file())
        return [(str(path.relative_to(self.base)), path.read_text(errors="replace")[-8000:]) for path in files]

    def close(self) -> None:
        """Stop everything and remove the files."""
        try:
            while self._running:
                self._running.pop().stop()
        finally:
            shutil.rmtree(self.base, ignore_errors=True)


class _Listening(ZoneServer):
    """Remembers what it was asked, in lower case."""

    def __init__(self, zone: Zone, failures: Mapping[str, Behaviour]) -> None:
        super().__init__(zone, failures)
        self.asked: list[tuple[str, str]] = []

    def answer(self, request: dns.message.Message) -> dns.message.Message | None:
        question = request.question[0]
        name = question.name.to_text(omit_final_dot=True).lower()
        self.asked.append((name, dns.rdatatype.to_text(question.rdtype)))
        return super().answer(request)


class Nameserver:
    """The embedded DNS in a thread of its own, so that a test may block while a relay asks.

    Attributes:
        asked: every question, name and type.
    """

    def __init__(self, zone: Zone, failures: Mapping[str, Behaviour]) -> None:
        self._server = _Listening(zone, failures)
        self.asked = self._server.asked
        self._loop = LoopThread()
        self.endpoint = ""

    def put(self, name: str, rdtype: str, *rdata: str) -> None:
        """Replace records from now on; without rdata they are removed."""
        self._server.put(name, rdtype, *rdata)

    def start(self) -> None:
        self._loop.start()
        host, port = self._loop.run(self._server.start())
        self.endpoint = f"{host}:{port}"

    def stop(self) -> None:
        if self.endpoint:
            self._loop.run(self._server.close())
        self._loop.stop()


@contextmanager
def opened() -> Iterator[World]:
    """A world that is closed in the end; what its relays complained of is a failure."""
    world = World()
    try:
        yield world
        assert not world.complaints(), "\n".join(world.complaints())
    finally:
        world.close()


def _zone() -> Zone:
    zone: Zone = {}
    for domain, address in _HOSTS.items():
        host = f"mx.{domain}"
        zone[domain, "MX"] = [f"10 {host}."]
        zone[host, "A"] = [address]
        zone[domain, "TXT"] = [f'"v=spf1 ip4:{address} -all"']
        zone[host, "TXT"] = [f'"v=spf1 ip4:{address} -all"']
        zone[f"relay1._domainkey.{domain}", "TXT"] = [key_pair(domain)[1]]
    for name in ("sender.example", "mx.sender.example"):
        zone[name, "TXT"] = [f'"v=spf1 ip4:{SENDER} ip4:127.0.0.1 -all"']
    return zone


@cache
def key_pair(domain: str) -> tuple[str, str]:
    """A DKIM key for each domain: the PEM of the private key, the TXT record in strings of 255 octets."""
    key = rsa.generate_private_key(65537, 2048)
    pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()
    public = key.public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    record = "v=DKIM1; k=rsa; p=" + base64.b64encode(public).decode()
    return pem, " ".join(f'"{record[i : i + 255]}"' for i in range(0, len(record), 255))


def _merged(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in over.items():
        old = merged.get(key)
        merged[key] = _merged(old, value) if isinstance(old, Mapping) and isinstance(value, Mapping) else value
    return merged
