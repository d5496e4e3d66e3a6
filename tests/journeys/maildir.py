"""What arrived in a Maildir: the one place where tests read mailboxes."""

from __future__ import annotations

import email.policy
from email.message import EmailMessage
from pathlib import Path


def read_maildir(folder: Path) -> list[bytes]:
    """The messages of a Maildir, oldest first. A folder that is not there yet holds none."""
    found = [path for name in ("new", "cur") for path in (folder / name).glob("*")]
    return [path.read_bytes() for path in sorted(found, key=lambda path: path.stat().st_mtime_ns)]


def parse(content: bytes) -> EmailMessage:
    """The message as the standard library reads it."""
    return email.message_from_bytes(content, policy=email.policy.default)


def return_path(content: bytes) -> str:
    """The envelope sender as the final host recorded it (RFC 5321 section 4.4); empty for the null sender."""
    values = [value for name, value in email.message_from_bytes(content).items() if name.lower() == "return-path"]
    assert values, "no Return-Path"
    return values[0].strip().removeprefix("<").removesuffix(">")
