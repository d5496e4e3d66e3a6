"""A whole Postfix of its own: config, queue and data folder, one SMTP listener on a loopback address, Maildirs.

It plays the relayhost client, the mailbox host, or the host whose user gets the bounce. Nothing of the system's own
Postfix configuration is read, and no name is looked up: every next hop is written as `[address]:port`.
"""

from __future__ import annotations

import os
import shutil
import smtplib
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.journeys.maildir import read_maildir
from tests.peers import answers, program, wait_until

# service, type, private, unprivileged, wake-up, limit, command; chroot is "n" everywhere: the folder holds no jail.
_SERVICES = """\
{address}:{port} inet n - n - - smtpd
pickup unix n - n 5 1 pickup
cleanup unix n - n - 0 cleanup
qmgr unix n - n 5 1 qmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
verify unix - - n - 1 verify
flush unix n - n 1000? 0 flush
proxymap unix - - n - - proxymap
proxywrite unix - - n - 1 proxymap
smtp unix - - n - - smtp
relay unix - - n - - smtp
showq unix n - n - - showq
error unix - - n - - error
retry unix - - n - - error
discard unix - - n - - discard
virtual unix - n n - - virtual
full unix - n n - - pipe user=nobody argv=/bin/sh -c {{echo 5.2.2 mailbox full; exit 69}}
anvil unix - - n - 1 anvil
tlsmgr unix - - n 1000? 1 tlsmgr
scache unix - - n - 1 scache
tlsmgr unix - - n 1000? 1 tlsmgr
postlog unix-dgram n - n - 1 postlogd
"""
_NOBODY = 65534


@dataclass
class Postfix:
    """One instance. `start` before use, `stop` after.

    Attributes:
        folder: everything it owns; the daemons change users, so that every folder above must be passable for all.
        mailboxes: addresses with a Maildir. Their domains are hosted here, and other users there get 550 at RCPT.
        full: addresses that are accepted in the session and bounced by this Postfix itself afterwards.
        refused_content: text in a Subject that gets 550 after DATA.
        relayhost: `[address]:port` for everything that is not hosted here.
        settings: further lines of main.cf.
    """

    folder: Path
    hostname: str
    address: str
    port: int
    mailboxes: Sequence[str] = ()
    full: Sequence[str] = ()
    refused_content: str = ""
    relayhost: str = ""
    settings: Mapping[str, str] = field(default_factory=dict)

    def start(self) -> Postfix:
        """Write the configuration, start, and return when the listener greets."""
        for name in ("", "etc", "queue", "data", "mail"):
            (self.folder / name).mkdir(mode=0o755, exist_ok=True)
        shutil.chown(self.folder / "data", "postfix")
        os.chown(self.folder / "mail", _NOBODY, _NOBODY)
        self._write("main.cf", "".join(f"{key} = {value}\n" for key, value in self._main().items()))
        self._write("master.cf", _SERVICES.format(address=self.address, port=self.port))
        self._write("mailboxes", "".join(f"{box} {box}/\n" for box in (*self.mailboxes, *self.full)))
        self._write("transport", "".join(f"{box} full:\n" for box in self.full))
        self._write("header_checks", f"/^Subject: .*{self.refused_content}/ REJECT not wanted here\n")
        self._control("start")
        wait_until(lambda: answers(self.address, self.port), f"Postfix {self.hostname}:\n{self.log}")
        return self

    def _main(self) -> dict[str, str]:
        etc = self.folder / "etc"
        built_in = _built_in("daemon_directory", "command_directory")
        return {
            "compatibility_level": "3.6",
            **built_in,
            "queue_directory": str(self.folder / "queue"),
            "data_directory": str(self.folder / "data"),
            "maillog_file": str(self.folder / "log"),
            "maillog_file_prefixes": str(self.folder),
            "myhostname": self.hostname,
            "mydestination": "",
            "mynetworks": "127.0.0.0/8",
            "inet_protocols": "ipv4",
            # the listener's own address stands in master.cf: 127.0.0.14 is on no interface of Postfix's list
            "inet_interfaces": "127.0.0.1",
            "smtp_bind_address": self.address,
            "smtp_dns_support_level": "disabled",
            "smtputf8_enable": "yes",
            "alias_maps": "",
            "alias_database": "",
            "local_recipient_maps": "",
            "relayhost": self.relayhost,
            "transport_maps": f"texthash:{etc}/transport",
            "virtual_mailbox_domains": " ".join({box.partition("@")[2] for box in (*self.mailboxes, *self.full)}),
            "virtual_mailbox_maps": f"texthash:{etc}/mailboxes",
            "virtual_mailbox_base": str(self.folder / "mail"),
            "virtual_uid_maps": f"static:{_NOBODY}",
            "virtual_gid_maps": f"static:{_NOBODY}",
            "smtp_tls_security_level": "none",
            "queue_run_delay": "2s",
            "minimal_backoff_time": "2s",
            "maximal_backoff_time": "4s",
            **({"header_checks": f"regexp:{etc}/header_checks"} if self.refused_content else {}),
            **self.settings,
        }

    def _write(self, name: str, text: str) -> None:
        (self.folder / "etc" / name).write_text(text)

    def _control(self, verb: str) -> None:
        command = [program("postfix"), "-c", str(self.folder / "etc"), verb]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, f"postfix {verb}: {done.stderr}\n{self.log}"

    def stop(self) -> None:
        """Stop the daemons; the folder stays."""
        self._control("stop")

    @property
    def log(self) -> str:
        log = self.folder / "log"
        return log.read_text(errors="replace") if log.exists() else ""

    def inbox(self, address: str) -> list[bytes]:
        """The messages in a mailbox, in the order of their arrival, as they stand on disk (lines end in LF)."""
        return read_maildir(self.folder / "mail" / address)

    def wait_for_mail(self, address: str, count: int = 1, timeout: float = 30.0) -> list[bytes]:
        """The inbox once it holds `count` messages."""
        wait_until(lambda: len(self.inbox(address)) >= count, f"{count} message(s) for {address}", timeout)
        return self.inbox(address)

    def submit(self, sender: str, recipients: Sequence[str], content: bytes) -> None:
        """Hand a message to this Postfix as its own user would; line ends may be LF."""
        with smtplib.SMTP(self.address, self.port, local_hostname="user.invalid", timeout=30) as session:
            refused = session.sendmail(sender, list(recipients), content, mail_options=["BODY=8BITMIME"])
        assert not refused, refused

    def queued(self) -> int:
        """How many messages are still in its queue."""
        folders = ("maildrop", "incoming", "active", "deferred", "hold")
        return sum(1 for name in folders for path in (self.folder / "queue" / name).rglob("*") if path.is_file())


def _built_in(*parameters: str) -> dict[str, str]:
    listing = subprocess.run([program("postconf"), "-d", *parameters], capture_output=True, text=True, check=True)
    return dict(line.split(" = ", 1) for line in listing.stdout.splitlines())
