"""rspamd and clamd as filters of what comes in: Debian's programs, with rules and signatures of the tests alone."""

from __future__ import annotations

import os
import socket
import subprocess
from http.client import HTTPConnection
from pathlib import Path

from tests.peers import free_port, program, wait_until

GTUBE = b"XJS*C4JDBQADN1.NSBN3*2IDNEN*GTUBE-STANDARD-ANTI-UBE-TEST-EMAIL*C.34X\r\n"
EICAR = rb"X5O!P%@AP[4\PZX54(P^)7CC)7}$EICAR-STANDARD-ANTIVIRUS-TEST-FILE!$H+H*" + b"\r\n"

# A message chooses its score and its action; one rule copies a header into the answer as it is, as modules do, and
# another shows what rspamd was told of the envelope and the client.
_RULES = """\
rspamd_config:register_symbol{{
  name = 'TEST_SCORE', type = 'normal', score = 1.0,
  callback = function(task)
    local wanted = task:get_header('X-Test-Score')
    if wanted then return true, tonumber(wanted) end
  end
}}
rspamd_config:register_symbol{{
  name = 'TEST_COPY', type = 'postfilter',
  callback = function(task)
    local copied = task:get_header_raw('X-Test-Copy')
    if copied then task:set_milter_reply({{add_headers = {{['X-Copy'] = copied}}}}) end
  end
}}
rspamd_config:register_symbol{{
  name = 'TEST_ACTION', type = 'prefilter',
  callback = function(task)
    local wanted = task:get_header('X-Test-Action')
    if wanted then
      local action, text = wanted:match('^([^;]*);?(.*)$')
      task:set_pre_result(action, text, 'test')
    end
  end
}}
rspamd_config:register_symbol{{
  name = 'TEST_TOLD', type = 'idempotent',
  callback = function(task)
    local file = io.open('{folder}/told', 'a')
    local recipients = {{}}
    for _, one in ipairs(task:get_recipients('smtp') or {{}}) do table.insert(recipients, one.addr) end
    file:write(table.concat({{
      tostring(task:get_ip()), task:get_hostname() or '', task:get_helo() or '',
      (task:get_from('smtp') or {{{{addr = '?'}}}})[1].addr, table.concat(recipients, ','), task:get_user() or '',
      task:get_queue_id() or '', tostring(task:get_request_header("MTA-Name") or ""),
      tostring(task:get_request_header('TLS-Version') or ''), tostring(task:get_size())
    }}, '|') .. '\\n')
    file:close()
  end
}}
"""
_RSPAMD = """\
lua = "{folder}/rules.lua"
modules {{ path = "{folder}/no-modules" }}
options {{
    pidfile = "{folder}/pid"
    cache_file = "{folder}/cache"
    control_socket = "{folder}/control mode=0600"
    hs_cache_dir = "{folder}"
    tempdir = "{folder}"
    url_tld = "{folder}/public_suffixes"
    enable_test_patterns = true
    dns {{ nameserver = "127.0.0.1:1"; timeout = 1s; retransmits = 1 }}
}}
actions {{
    reject = 15; add_header = 6; greylist = 4
    quarantine {{ flags = ["no_threshold"] }}
    discard {{ flags = ["no_threshold"] }}
}}
logging {{ type = "console"; level = "info" }}
worker "normal" {{ bind_socket = "{bind}"; count = 1 }}
"""


class SpamFilter:
    """rspamd. Headers of a message choose what it says: `X-Test-Score: 7`, `X-Test-Action: soft reject; text`.

    Args:
        path: of the Unix socket to listen on, in place of a port.
    """

    def __init__(self, folder: Path, *, path: bool = False) -> None:
        self._folder = folder
        self._port = free_port()
        self._path = folder / "normal.sock" if path else None
        self.url = str(self._path) if path else f"http://127.0.0.1:{self._port}"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> SpamFilter:
        """Write the configuration, start, and return when it reads mail."""
        self._folder.mkdir(exist_ok=True)
        (self._folder / "no-modules").mkdir(exist_ok=True)
        (self._folder / "public_suffixes").write_text("example\n")  # Debian's list takes it nine seconds
        (self._folder / "rules.lua").write_text(_RULES.format(folder=self._folder))
        bind = f"{self._path} mode=0666" if self._path else f"127.0.0.1:{self._port}"
        config = self._folder / "rspamd.conf"
        config.write_text(_RSPAMD.format(folder=self._folder, bind=bind))
        as_root = ["-i"] if os.geteuid() == 0 else []
        with (self._folder / "log").open("ab") as log:
            command = [program("rspamd"), "-f", *as_root, "-c", str(config)]
            self._process = subprocess.Popen(command, stdout=log, stderr=log)
        wait_until(self._answers, "rspamd")
        return self

    def stop(self) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait(10)
            self._process = None

    @property
    def told(self) -> list[list[str]]:
        """What it was told with each message: address, host name, HELO, sender, recipients, user, queue id, our name,
        version of TLS, octets."""
        path = self._folder / "told"
        return [line.split("|") for line in path.read_text().splitlines()] if path.exists() else []

    def _answers(self) -> bool:
        connection = HTTPConnection("127.0.0.1", self._port, timeout=2)
        if self._path:
            connection.sock = socket.socket(socket.AF_UNIX)
        try:
            if self._path:
                connection.sock.connect(str(self._path))
            connection.request("GET", "/ping")
            return connection.getresponse().status == 200
        except OSError:
            return False
        finally:
            connection.close()


class VirusFilter:
    """clamd, which knows one virus: the EICAR file.

    Args:
        tcp: whether it listens on a port, in place of a Unix socket.
        largest: StreamMaxLength.
    """

    def __init__(self, folder: Path, *, tcp: bool = False, largest: str = "25M") -> None:
        self._folder = folder
        self._largest = largest
        self._port = free_port() if tcp else 0
        self.address = f"127.0.0.1:{self._port}" if tcp else str(folder / "clamd.ctl")
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> VirusFilter:
        """Write the configuration and the signature, start, and return when it answers."""
        database = self._folder / "database"
        database.mkdir(parents=True, exist_ok=True)
        (database / "test.ndb").write_text(f"Eicar-Test-Signature:0:*:{EICAR.strip().hex()}\n")
        listen = f"TCPAddr 127.0.0.1\nTCPSocket {self._port}" if self._port else f"LocalSocket {self.address}"
        config = self._folder / "clamd.conf"
        user = "User root\n" if os.geteuid() == 0 else ""
        config.write_text(
            f"{listen}\n{user}DatabaseDirectory {database}\nForeground true\nStreamMaxLength {self._largest}\n"
            f"LogFile {self._folder}/clamd.log\nTemporaryDirectory {self._folder}\n"
        )
        with (self._folder / "log").open("ab") as log:
            command = [program("clamd"), "--config-file", str(config)]
            self._process = subprocess.Popen(command, stdout=log, stderr=log)
        wait_until(self._answers, "clamd")
        return self

    def stop(self) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait(10)
            self._process = None

    def _answers(self) -> bool:
        sock = socket.socket(socket.AF_INET if self._port else socket.AF_UNIX)
        sock.settimeout(2)
        try:
            sock.connect(("127.0.0.1", self._port) if self._port else self.address)
            sock.sendall(b"zPING\0")
            return sock.recv(16) == b"PONG\0"
        except OSError:
            return False
        finally:
            sock.close()
