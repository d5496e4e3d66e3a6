"""rspamd as the next hop that reads a message: its own SPF, DKIM, DMARC and ARC, and nothing else of it.

Its DNS is the test's, and addresses on loopback are judged like any others. It has RFC 7489's DMARC, for which the
organizational domain is below a public suffix: here that is `example`.
"""

from __future__ import annotations

import json
import os
import subprocess
from http.client import HTTPConnection
from pathlib import Path
from typing import Any, NamedTuple

from tests.journeys.sinks import Received
from tests.journeys.world import FWD
from tests.peers import free_port, program, wait_until

# `path` stands once for each module: rspamd reads no list there.
_CONFIG = """\
lua = "{folder}/empty.lua"
modules {{
    path = "/usr/share/rspamd/plugins/spf.lua"
    path = "/usr/share/rspamd/plugins/dmarc.lua"
    path = "/usr/share/rspamd/plugins/arc.lua"
}}
options {{
    filters = "dkim"
    pidfile = "{folder}/pid"
    cache_file = "{folder}/cache"
    control_socket = "{folder}/control mode=0600"
    hs_cache_dir = "{folder}"
    tempdir = "{folder}"
    url_tld = "{folder}/public_suffixes"
    local_addrs = []
    dns {{ nameserver = "{nameserver}"; timeout = 2s; retransmits = 2 }}
}}
logging {{ type = "console"; level = "info" }}
worker "normal" {{ bind_socket = "127.0.0.1:{port}"; count = 1 }}
spf {{ check_local = true; check_authed = true }}
dkim {{ check_local = true; check_authed = true; time_jitter = 6h }}
dmarc {{ check_local = true; check_authed = true }}
arc {{ check_local = true; check_authed = true; sign_authenticated = false; sign_local = false; sign_inbound = false }}
"""
_SPF = {
    "R_SPF_ALLOW": "pass",
    "R_SPF_FAIL": "fail",
    "R_SPF_SOFTFAIL": "softfail",
    "R_SPF_NEUTRAL": "neutral",
    "R_SPF_DNSFAIL": "temperror",
    "R_SPF_PERMFAIL": "permerror",
    "R_SPF_NA": "none",
}
_DMARC = {
    "DMARC_POLICY_ALLOW": "pass",
    "DMARC_POLICY_SOFTFAIL": "fail",
    "DMARC_POLICY_QUARANTINE": "fail",
    "DMARC_POLICY_REJECT": "fail",
    "DMARC_BAD_POLICY": "permerror",
    "DMARC_DNSFAIL": "temperror",
    "DMARC_NA": "none",
}
_ARC = {"ARC_ALLOW": "pass", "ARC_REJECT": "fail", "ARC_INVALID": "fail", "ARC_DNSFAIL": "temperror", "ARC_NA": "none"}


class Opinion(NamedTuple):
    """What rspamd finds; `signers` are the domains whose DKIM signature verifies, in alphabetical order."""

    spf: str
    signers: tuple[str, ...]
    dmarc: str
    arc: str


class Rspamd:
    """One instance, which asks the DNS at `nameserver` (address:port)."""

    def __init__(self, folder: Path, nameserver: str) -> None:
        self._folder = folder
        self._nameserver = nameserver
        self._port = free_port()
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> Rspamd:
        """Write the configuration, start, and return when it reads mail."""
        self._folder.mkdir()
        (self._folder / "empty.lua").touch()
        (self._folder / "public_suffixes").write_text("example\n")
        config = self._folder / "rspamd.conf"
        config.write_text(_CONFIG.format(folder=self._folder, port=self._port, nameserver=self._nameserver))
        as_root = ["-i"] if os.geteuid() == 0 else []
        with (self._folder / "log").open("wb") as log:
            command = [program("rspamd"), "-f", *as_root, "-c", str(config)]
            self._process = subprocess.Popen(command, stdout=log, stderr=log)
        wait_until(self._answers, "rspamd")
        return self

    def stop(self) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait(10)

    def read(self, received: Received, *, address: str = FWD, helo: str = "mx.fwd.example") -> Opinion:
        """Its opinion of what came from a client at this address."""
        symbols = self._symbols(received, address, helo)
        trace = symbols.get("DKIM_TRACE", {}).get("options", [])
        signers = sorted(one.removesuffix(":+") for one in trace if one.endswith(":+"))
        return Opinion(_one(symbols, _SPF), tuple(signers), _one(symbols, _DMARC), _one(symbols, _ARC))

    def _symbols(self, received: Received, address: str, helo: str) -> dict[str, dict[str, Any]]:
        connection = HTTPConnection("127.0.0.1", self._port, timeout=20)
        try:
            headers = {"IP": address, "Helo": helo, "From": received.sender, "Rcpt": received.recipients[0]}
            connection.request("POST", "/checkv2", received.content, headers)
            found: dict[str, dict[str, Any]] = json.loads(connection.getresponse().read())["symbols"]
            return found
        finally:
            connection.close()

    def _answers(self) -> bool:
        connection = HTTPConnection("127.0.0.1", self._port, timeout=2)
        try:
            connection.request("GET", "/ping")
            return connection.getresponse().status == 200
        except OSError:
            return False
        finally:
            connection.close()


def _one(symbols: dict[str, dict[str, Any]], meanings: dict[str, str]) -> str:
    (found,) = {meanings[symbol] for symbol in symbols if symbol in meanings}
    return found
