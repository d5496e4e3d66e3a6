"""Mailbox lists (RFC 5322 section 3.4): read from From fields, and written so that all mail programs agree on them.

Reading is lenient and keeps every mailbox that can be told without a guess. Writing is strict: one way to quote, one
way to encode, and display names without anything that looks like an address or changes the direction of the text.
"""

from __future__ import annotations

import base64
import binascii
import re
import unicodedata
from collections.abc import Iterator
from email.header import Header
from itertools import islice
from typing import NamedTuple

from relay.mail.address import BadAddress, normal_address, parse

AUTHORS = 20  # mailboxes of one message that are kept; RFC 5322 sets no limit
NAME_CHARACTERS = 100  # of a display name: every mail program shows that many
_LINE_CHARACTERS = 76  # RFC 2047 section 2: the longest line with encoded words
READ_CHARACTERS = 4096  # of a message's From fields: enough for `AUTHORS`, and read within milliseconds at worst

# An encoded word is one token, because some contain commas. None of these patterns can backtrack.
_TOKEN = re.compile(
    r"""  "(?:[^"\\]|\\.)*+"                    # a quoted string
        | =\?[^?\s"]++\?[BQbq]\?[^?"<>]*+\?=  # an encoded word
        | \[[^][\\<>"]*+\]                    # an address literal
        | \\. | [^"=\[\\(),:;<>]++ | .""",
    re.VERBOSE | re.DOTALL,
)
IN_COMMENT = re.compile(r"\\.|[()]|[^\\()]++|.", re.DOTALL)
_AROUND = re.compile(r"(?<!\s)\s*+([.@])\s*+")  # RFC 5322 section 4.4: white space around dots and the at sign
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*+:\s*+(?=[^:]*@)")  # `mailto:` (RFC 6068), and `SMTP:` of Exchange
_WRAPPING = "'\"[]{},; "  # some programs put these around a whole address
_WORD = re.compile(r'(?:"(?:[^"\\]|\\.)*+"|\\.|\S)++', re.DOTALL)
_ENCODED_WORD = re.compile(r"=\?([^?*\s]++)(?:\*[^?\s]*+)?\?([BQbq])\?([^?]*+)\?=")  # RFC 2047, RFC 2231 section 5
_AT = re.compile(r"\s*+[@\N{FULLWIDTH COMMERCIAL AT}\N{SMALL COMMERCIAL AT}]\s*+")
_HIDDEN = frozenset(("Cc", "Cf", "Cs", "Zl", "Zp"))  # controls, and characters that change the direction of text
_JOINERS = "\N{ZERO WIDTH JOINER}\N{ZERO WIDTH NON-JOINER}"  # Persian and emoji need them


class Author(NamedTuple):
    """One mailbox: the decoded display name, which may be empty, and the address."""

    name: str
    address: str


def text_of(value: bytes) -> str:
    """The value of a field as text: UTF-8 (RFC 6532), otherwise Windows-1252, the most common other charset."""
    try:
        return value.decode("utf-8")
    except UnicodeDecodeError:
        return value.decode("cp1252", "replace")


def read(value: str) -> list[Author]:
    """The mailboxes of an address list (RFC 5322 section 3.4), at most `AUTHORS`.

    Members of groups count, names of groups do not. Entries that are no mailbox of RFC 5321 are skipped.
    """
    return list(islice(_read(value[:READ_CHARACTERS]), AUTHORS))


def clean(name: str) -> str:
    """The display name on one line, without controls and at signs, at most `NAME_CHARACTERS` long."""
    words = name[:READ_CHARACTERS].split()
    visible = "".join(c for c in " ".join(words) if c in _JOINERS or unicodedata.category(c) not in _HIDDEN)
    name = " ".join(_AT.sub(" at ", visible).split())
    return name if len(name) <= NAME_CHARACTERS else name[: NAME_CHARACTERS - 3].rstrip() + "..."


def field(name: str, authors: list[Author]) -> bytes:
    """A header field, with its CRLF, that lists at least one mailbox. It is ASCII unless an address is not."""
    parts = []
    for display_name, address in authors:
        phrase = _phrase(display_name, _LINE_CHARACTERS - len(f"{name}: "))
        parts += [*phrase, f"<{address}>," if display_name else f"{address},"]
    parts[-1] = parts[-1].removesuffix(",")
    lines = [f"{name}: {parts[0]}"]
    for part in parts[1:]:
        if len(lines[-1]) + 1 + len(part) <= _LINE_CHARACTERS:
            lines[-1] += f" {part}"
        else:
            lines.append(f" {part}")
    return "\r\n".join([*lines, ""]).encode()


