"""The counts of a `disconnect` line beside those of Postfix, after the same dialogue."""

from __future__ import annotations

import re
import socket
from collections.abc import Callable

import pytest

from tests.journeys.postfix import Postfix
from tests.journeys.world import SENDER, World
from tests.peers import free_port, needs, wait_until

pytestmark = [needs("postfix", root=True), pytest.mark.slow]

ADDRESS = "127.0.0.9"
MAIL = b"EHLO a\r\nMAIL FROM:<a@sender.example>\r\nRCPT TO:<alice@fwd.example>\r\n"
DIALOGUES = [
    b"",
    b"QUIT\r\nNOOP\r\n",
    b"NOOP\r\nRSET\r\nHELO a\r\nEHLO\r\nEHLO b\r\nVRFY alice@fwd.example\r\nQUIT\r\n",
    b"EHLO a\r\nauth plain AGpvZQBodW50ZXIy\r\nAUTH LOGIN\r\nam9l\r\naHVudGVyMg==\r\nAUTH\r\nQUIT\r\n",
    b"EHLO a\r\nAUTH PLAIN \0joe\0hunter2\r\nAUTH PLAIN " + b"hunter2=" * 600 + b"\r\nQUIT\r\n",
    b"EHLO\ta\r\n AUTH\tPLAIN x\r\n\tNOOP\tx\r\nQUIT\r\n",
    b"EHLO a\r\nSTARTTLS\r\nfoo\r\nMAIL\r\nRCPT\r\nETRN x\r\nQUIT\r\n",
    b"MAIL FROM:<a@sender.example>\r\nRCPT TO:<alice@fwd.example>\r\nDATA\r\nQUIT\r\n",
    b"EHLO a\r\nMAIL FROM:<a@sender.example>\r\nMAIL FROM:<a@sender.example>\r\nRCPT\r\nDATA\r\nRSET x\r\nQUIT\r\n",
    MAIL + b"RCPT TO:<nobody@fwd.example>\r\nRCPT TO:<x@elsewhere.example>\r\nDATA x\r\nRSET\r\nQUIT\r\n",
    MAIL,
    MAIL + b"DATA\r\nFrom: a@sender.example\r\n",
    MAIL + b"DATA\r\nFrom: a@sender.example\r\n\r\nhi\r\n.\r\n" + MAIL + b"QUIT\r\n",
    MAIL + b"BDAT 8\r\nA: b\r\n\r\n" + b"bdat 4 last\r\nhi\r\n" + b"BDAT 6 LAST\r\nQUIT\r\n" + b"QUIT\r\n",
    MAIL + b"BDAT 8\r\nA: b\r\n\r\n" + b"DATA\r\nRCPT TO:<alice@fwd.example>\r\nRSET\r\nQUIT\r\n",
    MAIL + b"BDAT x\r\nQUIT\r\n",
    b"EHLO a\r\nBDAT 6 LAST\r\nQUIT\r\n" + b"MAIL FROM:<a@sender.example>\r\nBDAT 6\r\nNOOP\r\nRSET\r\nQUIT\r\n",
]


def _say(address: str, port: int, dialogue: bytes) -> None:
    """Say it all at once, and read until the server has hung up."""
    with socket.create_connection((address, port), timeout=20, source_address=(SENDER, 0)) as client:
        client.recv(1000)
        client.sendall(dialogue)
        client.shutdown(socket.SHUT_WR)
        while client.recv(65536):
            pass


def test_they_are_the_same(world: World) -> None:
    relay = world.relay(aliases="alice@fwd.example carol@mailbox.example\n", workers=1)
    postfix = Postfix(
        world.base / "postfix",
        "mx.fwd.example",
        ADDRESS,
        free_port(),
        mailboxes=["alice@fwd.example"],
        settings={
            "smtpd_helo_required": "yes",
            "mynetworks": f"{ADDRESS}/32",
            "smtpd_error_sleep_time": "0",
            "smtpd_relay_restrictions": "reject_unauth_destination",
        },
    )
    world.start(postfix)

    def ours() -> list[str]:
        ends = [line for line in relay.events("disconnect") if line["ip"] == SENDER]
        head = ("time", "level", "event", "ip", "port")
        return [" ".join(f"{name}={count}" for name, count in line.items() if name not in head) for line in ends]

    def theirs() -> list[str]:
        return re.findall(rf"disconnect from unknown\[{re.escape(SENDER)}\] (.*)", postfix.log)

    def both(count: int) -> Callable[[], bool]:
        return lambda: len(ours()) == len(theirs()) == count

    for number, dialogue in enumerate(DIALOGUES, 1):
        _say(relay.address, relay.port, dialogue)
        _say(ADDRESS, postfix.port, dialogue)
        wait_until(both(number), "both lines")
        assert ours()[-1] == theirs()[-1], dialogue
