"""HAProxy in front of the relay: plain TCP that carries SMTP, the client's address handed on by the PROXY protocol."""

from __future__ import annotations

import csv
import socket
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tests.peers import free_port, program, wait_until

_GLOBAL = """\
global
    maxconn 100
    stats socket {folder}/stats mode 600
defaults
    mode tcp
    timeout connect 5s
    timeout client 60s
    timeout server 60s
    timeout check 5s
"""
_LISTEN = """\
listen {name}
    bind 127.0.0.1:{port}{bind}
    bind [::1]:{port}{bind}
    source {source}
    {check}
    server relay {server}
"""


@dataclass
class Service:
    """One port of the proxy.

    Attributes:
        server: the arguments of `server`: the relay's listener, and how it is spoken to.
        check: a line for the health check, as `option smtpchk`.
        bind: further arguments of `bind`.
    """

    server: str
    check: str = ""
    bind: str = ""
    port: int = field(default_factory=free_port)


@dataclass
class HAProxy:
    """One instance that listens on 127.0.0.1 and ::1, and comes to the relay from the loopback address `source`."""

    folder: Path
    source: str
    services: Mapping[str, Service]
    _process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Write the configuration, start, and return when every service has passed a health check."""
        self.folder.mkdir(exist_ok=True)
        sections = [
            _LISTEN.format(
                name=name,
                port=service.port,
                bind=service.bind and f" {service.bind}",
                source=self.source,
                check=service.check,
                server=service.server,
            )
            for name, service in self.services.items()
        ]
        config = self.folder / "haproxy.cfg"
        config.write_text(_GLOBAL.format(folder=self.folder) + "".join(sections))
        with (self.folder / "log").open("wb") as log:
            self._process = subprocess.Popen(
                [program("haproxy"), "-db", "-f", str(config)], stdout=log, stderr=subprocess.STDOUT
            )
        wait_until(lambda: all(checked.endswith("OK") for checked in self.checks().values()), "healthy servers")

    def checks(self) -> dict[str, str]:
        """For each service how its last health check went: `L7OK` is an SMTP reply, `L4OK` a connection."""
        try:
            with socket.socket(socket.AF_UNIX) as stats:
                stats.connect(str(self.folder / "stats"))
                stats.sendall(b"show stat\n")
                text = stats.makefile().read()
        except OSError:
            return {"stats": "not up yet"}
        rows = csv.DictReader(text.removeprefix("# ").splitlines())
        return {row["pxname"]: row["check_status"] for row in rows if row["svname"] == "relay"}

    def stop(self) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait(10)
