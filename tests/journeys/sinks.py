"""Next hops that take mail: a server that records every octet, and Postfix's smtp-sink."""

from __future__ import annotations

import asyncio
import ssl
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, Envelope, Session

from tests.peers import answers, program, wait_until


@dataclass(frozen=True, slots=True)
class Received:
    """One transaction that a sink took: the envelope as it came, the content without dot stuffing, and by which address
    and EHLO name it came."""

    sender: str
    recipients: tuple[str, ...]
    options: tuple[str, ...]
    content: bytes
    ip: str
    helo: str


class _AnyLine(SMTP):
    line_length_limit = 2**26  # the default refuses what is over 1001 octets, and a relay passes lines of any length

    async def smtp_MAIL(self, arg: str) -> None:
        self.event_handler.commands.append(f"MAIL {arg}")
        await super().smtp_MAIL(arg)

    async def smtp_RCPT(self, arg: str) -> None:
        self.event_handler.commands.append(f"RCPT {arg}")
        await super().smtp_RCPT(arg)


class _Server(Controller):
    def factory(self) -> SMTP:
        return _AnyLine(self.handler, **self.SMTP_kwargs)


class RecordingSink:
    """An SMTP server in a thread of its own that keeps what it takes.

    Args:
        refused: recipient → the reply it gets at RCPT.
        delay: seconds between the final dot and the 250.
        smtputf8: whether it offers SMTPUTF8.
        unwelcome: address of a client → the reply it gets at MAIL.
        tls: offers STARTTLS with this certificate.
    """

    def __init__(
        self,
        address: str,
        port: int,
        *,
        refused: Mapping[str, str] | None = None,
        delay: float = 0.0,
        smtputf8: bool = True,
        unwelcome: Mapping[str, str] | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.address, self.port = address, port
        self.refused = dict(refused or {})
        self.unwelcome = dict(unwelcome or {})
        self.delay = delay
        self.received: list[Received] = []
        self.asked: list[str] = []  # every RCPT, those of callouts as well
        self.commands: list[str] = []  # MAIL and RCPT as they came: aiosmtpd takes quotes away where dots are odd
        self._server = _Server(
            self,
            hostname=address,
            port=port,
            server_hostname="sink.example",
            enable_SMTPUTF8=smtputf8,
            data_size_limit=0,
            tls_context=tls,
        )

    def start(self) -> RecordingSink:
        self._server.start()
        return self

    def stop(self) -> None:
        self._server.stop()

    async def handle_MAIL(
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        refusal = self.unwelcome.get(str(session.peer[0]) if session.peer else "")
        if refusal is not None:
            return refusal
        envelope.mail_from = address
        envelope.mail_options.extend(options)
        return "250 OK"

    async def handle_RCPT(
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        self.asked.append(address)
        if address in self.refused:
            return self.refused[address]
        envelope.rcpt_tos.append(address)
        return "250 2.1.5 OK"

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        sender = envelope.mail_from or ""
        content: Any = envelope.original_content
        options = tuple(envelope.mail_options)
        ip, helo = str(session.peer[0]) if session.peer else "", str(session.host_name)
        self.received.append(
            Received("" if sender == "<>" else sender, tuple(envelope.rcpt_tos), options, bytes(content), ip, helo)
        )
        await asyncio.sleep(self.delay)
        return "250 2.0.0 taken"

    def paths(self, verb: str) -> list[str]:
        """What stood between the angle brackets of every MAIL or RCPT, as it came."""
        found = (one.partition("<")[2].rpartition(">")[0] for one in self.commands if one.startswith(verb))
        return list(found)

    def wait(self, count: int = 1, timeout: float = 30.0) -> list[Received]:
        """What was taken, once it is `count` transactions or more."""
        wait_until(lambda: len(self.received) >= count, f"{count} transaction(s) at the sink", timeout)
        return list(self.received)


class SmtpSink:
    """Postfix's smtp-sink with up to 256 sessions; it writes each message into `folder`, below its envelope."""

    def __init__(self, folder: Path, address: str, port: int) -> None:
        self.address, self.port = address, port
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> SmtpSink:
        self._folder.mkdir()
        self._folder.chmod(0o777)
        command = [program("smtp-sink"), "-u", "nobody", "-d", f"{self._folder}/message."]
        self._process = subprocess.Popen([*command, f"{self.address}:{self.port}", "256"])
        wait_until(lambda: answers(self.address, self.port), "smtp-sink")
        return self

    def stop(self) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait(10)

    def count(self) -> int:
        """How many messages it has taken; one being written counts."""
        return sum(1 for _ in self._folder.iterdir())

    def messages(self) -> list[bytes]:
        """What it wrote: `X-Mail-Args:` and `X-Rcpt-Args:` lines, its own Received, the message; lines end in LF."""
        return [path.read_bytes() for path in self._folder.iterdir()]
