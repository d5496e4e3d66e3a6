"""The published SPF test suite for RFC 7208: its zones as `ZoneServer`s, its cases as plain data.

It comes in pyspf's source distribution and under its own licence, so it is downloaded when it is wanted, pinned by its
hash, and kept in `.cache/`. The checks and the SMTP door run the same cases.
"""

from __future__ import annotations

import hashlib
import io
import os
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from relay.cli.zone import ZoneServer

PACKAGE = "pyspf==2.0.14"
SHA256 = "57a7ef01bda090173aafb6af0106251686ed73f03db4e911fcd34c57fc347186"
MEMBER = "pyspf-2.0.14/test/rfc7208-tests.yml"
CACHE = Path(__file__).parents[2] / ".cache" / "pyspf-2.0.14.tar.gz"


@dataclass(frozen=True, slots=True)
class Case:
    """One check. `explanation` is None where the suite does not look at it, and empty where there must be none."""

    name: str
    host: str
    helo: str
    mailfrom: str
    results: tuple[str, ...]
    explanation: str | None


@dataclass(frozen=True, slots=True)
class Scenario:
    """Cases that share a zone: `{(name, type): [rdata]}`, and the names whose other types time out."""

    description: str
    cases: tuple[Case, ...]
    records: dict[tuple[str, str], list[str]]
    silent: frozenset[str]

    def server(self) -> ZoneServer:
        return ZoneServer(self.records, dict.fromkeys(self.silent, "timeout"))


def load() -> list[Scenario]:
    """Every scenario; without a network and a copy the test at hand is skipped (in CI it fails)."""
    with tarfile.open(fileobj=io.BytesIO(_archive())) as archive:
        member = archive.extractfile(MEMBER)
        assert member is not None
        return [_scenario(document) for document in yaml.safe_load_all(member.read())]


def _archive() -> bytes:
    if not (CACHE.exists() and hashlib.sha256(CACHE.read_bytes()).hexdigest() == SHA256):
        CACHE.parent.mkdir(exist_ok=True)
        with tempfile.TemporaryDirectory(dir=CACHE.parent) as folder:
            wanted = Path(folder, "requirements.txt")
            wanted.write_text(f"{PACKAGE} --hash=sha256:{SHA256}\n")
            pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary", "pyspf"]
            done = subprocess.run([*pip, "--dest", folder, "--requirement", wanted], capture_output=True, text=True)
            if done.returncode:
                give_up = pytest.fail if os.environ.get("CI") else pytest.skip
                give_up(f"pip download {PACKAGE}: {done.stderr.strip()}")
            Path(folder, CACHE.name).replace(CACHE)
    return CACHE.read_bytes()


def _scenario(document: dict[str, Any]) -> Scenario:
    records: dict[tuple[str, str], list[str]] = {}
    for name, entries in document["zonedata"].items():
        for rdtype, value in _entries(entries):
            records.setdefault((name, rdtype), []).append(_rdata(rdtype, value))
    silent = frozenset(name for name, entries in document["zonedata"].items() if "TIMEOUT" in entries)
    cases = tuple(_case(name, fields) for name, fields in document["tests"].items())
    return Scenario(document["description"], cases, records, silent)


def _case(name: str, fields: dict[str, Any]) -> Case:
    results = fields["result"]
    explanation = fields.get("explanation")
    return Case(
        name=name,
        host=fields["host"],
        helo=fields["helo"],
        mailfrom=fields["mailfrom"],
        results=tuple(results) if isinstance(results, list) else (results,),
        explanation="" if explanation == "DEFAULT" else explanation,
    )


def _entries(entries: Sequence[Any]) -> Iterator[tuple[str, Any]]:
    """Type and value. Records of the old type SPF stand for TXT as well, unless the name speaks of TXT itself."""
    pairs = [pair for entry in entries if isinstance(entry, dict) for pair in entry.items()]
    if all(rdtype != "TXT" for rdtype, _ in pairs):
        pairs += [("TXT", value) for rdtype, value in pairs if rdtype == "SPF"]
    return (pair for pair in pairs if pair != ("TXT", "NONE"))


def _rdata(rdtype: str, value: Any) -> str:
    if rdtype in ("SPF", "TXT"):
        strings = [value] if isinstance(value, str) else value
        return " ".join(map(_character_string, strings or [""]))  # a TXT record without strings cannot be sent
    if rdtype == "MX":
        return f"{value[0]} {value[1] or '.'}"
    return str(value)


def _character_string(text: str) -> str:
    octets = (chr(o) if 32 <= o < 127 and chr(o) not in '"\\' else f"\\{o:03}" for o in text.encode())
    return '"' + "".join(octets) + '"'
