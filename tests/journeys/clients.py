"""Who hands mail to a server: swaks for one message, smtp-source for many, `Dialogue` for what neither would send."""

from __future__ import annotations

import socket
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, Self

from tests.peers import program


def swaks(
    server: tuple[str, int],
    *,
    source: str,
    helo: str,
    sender: str,
    recipients: Sequence[str],
    message: Path | None = None,
    options: Sequence[str] = (),
) -> subprocess.CompletedProcess[str]:
    """One transaction by swaks from the loopback address `source`; the null sender is "".

    Returns:
        The finished process: `stdout` is the dialogue, the exit code is 0 where everything was accepted.
    """
    command = [
        *(program("swaks"), "--server", server[0], "--port", str(server[1])),
        *("--local-interface", source, "--helo", helo),
        *("--from", sender or "<>", "--to", ",".join(recipients)),
        *(["--data", f"@{message}"] if message else []),
        *options,
    ]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


def smtp_source(
    server: tuple[str, int], *, sender: str, recipient: str, messages: int, sessions: int, octets: int
) -> None:
    """Send `messages` of `octets` each over `sessions` parallel sessions.

    Raises:
        AssertionError: smtp-source saw a reply it did not expect.
    """
    command = [
        *(program("smtp-source"), "-s", str(sessions), "-m", str(messages), "-l", str(octets)),
        *("-f", sender, "-t", recipient, f"{server[0]}:{server[1]}"),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr


class Answer(NamedTuple):
    """One reply of a server; `enhanced` is empty where it has none."""

    code: int
    enhanced: str
    text: str


class Dialogue:
    """A client that sends exactly the octets it is told to, for what no well-behaved client would say.

    Args:
        server: host and port.
        source: the loopback address to come from.
        proxy: octets sent before anything else, for a listener that expects a PROXY header.
    """

    def __init__(self, server: tuple[str, int], *, source: str = "127.0.0.1", proxy: bytes = b"") -> None:
        self._socket = socket.create_connection(server, timeout=20, source_address=(source, 0))
        self._file = self._socket.makefile("rb")
        try:
            self._socket.sendall(proxy)
            self.greeting = self.reply()
        except (EOFError, OSError):
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._file.close()
        self._socket.close()

    def send(self, octets: bytes) -> None:
        self._socket.sendall(octets)

    def reply(self) -> Answer:
        """The next reply.

        Raises:
            EOFError: the server closed the connection instead.
        """
        lines = []
        while True:
            line = self._file.readline()
            if not line:
                raise EOFError("the server closed the connection")
            lines.append(line[4:].decode("ascii").strip())
            if line[3:4] != b"-":
                break
        first, _, rest = lines[-1].partition(" ")
        enhanced = first if first[:2] in ("2.", "4.", "5.") else ""
        return Answer(int(line[:3]), enhanced, rest if enhanced else lines[-1])

    def closed(self) -> bool:
        """Whether the server ends the connection, after whatever it still has to say."""
        try:
            return self._file.read() is not None
        except ConnectionResetError:
            return True

    def __call__(self, command: str | bytes) -> Answer:
        """Send one line and return the reply to it."""
        self.send((command.encode() if isinstance(command, str) else command) + b"\r\n")
        return self.reply()

    def offer(self, sender: str, recipient: str, helo: str = "mx.sender.example") -> Answer:
        """EHLO, MAIL and RCPT; the first refusal, or the answer to RCPT."""
        for command in (f"EHLO {helo}", f"MAIL FROM:<{sender}>"):
            if (answer := self(command)).code >= 400:
                return answer
        return self(f"RCPT TO:<{recipient}>")

    def deliver(self, sender: str, recipient: str, content: bytes, helo: str = "mx.sender.example") -> Answer:
        """A whole transaction; the first refusal, or the answer to the final dot. `content` is sent as it is."""
        if (answer := self.offer(sender, recipient, helo)).code >= 400:
            return answer
        if (answer := self("DATA")).code != 354:
            return answer
        self.send(content + b".\r\n")
        return self.reply()
