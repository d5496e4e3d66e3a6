"""Reads the text files of other programs, whatever their encoding."""

from __future__ import annotations

from pathlib import Path

from relay.importer.draft import ImportFailed


def read_text(path: Path) -> str:
    """The text of a file. One that is not UTF-8 is read as Latin-1: a comment of somebody's must not stop an import.

    Raises:
        ImportFailed: the file cannot be read, or is no text.
    """
    try:
        octets = path.read_bytes()
    except OSError as error:
        raise ImportFailed(f"{path}: {error.strerror}") from None
    return decoded(octets, str(path))


def decoded(octets: bytes, source: str) -> str:
    """The text of octets, see `read_text`. Raises ImportFailed: they are no text."""
    if b"\0" in octets:
        raise ImportFailed(f"{source}: this is no text file")
    try:
        return octets.decode("utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError:
        return octets.decode("latin-1").replace("\r\n", "\n")
