"""Unbound as the relay's resolver: a name server of the field in place of the embedded DNS."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from pathlib import Path

import dns.exception
import dns.message
import dns.query

from tests.peers import free_port, program, wait_until

_CONFIG = """\
server:
    do-daemonize: no
    username: ""
    chroot: ""
    directory: "{folder}"
    pidfile: "{folder}/pid"
    use-syslog: no
    interface: 127.0.0.1
    port: {port}
    module-config: "iterator"
    local-zone: "example." static
    local-data: 'example. SOA ns.example. hostmaster.example. 1 3600 900 86400 60'
{records}
remote-control:
    control-enable: no
"""


class Unbound:
    """One instance that answers from `zone` ({(name, type): [rdata]}, all below `example.`) and knows nothing else."""

    def __init__(self, folder: Path, zone: Mapping[tuple[str, str], list[str]]) -> None:
        self._folder = folder
        self._zone = zone
        self._port = free_port()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def endpoint(self) -> str:
        return f"127.0.0.1:{self._port}"

    def start(self) -> None:
        """Write the configuration, start, and return when a question is answered."""
        self._folder.mkdir()
        records = "\n".join(
            f"    local-data: '{name}. {rdtype} {rdata}'"
            for (name, rdtype), records in self._zone.items()
            for rdata in records
        )
        config = self._folder / "unbound.conf"
        config.write_text(_CONFIG.format(folder=self._folder, port=self._port, records=records))
        with (self._folder / "log").open("wb") as log:
            self._process = subprocess.Popen([program("unbound"), "-d", "-c", str(config)], stderr=log)
        wait_until(self._answers, "unbound")

    def _answers(self) -> bool:
        question = dns.message.make_query("example.", "SOA")
        try:
            return bool(dns.query.udp(question, "127.0.0.1", timeout=0.5, port=self._port).answer)
        except (dns.exception.Timeout, OSError):
            return False

    def stop(self) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait(10)
