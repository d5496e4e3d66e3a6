"""Dovecot as what checks logins: its authentication socket, users in a passwd-file, and tokens by introspection."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Self
from urllib.parse import parse_qs

from tests.peers import program, wait_until

MECHANISMS = (
    *("PLAIN", "LOGIN", "CRAM-MD5", "DIGEST-MD5", "SCRAM-SHA-1", "SCRAM-SHA-256", "OAUTHBEARER", "XOAUTH2"),
    *("ANONYMOUS", "EXTERNAL"),
)
_CONFIG = """\
protocols =
base_dir = {folder}/run
state_dir = {folder}/state
log_path = {folder}/log
ssl = no
auth_mechanisms = {mechanisms}
auth_username_format = %Lu
auth_failure_delay = 0
auth_verbose = yes
passdb {{
  driver = passwd-file
  args = {folder}/disabled
  deny = yes
}}
passdb {{
  driver = oauth2
  mechanisms = oauthbearer xoauth2
  args = {folder}/oauth2
}}
passdb {{
  driver = passwd-file
  mechanisms = plain login cram-md5 digest-md5 scram-sha-1 scram-sha-256 external
  args = scheme=PLAIN username_format=%u {folder}/users
}}
userdb {{
  driver = static
  args = uid=65534 gid=65534 home=/nonexistent
}}
service auth {{
  unix_listener {folder}/auth-client {{
    mode = 0666
  }}
  unix_listener auth-userdb {{
    mode = 0666
  }}
}}
service anvil {{
  unix_listener anvil-auth-penalty {{
    mode = 0
  }}
}}
"""
_OAUTH2 = """\
introspection_mode = post
introspection_url = {url}
username_attribute = username
active_attribute = active
active_value = true
"""


class TokenServer:
    """An OAuth 2.0 authorization server that says whose a token is (RFC 7662)."""

    def __init__(self, tokens: Mapping[str, str]) -> None:
        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                asked = parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())
                user = tokens.get(asked["token"][0], "")
                content = json.dumps({"active": bool(user), "username": user} if user else {"active": False}).encode()
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, format: str, *args: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}/introspect"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))

    def start(self) -> Self:
        self._thread.start()
        return self

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@dataclass
class DovecotAuth:
    """One instance.

    Attributes:
        users: their passwords in plain text, so that every mechanism can use them, with extra fields behind a space.
        disabled: users that a passdb denies.
        introspection: where tokens are looked up.
    """

    folder: Path
    users: Mapping[str, str]
    disabled: tuple[str, ...] = ()
    introspection: str = "http://127.0.0.1:9/"
    mechanisms: tuple[str, ...] = MECHANISMS
    _process: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    @property
    def socket(self) -> Path:
        return self.folder / "auth-client"

    def start(self) -> Self:
        """Write the configuration, start, and return when the socket is there."""
        for name in ("", "run", "state"):
            (self.folder / name).mkdir(mode=0o755, exist_ok=True)
        lines = []
        for user, secret in self.users.items():
            password, _, extra = secret.partition(" ")
            lines.append(f"{user}:{{PLAIN}}{password}::::::{extra}\n")
        (self.folder / "users").write_text("".join(lines))
        (self.folder / "disabled").write_text("".join(f"{user}:\n" for user in self.disabled))
        (self.folder / "oauth2").write_text(_OAUTH2.format(url=self.introspection))
        self.configure()
        self.run()
        return self

    def configure(self) -> None:
        text = _CONFIG.format(folder=self.folder, mechanisms=" ".join(self.mechanisms).lower())
        self._configuration.write_text(text)

    @property
    def _configuration(self) -> Path:
        return self.folder / "dovecot.conf"

    def run(self) -> None:
        """Start the program with the configuration that is there."""
        command = [program("dovecot"), "-F", "-c", str(self._configuration)]
        self._process = subprocess.Popen(command, start_new_session=True)
        wait_until(lambda: self.socket.is_socket(), f"Dovecot's socket; its log: {self.log}")

    def reload(self) -> None:
        """Write the configuration again, and let the program read it."""
        self.configure()
        subprocess.run([program("doveadm"), "-c", str(self._configuration), "reload"], check=True)

    def stop(self) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait(20)
            self._process = None

    def kill(self) -> None:
        """Stop it with all its processes, as systemd does."""
        if self._process is not None:
            os.killpg(self._process.pid, signal.SIGTERM)
            self.stop()

    @property
    def log(self) -> str:
        log = self.folder / "log"
        return log.read_text(errors="replace") if log.exists() else ""
