"""Dovecot as the mailbox host: LMTP on a loopback address, users from a passwd file, Maildirs."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.journeys.maildir import read_maildir
from tests.peers import answers, program, wait_until

_NOBODY = 65534
_CONFIG = """\
protocols = lmtp
listen = {address}
base_dir = {folder}/run
state_dir = {folder}/state
log_path = {folder}/log
ssl = no
first_valid_uid = 100
mail_location = maildir:~/Maildir
postmaster_address = postmaster@mailbox.example
auth_username_format = %Lu
passdb {{
  driver = passwd-file
  args = {folder}/users
}}
userdb {{
  driver = passwd-file
  args = username_format=%u {folder}/users
}}
service lmtp {{
  inet_listener lmtp {{
    address = {address}
    port = {port}
  }}
  unix_listener {folder}/lmtp {{
    mode = 0666
  }}
}}
"""


@dataclass
class Dovecot:
    """One instance with a Maildir for each of `mailboxes`; other users get 550 at RCPT."""

    folder: Path
    address: str
    port: int
    mailboxes: Sequence[str]
    _process: subprocess.Popen[bytes] | None = None

    def start(self) -> Dovecot:
        """Write the configuration, start, and return when LMTP greets."""
        for name in ("", "run", "state", "mail"):
            (self.folder / name).mkdir(mode=0o755, exist_ok=True)
        users = ""
        for box in self.mailboxes:
            home = self.folder / "mail" / box
            home.mkdir()
            os.chown(home, _NOBODY, _NOBODY)
            users += f"{box}::{_NOBODY}:{_NOBODY}::{home}::\n"
        (self.folder / "users").write_text(users)
        config = self.folder / "dovecot.conf"
        config.write_text(_CONFIG.format(folder=self.folder, address=self.address, port=self.port))
        self._process = subprocess.Popen([program("dovecot"), "-F", "-c", str(config)])
        wait_until(lambda: answers(self.address, self.port), "Dovecot's LMTP")
        return self

    def stop(self) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait(20)

    @property
    def socket(self) -> Path:
        """The Unix socket of its LMTP."""
        return self.folder / "lmtp"

    @property
    def log(self) -> str:
        log = self.folder / "log"
        return log.read_text(errors="replace") if log.exists() else ""

    def inbox(self, address: str) -> list[bytes]:
        """The messages in a mailbox, in the order of their arrival."""
        return read_maildir(self.folder / "mail" / address / "Maildir")

    def wait_for_mail(self, address: str, count: int = 1, timeout: float = 30.0) -> list[bytes]:
        """The inbox once it holds `count` messages."""
        wait_until(lambda: len(self.inbox(address)) >= count, f"{count} message(s) for {address} in Dovecot", timeout)
        return self.inbox(address)
