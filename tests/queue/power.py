"""A disk that loses its power: what processes wrote under strace, and what of it is left when the power goes.

What a process synced is there; of what it wrote since then, in files and in their sizes, any part may be.
"""

from __future__ import annotations

import os
import random
import re
import subprocess
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.peers import program

_LINE = re.compile(r"(\d+) +(.*)")
_CALL = re.compile(r"(\w+)\(\d+<((?:\\x..)*)>(.*)\) += \d+")
_WRITE = re.compile(r', "((?:\\x..)*)", \d+(?:, (\d+))? *')


class Event(NamedTuple):
    """A system call that succeeded: `pwrite64`, `ftruncate`, `fdatasync`, `fsync` or `write`.

    Attributes:
        began: when it did, counted in events.
        place: offset of a write, or new size of the file.
    """

    call: str
    path: Path
    began: int
    place: int = 0
    data: bytes = b""


def trace(commands: Sequence[Sequence[str]], output: Path) -> None:
    """Run commands side by side and record what they write.

    Raises:
        CalledProcessError
    """
    together = " & ".join(" ".join(command) for command in commands) + " & wait"
    calls = "pwrite64,ftruncate,fdatasync,fsync,write"
    strace = [program("strace"), "-f", "-y", "-xx", "-qq", "-s", "1000000", "-e", f"trace={calls}", "-e", "signal=none"]
    done = subprocess.run([*strace, "-o", str(output), "sh", "-c", together], capture_output=True, text=True)
    if "PTRACE" in done.stderr and "not permitted" in done.stderr:
        (pytest.fail if os.environ.get("CI") else pytest.skip)(f"no process may be traced here: {done.stderr.strip()}")
    done.check_returncode()


def events(lines: Iterable[str]) -> Iterator[Event]:
    """What a trace tells, in the order in which it was done."""
    unfinished: dict[str, tuple[int, str]] = {}
    for number, line in enumerate(lines):
        match = _LINE.fullmatch(line.rstrip("\n"))
        assert match, line
        process, text = match.groups()
        if text.endswith(" <unfinished ...>"):
            unfinished[process] = number, text.removesuffix(" <unfinished ...>")
            continue
        began = number
        if text.startswith("<... "):
            began, beginning = unfinished.pop(process)
            text = beginning + text.partition(" resumed>")[2]
        if call := _CALL.fullmatch(text):
            yield _event(call, began)


def _event(call: re.Match[str], began: int) -> Event:
    name, path, rest = call[1], Path(os.fsdecode(_octets(call[2]))), call[3]
    if name in ("write", "pwrite64"):
        written = _WRITE.fullmatch(rest)
        assert written, rest
        return Event(name, path, began, int(written[2] or 0), _octets(written[1]))
    return Event(name, path, began, int(rest.strip(", ")) if name == "ftruncate" else 0)


def _octets(shown: str) -> bytes:
    return bytes.fromhex(shown.replace("\\x", ""))


@dataclass(slots=True)
class _File:
    synced: bytes = b""
    since: list[Event] = field(default_factory=list)


class Disk:
    """Files as events make them."""

    def __init__(self) -> None:
        self._files: dict[Path, _File] = defaultdict(_File)

    def happens(self, event: Event) -> None:
        file = self._files[event.path]
        if event.call in ("pwrite64", "ftruncate"):
            file.since.append(event)
        elif event.call in ("fdatasync", "fsync"):
            file.synced = _applied(file.synced, [e for e in file.since if e.began < event.began])
            file.since = [e for e in file.since if e.began >= event.began]

    def left(self, path: Path, chance: random.Random, share: float) -> bytes:
        """What is left of a file if the power goes now, with about this share of what was not synced."""
        file = self._files[path]
        return _applied(file.synced, [e for e in file.since if chance.random() < share])


def _applied(content: bytes, changes: Iterable[Event]) -> bytes:
    result = bytearray(content)
    for event in changes:
        if event.call == "ftruncate":
            del result[event.place :]
        result.extend(bytes(max(0, event.place - len(result))))
        result[event.place : event.place + len(event.data)] = event.data
    return bytes(result)
