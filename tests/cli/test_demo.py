"""The demo as a newcomer runs it: it shows the truth, leaves nothing behind, and stops when it is told to."""

from __future__ import annotations

import os
import re
import signal
import smtplib
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

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
