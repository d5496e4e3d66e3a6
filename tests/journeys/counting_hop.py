"""A next hop that counts: the transactions under way at a moment, when each began, and what it takes or refuses."""

from __future__ import annotations

import asyncio
import time

from tests.journeys.loop_thread import LoopThread


class CountingHop:
    """An SMTP server at one address.

    Args:
        seconds: between the final dot and its reply.
        refuse: the reply to a command: "greeting", "EHLO", "MAIL", "RCPT" and so on, or "." for the final dot; may be
            changed while it runs. Lines are separated by CRLF.

    Attributes:
        began: when each MAIL came, in seconds since 1970.
        taken: the recipients of each message that was taken.
        most: the most transactions that were under way at once.
        connections: how many there were.
    """

    def __init__(self, address: str, port: int, *, seconds: float = 0.0, refuse: dict[str, str] | None = None) -> None:
        self.address, self.port = address, port
        self.seconds = seconds
        self.refuse = refuse if refuse is not None else {}
        self.began: list[float] = []
        self.taken: list[tuple[str, ...]] = []
        self.under_way = self.most = self.connections = 0
        self._loop = LoopThread()
        self._server: asyncio.Server | None = None

    def start(self) -> None:
        self._loop.start()
        self._server = self._loop.run(self._listen())

    def stop(self) -> None:
        if self._server is not None:
            self._server.close()
        self._loop.stop()

    async def _listen(self) -> asyncio.Server:
        return await asyncio.start_server(self._serve, self.address, self.port)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        recipients: list[str] = []
        is_under_way = False
        try:
            await _say(writer, self.refuse.get("greeting", "220 counting.example ESMTP"))
            while line := (await reader.readline()).decode().strip():
                verb = line.partition(" ")[0].upper()
                if verb in self.refuse:
                    if verb == "MAIL":
                        self.began.append(time.time())
                    await _say(writer, self.refuse[verb])
                elif verb == "MAIL":
                    recipients, is_under_way = [], True
                    self.began.append(time.time())
                    self.under_way += 1
                    self.most = max(self.most, self.under_way)
                    await _say(writer, "250 2.1.0 Ok")
                elif verb == "RCPT":
                    recipients.append(line.partition("<")[2].partition(">")[0])
                    await _say(writer, "250 2.1.5 Ok")
                elif verb == "DATA":
                    await _say(writer, "354 go on")
                    await reader.readuntil(b"\r\n.\r\n")
                    await asyncio.sleep(self.seconds)
                    if "." in self.refuse:
                        await _say(writer, self.refuse["."])
                        continue
                    self.taken.append(tuple(recipients))
                    self.under_way, is_under_way = self.under_way - 1, False
                    await _say(writer, "250 2.0.0 taken")
                elif verb == "QUIT":
                    await _say(writer, "221 2.0.0 bye")
                    return
                else:
                    await _say(writer, "250 counting.example")
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            self.under_way -= is_under_way
            writer.close()


async def _say(writer: asyncio.StreamWriter, reply: str) -> None:
    writer.write(reply.encode() + b"\r\n")
    await writer.drain()
