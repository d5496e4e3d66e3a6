"""The syntax of Authentication-Results (RFC 8601 section 2.2): written to the letter, read leniently.

Readers that trust an authserv-id believe what stands behind it. So nothing that a sender chose may end a value or a
comment and pass for a result, neither in what we write nor in what we read. Some readers split at every semicolon, do
not know quoted pairs, or decode encoded words first: what we write has none of these inside comments and values.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import NamedTuple

from relay.mail.address import DOMAIN, DOT_STRING, normal_domain, split

LINE_OCTETS = 78  # RFC 5322 section 2.1.1: a line should not be longer
VALUE_OCTETS = 320  # an address within RFC 5321 section 4.5.3.1 (64 + 1 + 255); keeps every line below 998 octets
RESULTS = 100  # of one field that are read; real fields have up to a dozen

_TOKEN = re.compile(r"[!#$%&'*+.0-9A-Z^_`a-z{|}~-]+\Z")  # RFC 2045 section 5.1
_PLAIN_IN_QUOTES = re.compile(r"[!#-'*-:<-\[\]-~]+\Z")  # without white space, quotes, comments, `;` and backslashes
_QUOTED_DOTS = re.compile(r'"[A-Za-z0-9!#$%&\'*+/=?^_`{|}~.-]+"\Z')  # a local part that is quoted only for its dots
_ENCODED_WORD_START = "=?"  # RFC 2047: some readers decode encoded words before they look for semicolons
_UNWRITABLE = re.compile(r"[^ -~]")
_IN_COMMENT = str.maketrans('()\\;"', "[]/,'")

_QUOTED_OR_COMMENT = re.compile(rb'("(?:[^"\\]|\\.)*+")|\s*+\((?:[^()\\]|\\.)*+\)')

# None of these can backtrack, so reading takes linear time. What is never closed matches to the end of the value.
_QUOTED = r'"(?:[^"\\]++|\\.)*+"?+'
_OUTSIDE = re.compile(rf'{_QUOTED}|[^"();]++|.', re.DOTALL)
_IN_A_COMMENT = re.compile(r"\\.|[^\\()]++|.", re.DOTALL)
_METHOD = re.compile(r"\s*+([A-Za-z][A-Za-z0-9-]*+)\s*+(?:/\s*+[0-9]++\s*+)?+=\s*+([A-Za-z][A-Za-z0-9-]*+)(?!\S)")
_ITEM = re.compile(
    r"(?:([A-Za-z][A-Za-z0-9-]*+(?:\s*+\.\s*+[A-Za-z0-9][\w-]*+)?+)\s*+="
    r"(?:\s++(?![A-Za-z]++\.[\w-]++=))?+"  # an empty value does not swallow the next property
    rf'((?:{_QUOTED}|[^\s"]++)++)?+|{_QUOTED}|[^\s"]++|\s++)',
    re.DOTALL | re.ASCII,
)
_QUOTED_PAIR = re.compile(r"\\(.)", re.DOTALL)


class MethodResult(NamedTuple):
    """One method's result (RFC 8601 section 2.2).

    Attributes:
        method: as registered with IANA, lower case: `spf`, `dkim`, `iprev`, …
        result: one of the method's registered results, lower case.
        comment: a reason for people; any text.
        properties: `("smtp.mailfrom", value)` and so on; the names in lower case, the values any text.
    """

    method: str
    result: str
    comment: str = ""
    properties: tuple[tuple[str, str], ...] = ()

    def first(self, *names: str) -> str:
        """The first value of one of these properties, tried in this order; empty without one."""
        values = (value for name in names for given, value in self.properties if given == name and value)
        return next(values, "")


# --- writing ----------------------------------------------------------------------------------------------------------


def results_field(authserv_id: str, results: Sequence[MethodResult]) -> bytes:
    """One Authentication-Results field, folded, with its CRLF; `none` without any results.

    An address that needs quoted pairs is reduced to its domain (RFC 8601 section 2.2 allows that). Properties are left
    out that have no value, a value that is too long (the beginning of a name is another name), or a value that cannot
    be quoted as it is.
    """
    first = _first_line(authserv_id) + ("" if results else " none")
    last = len(results) - 1
    lines = [_lines(result, ";" if number < last else "") for number, result in enumerate(results)]
    return "\r\n".join([first, *lines, ""]).encode("ascii")


@lru_cache(maxsize=16)
def _first_line(authserv_id: str) -> str:
    name = normal_domain(authserv_id)
    return f"Authentication-Results: {_value(name) or name};"


@lru_cache(maxsize=512)  # most results of a message are those of the message before, too
def _lines(result: MethodResult, end: str) -> str:
    """One result on its lines, folded, with `end` behind it and without the last CRLF."""
    words = [f"{result.method}={result.result}", *_comment(result.comment)]
    words += [f"{name}={written}" for name, value in result.properties if (written := _value(value))]
    words[-1] += end
    return "\r\n".join(_fold(words))


def without_comments(value: bytes) -> bytes:
    """The value of a field written by `results_field`, without its comments."""
    return _QUOTED_OR_COMMENT.sub(rb"\1", value)


def _fold(words: Sequence[str]) -> Iterator[str]:
    """Continuation lines of at most 78 octets, as far as the words allow it."""
    line = "\t" + words[0]
    for word in words[1:]:
        if len(line) + 1 + len(word) > LINE_OCTETS:
            yield line
            line = "\t" + word
        else:
            line += " " + word
    yield line


def _value(text: str) -> str:
    """A pvalue: a token or an address as it is, anything else quoted; empty for a value that is to be left out."""
    if not 0 < len(text) <= VALUE_OCTETS:
        return ""
    begins_encoded_word = _ENCODED_WORD_START in f"={text}"  # with the `=` that stands before the value
    local, domain = split(text)
    if DOMAIN.match(domain):
        is_plain = text.isascii() and not begins_encoded_word
        is_writable = not local or DOT_STRING.match(local) or _QUOTED_DOTS.match(local)
        return text if is_plain and is_writable else _ascii_domain(domain)
    if begins_encoded_word:
        return ""
    if _TOKEN.match(text):
        return text
    return f'"{text}"' if _PLAIN_IN_QUOTES.match(text) else ""


def _ascii_domain(domain: str) -> str:
    domain = normal_domain(domain)
    return domain if domain.isascii() else ""


def _comment(text: str) -> list[str]:
    """The words of a comment (RFC 5322 section 3.2.2), without characters that could end it or open another."""
    text = _UNWRITABLE.sub("?", text)[:VALUE_OCTETS].translate(_IN_COMMENT)
    text = text.replace(_ENCODED_WORD_START, "= ?")
    return f"({text})".split() if text else []


# --- reading ----------------------------------------------------------------------------------------------------------


def read_results(value: str) -> tuple[str, tuple[MethodResult, ...]]:
    """The authserv-id of a field's value as a normal domain, and the results in their order. Never raises.

    Lenient, since writers differ: what is not a result is skipped, and a reason (`reason=`) counts as a comment. Of
    another version than 1 no results are read (section 2.5).
    """
    parts = _parts(value)
    words = next(parts)[0].split()
    if not words:
        return "", ()
    authserv_id = normal_domain(_unquoted(words[0]))
    if words[1:] not in ([], ["1"]):
        return authserv_id, ()
    results = []
    for (bare, comments), _ in zip(parts, range(RESULTS), strict=False):
        method = _METHOD.match(bare)
        if method is not None:
            results.append(_result(method[1].lower(), method[2].lower(), bare[method.end() :], comments))
    return authserv_id, tuple(results)


def _result(method: str, result: str, rest: str, comments: list[str]) -> MethodResult:
    properties = []
    for item in _ITEM.finditer(rest):
        if item[1] and item[2]:
            name = "".join(item[1].lower().split())
            if "." in name:
                properties.append((name, _unquoted(item[2])))
            elif name == "reason":
                comments.append(_unquoted(item[2]))
    return MethodResult(method, result, ", ".join(comments), tuple(properties))


def _parts(value: str) -> Iterator[tuple[str, list[str]]]:
    """The texts between semicolons, with a space for each comment; each with the text of its comments."""
    bare, comments = [""], list[str]()
    position = depth = 0
    while position < len(value):
        match = (_IN_A_COMMENT if depth else _OUTSIDE).match(value, position)
        if match is None:
            break
        piece, position = match[0], match.end()
        if depth:
            depth += {"(": 1, ")": -1}.get(piece, 0)
            if depth:
                comments[-1] += piece[-1] if piece[0] == "\\" else piece
        elif piece == "(":
            depth = 1
            bare.append(" ")
            comments.append("")
        elif piece == ";":
            yield "".join(bare), comments
            bare, comments = [""], []
        else:
            bare.append(piece)
    yield "".join(bare), comments


def _unquoted(value: str) -> str:
    """The text of a quoted string; any other value as it is, also an address with a quoted local part."""
    if len(value) > 1 and value[0] == value[-1] == '"':
        return _QUOTED_PAIR.sub(r"\1", value[1:-1])
    return value
