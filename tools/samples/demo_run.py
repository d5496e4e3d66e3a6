"""Runs `srs-relay demo --stay` as a reader would, and takes what it prints and what the relay logs meanwhile."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

PATIENCE = 30.0  # seconds for a run, which takes three
COLUMNS = 80
_STAYS = "It stays up until Ctrl-C"

Line = dict[str, Any]


def run_demo() -> tuple[str, list[Line]]:
    """What the demo prints in 80 columns, and the lines of the relay's log until both messages are delivered.

    Raises:
        RuntimeError: the demo failed, or took too long.
    """
    environ = os.environ | {"COLUMNS": str(COLUMNS), "PYTHONUNBUFFERED": "1", "NO_COLOR": "1"}
    with tempfile.TemporaryDirectory() as folder:
        environ["TMPDIR"] = folder
        command = [sys.executable, "-m", "relay", "demo", "--stay"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environ) as demo:
            assert demo.stdout is not None and demo.stderr is not None
            try:
                printed = []
                for line in demo.stdout:
                    if line.startswith(_STAYS):
                        break
                    printed.append(line)
                else:
                    raise RuntimeError(f"the demo failed: {demo.stderr.read()}")
                log = _log(Path(folder))
                demo.send_signal(signal.SIGINT)
                demo.communicate(timeout=PATIENCE)
            finally:
                demo.kill()
    return "".join(printed), log


def _log(folder: Path) -> list[Line]:
    """The log, once two messages are delivered and the sessions that brought them are over."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        text = "".join(path.read_text(encoding="utf-8") for path in folder.glob("*/log"))
        lines = [json.loads(line) for line in text[: text.rfind("\n") + 1].splitlines()]
        events = [line["event"] for line in lines]
        if events.count("delivered") >= 2 and events.count("disconnect") >= events.count("connect"):
            return lines
        time.sleep(0.02)
    raise RuntimeError("the demo's messages were not delivered in time")
