"""Files of other programs, in whatever encoding."""

from __future__ import annotations

from pathlib import Path

import pytest

from relay.importer.draft import ImportFailed
from relay.importer.source_file import read_text


@pytest.mark.parametrize(
    ("octets", "text"),
    [
        ("# für\n".encode(), "# für\n"),
        ("# für\n".encode("latin-1"), "# für\n"),
        (b"\xef\xbb\xbfa = b\r\n", "a = b\n"),
    ],
)
def test_the_encoding_stops_nothing(tmp_path: Path, octets: bytes, text: str) -> None:
    (tmp_path / "file").write_bytes(octets)
    assert read_text(tmp_path / "file") == text


def test_what_is_no_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "virtual.db").write_bytes(b"a\0b")
    with pytest.raises(ImportFailed, match=r"virtual\.db: this is no text file"):
        read_text(tmp_path / "virtual.db")


@pytest.mark.parametrize(("name", "problem"), [("nothing", "No such file"), (".", "Is a directory")])
def test_what_cannot_be_read_is_named(tmp_path: Path, name: str, problem: str) -> None:
    with pytest.raises(ImportFailed, match=problem):
        read_text(tmp_path / name)
