"""Clients that send numbered messages without end, and which of the numbers have arrived."""

from __future__ import annotations

import re
import smtplib
import threading
from collections import Counter

from tests.journeys.sinks import RecordingSink


class Load:
    """Clients in threads that send without end, each message under a number of its own.

    `acknowledged` are the numbers that got their 250. Each client sends a message again until it gets that, as an MTA
    does, and stops only then.

    Args:
        pause: seconds between two messages of a client.
        after: the number before the first.
    """

    def __init__(self, server: tuple[str, int], clients: int, pause: float = 0.0, after: int = 0) -> None:
        self.acknowledged: set[int] = set()
        self.sent = 0
        self._after = after
        self._server = server
        self._pause = pause
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._given_up = threading.Event()
        self._threads = [threading.Thread(target=self._client, daemon=True) for _ in range(clients)]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self, *, give_up: bool = False) -> None:
        """Stop, each client when its last message is acknowledged, or with `give_up` at once."""
        self._stopping.set()
        if give_up:
            self._given_up.set()
        for thread in self._threads:
            thread.join(30)
        self._given_up.set()
        for thread in self._threads:
            thread.join(60)

    def _client(self) -> None:
        while not self._stopping.wait(self._pause):
            with self._lock:
                self.sent += 1
                number = self._after + self.sent
            while number not in self.acknowledged and not self._given_up.is_set():
                try:
                    with smtplib.SMTP(*self._server, local_hostname="mx.sender.example", timeout=30) as session:
                        self._send(session, number)
                except (OSError, smtplib.SMTPException):
                    self._given_up.wait(0.05)

    def _send(self, session: smtplib.SMTP, number: int) -> None:
        content = f"From: ann@sender.example\r\nSubject: number {number}.\r\n\r\n{'x' * 70}\r\n"
        session.sendmail("ann@sender.example", ["alice@fwd.example"], content)
        self.acknowledged.add(number)


def numbers(sink: RecordingSink) -> Counter[int]:
    """How often each number arrived."""
    found = (re.search(rb"^Subject: number (\d+)\.", message.content, re.MULTILINE) for message in tuple(sink.received))
    return Counter(int(match.group(1)) for match in found if match)