def _read(value: str) -> Iterator[Author]:
    phrase: list[str] = []
    angle: list[str] | None = None
    comment: list[str] = []
    for token, in_comment in _tokens(value):
        if in_comment:
            comment.append(token)
        elif token == "<":
            angle = []  # also within another: `<<a@b>>` means `a@b`
        elif angle is not None and token != ">":
            angle.append(token)
        elif token == ":":
            phrase.clear()  # the name of a group
        elif token in (",", ";", ">"):
            if phrase or angle:
                yield from _mailbox(phrase, angle, comment)
            phrase, angle, comment = [], None, []
        else:
            phrase.append(token)
    if phrase or angle:
        yield from _mailbox(phrase, angle, comment)


def _tokens(value: str) -> Iterator[tuple[str, bool]]:
    """Yields each token and whether it is part of a comment. The outer parentheses of comments are left out.

    Comments nest, and quotation marks have no meaning in them (RFC 5322 section 3.2.2).
    """
    position = depth = 0
    while match := (IN_COMMENT if depth else _TOKEN).match(value, position):
        before, token, position = depth, match[0], match.end()
        depth = max(0, depth + (token == "(") - (token == ")"))
        if bool(before) == bool(depth):
            yield token, depth > 0


def _mailbox(phrase: list[str], angle: list[str] | None, comment: list[str]) -> Iterator[Author]:
    """Yields the mailbox between two separators, if it is one."""
    if angle is not None:
        address = _without_space_around_dots(angle)
        if address.startswith("@"):  # a source route, to be ignored (RFC 5321 appendix C)
            address = address.rpartition(":")[2]
    else:
        *phrase, address = _WORD.findall(_without_space_around_dots(phrase)) or [""]
    try:
        address = _lenient_parse(address)
    except BadAddress:
        return
    words = (re.sub(r"\\(.)", r"\1", token[1:-1]) if token[0] == '"' else token for token in phrase)
    name = ("" if angle is not None else " ").join(words).strip() or re.sub(r"\\(.)", r"\1", "".join(comment))
    yield Author(decoded(name), address)


def _lenient_parse(address: str) -> str:
    """The address in normal form, also where it stands in quotes or brackets or is a URI. Raises BadAddress."""
    try:
        return str(parse(normal_address(address)))
    except BadAddress:
        address = address.strip(_WRAPPING)
        if scheme := _SCHEME.match(address):
            address = address[scheme.end() :].partition("?")[0]
        return str(parse(normal_address(address)))


def _without_space_around_dots(tokens: list[str]) -> str:
    return "".join(token if token[0] == '"' else _AROUND.sub(r"\1", token) for token in tokens).strip()


def decoded(text: str) -> str:
    """The text with its encoded words (RFC 2047) decoded; malformed ones stay as they are.

    White space between two encoded words is dropped, and a character may be split between them, as some programs do.
    """
    pieces: list[tuple[str, bytes]] = []
    position = 0
    for word in _ENCODED_WORD.finditer(text):
        if (before := text[position : word.start()]).strip():
            pieces.append(("utf-8", before.encode(errors="replace")))
        position = word.end()
        charset, octets = word[1].lower(), _octets(word)
        if pieces and pieces[-1][0] == charset:
            octets = pieces.pop()[1] + octets
        pieces.append((charset, octets))
    return "".join(_text(*piece) for piece in pieces) + text[position:]


def _octets(word: re.Match[str]) -> bytes:
    payload = word[3].encode(errors="replace")
    if word[2] in "Qq":
        return binascii.a2b_qp(payload, header=True)
    try:
        return base64.b64decode(payload + b"==")
    except binascii.Error:
        return payload


def _text(charset: str, octets: bytes) -> str:
    try:
        return octets.decode(charset, "replace")
    except (LookupError, ValueError):  # an unknown charset, or a codec that is no charset
        return octets.decode("ascii", "replace")


def _phrase(name: str, longest: int) -> list[str]:
    """A display name as one quoted string or, where it must be, as encoded words of at most `longest` characters."""
    if not name:
        return []
    if name.isascii() and "=?" not in name:
        return ['"' + re.sub(r'(["\\])', r"\\\1", name) + '"']
    return Header(name, "utf-8", maxlinelen=longest).encode(linesep="\n").split("\n ")
