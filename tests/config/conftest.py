"""A folder for configurations."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with every file that the reference and the examples name."""
    (tmp_path / "dkim").mkdir()
    (tmp_path / "opendkim").mkdir()
    for name in (
        "srs.secret",
        "dkim/relay1.pem",
        "dkim/arc1.pem",
        "aliases",
        "fullchain.pem",
        "privkey.pem",
        "smarthost.password",
        "mx.fwd.example.pem",
        "mx.fwd.example.key",
        "users",
        "senders",
        "clients.access",
        "senders.access",
        "recipients.access",
    ):
        (tmp_path / name).write_text("x\n")
    return tmp_path
