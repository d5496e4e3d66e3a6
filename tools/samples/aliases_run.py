"""Runs `srs-relay aliases …` on a small alias file, as a reader would, and takes what it prints."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path

from tools.samples.demo_run import COLUMNS, PATIENCE

FOLDER = "/var/lib/srs-relay"  # where the reader has it
_CONFIG = """\
hostname = "mx.fwd.example"
listen = [{address = "127.0.0.1:25"}]
srs = {domain = "fwd.example", secrets_file = "srs.secret"}
senders = {local_domains = ["fwd.example"]}
routes = {aliases = "aliases"}
"""
_ALIASES = """\
# The people of the office
alice@fwd.example    alice@mailbox.example
"""
_COMMANDS = (
    "add team@fwd.example alice@fwd.example bob@company.example",
    "add carol@fwd.example --reject 'Carol has left'",
    "add info@club.example alice@mailbox.example",
    "list",
    "test team+news@fwd.example",
    "test carol@fwd.example",
    "remove info@club.example",
)


def run_aliases() -> str:
    """The commands and what they print in 80 columns, each command behind a `$`."""
    # The name of the folder is as long as that of the reader, so that lines break at the same places.
    with tempfile.TemporaryDirectory(prefix="relay") as name:
        folder = Path(name)
        (folder / "relay.toml").write_text(_CONFIG, encoding="utf-8")
        (folder / "aliases").write_text(_ALIASES, encoding="utf-8")
        (folder / "srs.secret").write_text("a secret of sixteen octets\n", encoding="utf-8")
        config = {"SRS_RELAY_CONFIG": str(folder / "relay.toml"), "COLUMNS": str(COLUMNS), "NO_COLOR": "1"}
        printed = "".join(f"$ srs-relay aliases {command}\n{_run(command, config)}" for command in _COMMANDS)
    return printed.replace(name, FOLDER)


def _run(command: str, environ: dict[str, str]) -> str:
    arguments = [sys.executable, "-m", "relay", "aliases", *shlex.split(command)]
    done = subprocess.run(
        arguments,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=os.environ | environ,
        timeout=PATIENCE,
        check=False,
    )
    return done.stdout
