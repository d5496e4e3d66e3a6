"""Reads assignments of a file that a shell sources, like /etc/default/postsrsd, and of a systemd unit.

Only assignments are read; no command runs. Quotes, backslashes and `$NAME` mean what they mean in sh(1).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import NamedTuple

_ASSIGNMENT = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)=")
_VARIABLE = re.compile(r"\$(?:([A-Za-z_][A-Za-z0-9_]*)|\{([A-Za-z_][A-Za-z0-9_]*)(?::?([-=])([^}]*))?\})")
# Words that an assignment may follow.
_BEFORE = ("export", "readonly", "declare", "local", "then", "else", "do")
_CLOSING = ("fi", "done", "esac")


class Variable(NamedTuple):
    """One assignment.

    Attributes:
        value: None where it is the output of a command.
        line: the number of its line.
    """

    name: str
    value: str | None
    line: int


class Word(NamedTuple):
    """A word of a shell.

    Attributes:
        is_computed: a part of it is the output of a command.
        begins_command: it is the first word of its command.
        after_assignment: it is a command behind an assignment, which then is for this command alone.
    """

    value: str
    line: int
    is_computed: bool
    begins_command: bool
    after_assignment: bool = False


def shell_variables(text: str, known: Mapping[str, str]) -> Iterator[Variable | Word]:
    """The assignments of a sourced file; also the first word of every other command, so that it can be named.

    Args:
        known: variables that have values before.

    Raises:
        ValueError: a quote does not end; the text names the line.
    """
    values = dict(known)
    commanded = assigned = False
    for word in words(text, values):
        if word.begins_command:
            commanded = assigned = False
        match = _ASSIGNMENT.match(word.value)
        if match and not commanded:
            value = None if word.is_computed else word.value[match.end() :]
            values[match[1]] = value or ""
            assigned = True
            yield Variable(match[1], value, word.line)
        elif not commanded and word.value not in _BEFORE:
            commanded = True
            if word.value not in _CLOSING:
                yield word._replace(after_assignment=assigned)


def words(text: str, values: Mapping[str, str]) -> Iterator[Word]:
    """The words of a shell's text. Raises ValueError: a quote does not end; the text names the line."""
    position, line, begins = 0, 1, True
    while position < len(text):
        character = text[position]
        if character in "\n;&|":
            line += character == "\n"
            begins = True
            position += 1
        elif character in " \t\r":
            position += 1
        elif character == "#":
            end = text.find("\n", position)
            position = len(text) if end < 0 else end
        elif text.startswith("\\\n", position):
            line, position = line + 1, position + 2
        else:
            value, is_computed, end = _word(text, position, line, values)
            yield Word(value, line, is_computed, begins)
            begins = False
            line += text.count("\n", position, end)
            position = end


def _word(text: str, position: int, line: int, values: Mapping[str, str]) -> tuple[str, bool, int]:
    """The value of the word that begins at a position, whether a command makes a part of it, and where it ends."""
    parts, is_computed, quote = list[str](), False, ""
    while position < len(text) and (quote or text[position] not in " \t\r\n;&|"):
        character = text[position]
        if quote == "'" or (character == "'" and not quote):
            if character == "'":
                quote = "" if quote else "'"
            else:
                parts.append(character)
            position += 1
        elif character == '"':
            quote = "" if quote else '"'
            position += 1
        elif character == "\\" and position + 1 < len(text):
            following = text[position + 1]
            if following != "\n":
                parts.append(following if not quote or following in '$`"\\' else character + following)
            position += 2
        elif character == "`" or text.startswith("$(", position):
            is_computed = True
            closing = "`" if character == "`" else ")"
            end = text.find(closing, position + 1)
            if end < 0:
                raise ValueError(f"line {line}: {closing} is missing")
            position = end + 1
        elif character == "$" and (match := _VARIABLE.match(text, position)) is not None:
            parts.append(values.get(match[1] or match[2]) or (match[4] if match[3] else None) or "")
            position = match.end()
        else:
            parts.append(character)
            position += 1
    if quote:
        raise ValueError(f"line {line}: the quote {quote} does not end")
    return "".join(parts), is_computed, position


class UnitLine(NamedTuple):
    """One setting in the section [Service] of a systemd unit: its value with its continuation lines, and its line."""

    name: str
    value: str
    line: int


def unit_lines(text: str) -> Iterator[UnitLine]:
    """The settings of the section [Service] of a unit, or of a drop-in (systemd.syntax(7))."""
    section, name, parts, first = "", "", list[str](), 0
    for number, raw in enumerate([*text.split("\n"), ""], 1):
        stripped = raw.strip()
        if parts:
            if not stripped.startswith(("#", ";")):
                parts.append(stripped.removesuffix("\\"))
        elif stripped.startswith("[") and stripped.endswith("]"):
            section = stripped
            continue
        elif section == "[Service]" and "=" in stripped and not stripped.startswith(("#", ";")):
            name, _, value = stripped.partition("=")
            parts, first = [value.strip().removesuffix("\\")], number
        if parts and not stripped.endswith("\\") and not stripped.startswith(("#", ";")):
            yield UnitLine(name.strip(), " ".join(parts).strip(), first)
            parts = []
