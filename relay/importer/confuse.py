"""The syntax of libconfuse, in which postsrsd.conf of PostSRSd 2 is written."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import NamedTuple

_BLANK = re.compile(r"(?:[ \t\r\n]|(?:#|//)[^\n]*|/\*.*?\*/)+", re.DOTALL)
_UNQUOTED = re.compile(r"[^ \t\r\n\"'={}()+,]+")
_ESCAPES = {"n": "\n", "t": "\t", "b": "\b", "r": "\r", "f": "\f", "a": "\a", "e": "\x1b", "v": "\v"}
_ESCAPE = re.compile(r"\\(?:x([0-9A-Fa-f]{1,2})|([0-7]{1,3})|(.))", re.DOTALL)
_ENVIRONMENT = re.compile(r"\$\{([^}:]*)(?::-([^}]*))?\}")


class Option(NamedTuple):
    """One option.

    Attributes:
        values: one value, or those of a list.
        appends: it was written with `+=`.
    """

    name: str
    values: tuple[str, ...]
    appends: bool
    line: int


class _Token(NamedTuple):
    text: str
    is_string: bool  # quoted, so that it is no punctuation
    line: int


def options(text: str, environ: Mapping[str, str]) -> Iterator[Option]:
    """The options of a file in their order. `include("file")` is an option of that name.

    Args:
        environ: for `${NAME}`.

    Raises:
        ValueError: the text is not in this syntax; it names the line.
    """
    tokens = [*_tokens(text, environ), _Token("", False, 1 + text.count("\n"))]
    position = 0
    while position < len(tokens) - 1:
        name, sign = tokens[position], tokens[position + 1]
        if name.is_string or not re.fullmatch(r"[A-Za-z][\w-]*", name.text):
            raise ValueError(f"line {name.line}: the name of an option is expected, not {name.text!r}")
        if sign.is_string or sign.text not in ("=", "+=", "("):
            raise ValueError(f"line {name.line}: {name.text}: = is missing")
        position += 2
        opening = tokens[position]
        closing = ")" if sign.text == "(" else "}" if opening.text == "{" and not opening.is_string else ""
        if closing == "}":
            position += 1
        values = list[str]()
        while True:
            token = tokens[position]
            position += 1
            if closing and token.text == closing and not token.is_string:
                break
            is_value = token.is_string or token.text not in ("", "=", "+=", "{", "}", "(", ")")
            if not is_value or (not closing and token.text == "," and not token.is_string):
                raise ValueError(f"line {token.line}: {name.text}: a value is expected")
            if token.is_string or token.text != ",":
                values.append(token.text)
            if not closing:
                break
        yield Option(name.text, tuple(values), sign.text == "+=", name.line)


def _tokens(text: str, environ: Mapping[str, str]) -> Iterator[_Token]:
    position = 0
    while position < len(text):
        line = 1 + text.count("\n", 0, position)
        blank = _BLANK.match(text, position)
        if blank is not None:
            position = blank.end()
        elif text[position] in "\"'":
            value, position = _quoted(text, position, line, environ)
            yield _Token(value, True, line)
        elif (variable := _ENVIRONMENT.match(text, position)) is not None:
            yield _Token(_expanded(variable[0], environ), True, line)
            position = variable.end()
        elif text.startswith("+=", position):
            yield _Token("+=", False, line)
            position += 2
        elif text[position] in "={}(),":
            yield _Token(text[position], False, line)
            position += 1
        else:
            word = _UNQUOTED.match(text, position)
            if word is None or text.startswith("/*", position):
                raise ValueError(f"line {line}: {text[position]!r} has no meaning here")
            yield _Token(word[0], False, line)
            position = word.end()


def _quoted(text: str, position: int, line: int, environ: Mapping[str, str]) -> tuple[str, int]:
    """The string that begins at a position, and where it ends. Raises ValueError: it does not end."""
    quote = text[position]
    end = position + 1
    while end < len(text) and text[end] != quote:
        end += 2 if text[end] == "\\" else 1
    if end >= len(text):
        raise ValueError(f"line {line}: the quote {quote} does not end")
    inner = text[position + 1 : end]
    if quote == "'":
        return re.sub(r"\\([\\'\n])", lambda match: match[1].strip("\n"), inner), end + 1
    return _ESCAPE.sub(_unescaped, _expanded(inner, environ)), end + 1


def _unescaped(match: re.Match[str]) -> str:
    if match[1]:
        return chr(int(match[1], 16))
    if match[2]:
        return chr(int(match[2], 8))
    return "" if match[3] == "\n" else _ESCAPES.get(match[3], match[3])


def _expanded(text: str, environ: Mapping[str, str]) -> str:
    return _ENVIRONMENT.sub(lambda match: environ.get(match[1], match[2] or ""), text)
