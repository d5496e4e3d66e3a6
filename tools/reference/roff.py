"""Writes text as roff, the language of manual pages."""

from __future__ import annotations

import re
import textwrap

WIDTH = 78
DATE = "2026-11-29"  # what the manual pages show; a release sets it


def escape(text: str) -> str:
    """Text for roff: no character of it is taken for a request."""
    for plain, escaped in (("\\", "\\e"), ("-", "\\-"), ("'", "\\(aq"), ("`", "\\(ga"), ("^", "\\(ha"), ("~", "\\(ti")):
        text = text.replace(plain, escaped)
    text = "".join(c if ord(c) < 128 else f"\\[u{ord(c):04X}]" for c in text)
    return "\\&" + text if text.startswith(".") else text


def prose(text: str) -> str:
    """A paragraph: what is between backticks is bold, and each sentence begins a line."""
    sentences = re.split(r"(?<=\.) (?=[A-Z\"`])", " ".join(text.split()))
    return "\n".join(line for sentence in sentences for line in _lines(_inline(sentence)))


def _lines(text: str) -> list[str]:
    lines = textwrap.wrap(text, WIDTH, break_long_words=False, break_on_hyphens=False)
    return ["\\&" + line if line.startswith((".", "'")) else line for line in lines]


def _inline(text: str) -> str:
    pieces = re.split(r"`([^`]+)`", text)
    return "".join(bold(piece) if number % 2 else escape(piece) for number, piece in enumerate(pieces))


def bold(text: str) -> str:
    """Text as it is typed."""
    return f"\\fB{escape(text)}\\fR"


def paragraphs(text: str) -> list[str]:
    """The paragraphs of a text; those that are indented by four spaces stay as they are."""
    lines: list[str] = []
    for number, paragraph in enumerate(text.split("\n\n")):
        if paragraph.startswith("    "):
            lines += [".nf", *(escape(line) for line in paragraph.split("\n")), ".fi"]
        else:
            if number and not lines[-1].startswith(".fi"):
                lines.append(".sp")
            lines.append(prose(paragraph))
    return lines


def heading(name: str, section: int, summary: str) -> list[str]:
    """The head of a manual page."""
    return [
        '.\\" Generated from the program: "make reference" writes it.',
        f'.TH {escape(name.upper())} {section} "{DATE}" "srs\\-relay" "srs\\-relay"',
        ".nh",  # keys and options are never hyphenated
        ".SH NAME",
        f"{escape(name)} \\- {escape(summary)}",
    ]
