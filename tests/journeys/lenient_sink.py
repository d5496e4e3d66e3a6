"""A next hop with every fault at once that smuggling lives on: any line end, any NUL, one dot, and the message is over.

What follows such an end is taken for commands, so that a message hidden in another one is a transaction of its own.
"""

from __future__ import annotations

import re
import socketserver
import threading
from typing import Any

_LINE_END = rb"(?:\r\x00*\n|\r|\n)"
_END = re.compile(rb"(?:^|" + _LINE_END + rb")\x00*\.\x00*" + _LINE_END)


class LenientSink:
    """An SMTP server in threads that keeps what it takes.

    Attributes:
        taken: sender and content of each message, in the order of their ends.
    """

    def __init__(self, address: str, port: int) -> None:
        self.address, self.port = address, port
        self.taken: list[tuple[str, bytes]] = []
        self._server: socketserver.ThreadingTCPServer | None = None

    def start(self) -> LenientSink:
        sink = self

        class Session(socketserver.BaseRequestHandler):
            def handle(self) -> None:
                _serve(self.request, sink.taken)

        class Server(socketserver.ThreadingTCPServer):
            allow_reuse_address = True
            daemon_threads = True

        self._server = Server((self.address, self.port), Session)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def stop(self) -> None:
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()


def _serve(client: object, taken: list[tuple[str, bytes]]) -> None:
    stream = _Stream(client)
    stream.say(b"220 lenient.example ESMTP")
    sender = ""
    while (line := stream.line()) is not None:
        verb = line.upper()
        if verb.startswith(b"EHLO"):
            stream.say(b"250-lenient.example\r\n250-PIPELINING\r\n250-8BITMIME\r\n250 SMTPUTF8")
        elif verb.startswith(b"MAIL"):
            sender = line.partition(b"<")[2].partition(b">")[0].decode()
            stream.say(b"250 2.1.0 Ok")
        elif verb.startswith(b"DATA"):
            stream.say(b"354 go on")
            content = stream.message()
            if content is None:
                return
            taken.append((sender, content))
            stream.say(b"250 2.0.0 taken")
        elif verb.startswith(b"QUIT"):
            stream.say(b"221 2.0.0 Bye")
            return
        else:
            stream.say(b"250 2.0.0 Ok")


class _Stream:
    def __init__(self, client: object) -> None:
        self._client: Any = client
        self._buffer = b""

    def say(self, line: bytes) -> None:
        self._client.sendall(line + b"\r\n")

    def _more(self) -> bool:
        try:
            block = self._client.recv(65536)
        except OSError:
            return False
        self._buffer += block
        return bool(block)

    def line(self) -> bytes | None:
        while b"\n" not in self._buffer:
            if not self._more():
                return None
        line, _, self._buffer = self._buffer.partition(b"\n")
        return line.strip(b"\r\0")

    def message(self) -> bytes | None:
        """The content up to the first thing that could be an end."""
        while (end := _END.search(self._buffer)) is None or (end.end() == len(self._buffer) and end[0].endswith(b"\r")):
            if not self._more():
                return None
        content, self._buffer = self._buffer[: end.start()], self._buffer[end.end() :]
        return content
