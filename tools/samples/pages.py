"""The samples of the pages: where they stand, what belongs there, and what of them differs from run to run.

A sample is the code block behind a comment `<!-- sample: NAME -->`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from relay.log.lines import console
from tools.samples.demo_run import Line

ROOT = Path(__file__).parents[2]
PAGES = ("README.md", "docs/operating.md")

_SAMPLE = re.compile(r"(<!-- sample: (\S+) -->\n\n?)(```\n(?:.*\n)*?```\n|(?: {4}.*\n(?:\n(?= {4}))?)+)")
_ID = re.compile(r"\b[0-9A-HJKMNP-TV-Z]{12}\b")
_VARYING = [  # what differs between two runs, and what it is taken for
    (re.compile(r"\d\d:\d\d:\d\d"), "00:00:00"),
    (re.compile(r"[A-Z][a-z]{2}, \d\d"), "Day, 00"),
    (re.compile(r"[A-Z][a-z]{2} \d{4}(?= 00:00:00)"), "Mon 0000"),
    (re.compile(r"\bt=\d{10}\b"), "t=0000000000"),
    (re.compile(r"SRS0=(?!fakehash)[\w+/]{8}=[A-Z2-7]{2}="), "SRS0=HHHHHHHH=TT="),
    (re.compile(r'\bb="?[\w+/]{8}"?'), "b=BBBBBBBB"),
    (re.compile(r"\b[0-9a-f]{32}\b"), "0" * 32),
    (re.compile(r"\d+(?= octets)"), "0"),
    (re.compile(r"\b(port|size|delay)=[\d.]+"), r"\1=0"),
    (re.compile(r"message_id=<[^@>]+@"), "message_id=<0@"),
]


def samples(printed: str, log: Sequence[Line], aliases: str) -> Mapping[str, str]:
    """The code block of each sample, from one run of the demo and one of the commands for aliases."""
    message, bounce = [line["id"] for line in log if line["event"] == "queued"][:2]
    return {
        "demo": f"```\n{_stripped(printed)}\n```\n",
        "log": _indented(_lines_of(log, message)) + "\n" + _indented(_lines_of(log, bounce)),
        "session": _indented(_session_of(log, message)),
        "aliases": f"```\n{_stripped(aliases)}\n```\n",
    }


def replaced(page: str, blocks: Mapping[str, str]) -> str:
    """The text of a page with these samples; one that says the same already stays as it is."""

    def block(match: re.Match[str]) -> str:
        fresh = blocks[match[2]]
        return match[1] + (match[3] if comparable(match[3]) == comparable(fresh) else fresh)

    return _SAMPLE.sub(block, page)


def shown(page: str) -> dict[str, str]:
    """The samples of a page as they stand there."""
    return {match[2]: match[3] for match in _SAMPLE.finditer(page)}


def comparable(block: str) -> str:
    """A sample without what differs from run to run, as words with single blanks.

    Where the lines of a table break depends on the length of what differs: a quoted hash is longer. Queue ids are
    numbered, so that equal ones stay equal.
    """
    text = block
    for pattern, constant in _VARYING:
        text = pattern.sub(constant, text)
    numbers: dict[str, str] = {}
    text = _ID.sub(lambda match: numbers.setdefault(match[0], f"ID{len(numbers):010}"), text)
    return re.sub(r"[\s│]+", " ", text)


def _lines_of(log: Sequence[Line], queue_id: str) -> list[Line]:
    return [line for line in log if line.get("id") == queue_id]


def _session_of(log: Sequence[Line], queue_id: str) -> list[Line]:
    """The lines of a message, between the beginning and the end of the session that brought it."""
    first = next(number for number, line in enumerate(log) if line.get("id") == queue_id)
    connect = next(
        line for line in reversed(log[:first]) if line["event"] == "connect" and line["ip"] == log[first]["ip"]
    )
    ends = (line for line in log if line["event"] == "disconnect" and line["port"] == connect["port"])
    return [connect, *_lines_of(log, queue_id), next(ends)]


def _indented(lines: Sequence[Line]) -> str:
    return "".join(f"    {_on_terminal(line)}\n" for line in lines)


def _on_terminal(line: Line) -> str:
    """A line of JSON as it would stand on a terminal, at its own time in UTC."""
    fields = {"sender" if name == "from" else name: value for name, value in line.items()}
    del fields["time"], fields["level"]
    rendered = console(colour=False)(None, line["level"], fields)
    return str(line["time"])[11:19] + rendered.decode().rstrip("\n")[8:]


def _stripped(text: str) -> str:
    return "\n".join(line.rstrip() for line in text.strip("\n").splitlines())
