"""The demo as a newcomer runs it: it shows the truth, leaves nothing behind, and stops when it is told to."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import smtplib
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from relay.cli.demo_servers import MailServer, Received
from relay.cli.demo_tour import DemoSignature, Findings
from tests.peers import wait_until


@contextmanager
def running(folder: Path, *args: str) -> Iterator[subprocess.Popen[str]]:
    """The demo with its temporary files in `folder`, and variables that are none of its business."""
    environ = os.environ | {"TMPDIR": str(folder), "RELAY_WORKERS": "none", "PYTHONUNBUFFERED": "1", "COLUMNS": "100"}
    command = [sys.executable, "-m", "relay", "demo", *args]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environ) as process:
        try:
            yield process
        finally:
            process.kill()


def cells(output: str) -> list[list[str]]:
    """The rows of all tables."""
    return [[cell.strip() for cell in line.split("│")[1:-1]] for line in output.splitlines() if "│" in line]


@pytest.mark.slow
def test_it_shows_what_the_rewriting_does(tmp_path: Path) -> None:
    with running(tmp_path) as process:
        out, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (0, "")
    rows = {row[0]: row[1:] for row in cells(out)}
    assert rows["MAIL FROM"][0] == "news@shop.example"
    assert re.fullmatch(r"SRS0=\S{8}=[A-Z2-7]{2}=shop\.example=news@fwd\.example", rows["MAIL FROM"][1])
    assert rows["RCPT TO"] == ["alice@fwd.example", "alice@mailbox.example"]
    assert rows["without rewriting"] == ["news@shop.example", "fail"]
    assert rows["with rewriting"] == [rows["MAIL FROM"][1], "pass"]
    assert rows["fwd.example"] == ["relay1", "rsa-sha256", "pass"]
    assert rows["shop.example"] == ["news1", "rsa-sha256", "pass"]
    assert rows["DMARC, p=reject"] == ["shop.example", "pass"]
    assert rows["ARC"] == ["sealed by fwd.example", "pass"]
    assert {"ARC-Seal", "DKIM-Signature", "Authentication-Results", "Received"} <= rows.keys()
    assert rows["at the sender"] == ["news@shop.example", "arrived from <>"]
    assert rows["forged"][1].startswith("550 5.1.1")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_it_stays_for_mail_of_ones_own(tmp_path: Path) -> None:
    with running(tmp_path, "--stay") as process:
        assert process.stdout is not None and process.stderr is not None
        lines = iter(process.stdout.readline, "")
        shown = next(line for line in lines if line.startswith("  swaks "))
        next(line for line in lines if line.startswith("What arrives"))
        server = re.search(r"--server (\S+):(\d+)", shown)
        assert server is not None
        with smtplib.SMTP(server[1], int(server[2]), source_address=("127.0.0.2", 0)) as client:
            client.sendmail("news@shop.example", ["alice@fwd.example"], "Subject: by hand\r\n\r\nhello\r\n")
        arrived = next(lines)
        assert re.match(r"  mx\.mailbox\.example: <SRS0=\S+> to alice@mailbox\.example, \d+ octets", arrived)
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 0
        assert process.stderr.read() == ""
    with pytest.raises(ConnectionRefusedError):
        smtplib.SMTP(server[1], int(server[2]))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_cleans_up_when_it_is_stopped_half_way(tmp_path: Path, number: signal.Signals) -> None:
    with running(tmp_path) as process:
        wait_until(lambda: list(tmp_path.glob("*/log")), "the relay's start")
        process.send_signal(number)
        _, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (130, "")
    assert list(tmp_path.iterdir()) == []


# --- what counts as a failure -----------------------------------------------------------------------------------------

GOOD = Findings(
    original=b"Subject: a\r\n\r\n",
    arrived=Received(
        "127.0.0.3", "mx.fwd.example", "SRS0=x", ("alice@mailbox.example",), b"A: b\r\nSubject: a\r\n\r\n"
    ),
    spf_without="fail",
    spf_with="pass",
    signatures=(
        DemoSignature("fwd.example", "a", "rsa-sha256", True),
        DemoSignature("shop.example", "b", "rsa-sha256", True),
    ),
    dmarc="pass",
    arc="pass",
    accepted="250 2.0.0 Ok",
    returned=Received("127.0.0.3", "mx.fwd.example", "", ("news@shop.example",), b""),
    refused="550 5.1.1 forged",
)


def test_nothing_is_wrong_when_all_is_well() -> None:
    assert GOOD.problems == []


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        (replace(GOOD, original=b"Subject: b\r\n\r\n"), "the message was changed on its way"),
        (replace(GOOD, dmarc="fail"), "DMARC does not pass for the author's domain"),
        (replace(GOOD, arc="none"), "the ARC chain is not whole"),
        (replace(GOOD, spf_with="fail"), "SPF does not pass with the rewritten sender"),
        (replace(GOOD, signatures=GOOD.signatures[:1]), "a DKIM signature is missing or broken"),
        (
            replace(GOOD, signatures=(GOOD.signatures[0], replace(GOOD.signatures[1], valid=False))),
            "a DKIM signature is missing or broken",
        ),
        (replace(GOOD, returned=replace(GOOD.returned, sender="x@y.example")), "the bounce did not reach the sender"),
        (replace(GOOD, refused="250 2.0.0 Ok"), "a forged SRS address was not refused"),
    ],
)
def test_what_is_not_as_it_must_be_is_named(bad: Findings, said: str) -> None:
    assert bad.problems == [said]


# --- the hosts --------------------------------------------------------------------------------------------------------


async def test_a_host_shows_what_it_got_octet_for_octet() -> None:
    host, other = MailServer("mx.a.example", "127.0.0.2"), MailServer("mx.b.example", "127.0.0.4")
    port = await host.start(0)
    try:
        reply = await other.send(("127.0.0.2", port), "", "b@a.example", b"Subject: x\r\n\r\n.\r\n..dots\r\n\xe9\r\n")
        received = await host.next_message(5)
    finally:
        await host.close()
    assert reply == "250 2.0.0 Ok"
    content = b"Subject: x\r\n\r\n.\r\n..dots\r\n\xe9\r\n"
    assert received == Received("127.0.0.4", "mx.b.example", "", ("b@a.example",), content)


async def test_a_host_that_closes_hangs_up() -> None:
    host = MailServer("mx.a.example", "127.0.0.2")
    reader, writer = await asyncio.open_connection("127.0.0.2", await host.start(0))
    assert (await reader.readline()).startswith(b"220 ")
    async with asyncio.timeout(5):
        await host.close()
        assert await reader.read() == b""
    writer.close()


async def test_a_host_says_when_nothing_comes() -> None:
    with pytest.raises(TimeoutError):
        await MailServer("mx.a.example", "127.0.0.2").next_message(0.01)
