"""Authentication-Results (RFC 8601): what our checks found, written down, and the fields that only pretend to be ours.

A reader behind us believes the fields that carry our authserv-id, so ours must be well-formed whatever a client sent,
and none that came in may pass for ours.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from relay.address import DOMAIN, DOT_STRING, normal_domain, split
from relay.authenticate.spf import SpfVerdict
from relay.message import HeaderField, Message

LINE_OCTETS = 78  # RFC 5322 section 2.1.1: a line should not be longer
VALUE_OCTETS = 320  # an address within RFC 5321 section 4.5.3.1 (64 + 1 + 255); keeps every line below 998 octets
SCANNED_OCTETS = 32768  # of Authentication-Results in one message; real ones stay far below

_TOKEN = re.compile(r"[!#$%&'*+.0-9A-Z^_`a-z{|}~-]+\Z")  # RFC 2045 section 5.1
_UNWRITABLE = re.compile(r"[^ -~]")
_IN_QUOTES = str.maketrans({c: f"\\{c}" for c in '"\\'})
_IN_COMMENT = str.maketrans({c: f"\\{c}" for c in "()\\"})
_PIECE = re.compile(r'\\.|[()";\\]|\s+|[^\\()";\s]+', re.DOTALL)

_SIGNED_FIELDS = re.compile(rb"(?:^|;)\s*h\s*=([^;]*)")

_SPF_COMMENTS = {
    "pass": "{ip} is authorized by {domain}",
    "fail": "{ip} is not authorized by {domain}",
    "softfail": "{ip} is probably not authorized by {domain}",
    "neutral": "{domain} does not say whether {ip} is authorized",
    "none": "{domain} has no SPF record",
}


@dataclass(frozen=True, slots=True)
class MethodResult:
    """One method's result (RFC 8601 section 2.2).

    Attributes:
        method: as registered with IANA: `spf`, `dkim`, `iprev`, …
        result: one of the method's registered results.
        comment: a reason for people; any text.
        properties: `("smtp.mailfrom", value)` and so on; any text as value, and left out where that is empty.
    """

    method: str
    result: str
    comment: str = ""
    properties: tuple[tuple[str, str], ...] = ()


def spf_result(verdict: SpfVerdict, *, ip: str, sender: str) -> MethodResult:
    """SPF (RFC 8601 section 2.7.2) of a client's address and MAIL FROM.

    Of an internationalized sender only the domain is named: in a header without UTF-8 its local part cannot stand. So
    it is of one that is too long.
    """
    comment = verdict.problem or _SPF_COMMENTS.get(verdict.result, "").format(ip=ip, domain=verdict.domain)
    if verdict.identity == "helo":
        return MethodResult("spf", verdict.result, comment, (("smtp.helo", verdict.domain),))
    mailfrom = sender if sender.isascii() and len(sender) <= VALUE_OCTETS else verdict.domain
    return MethodResult("spf", verdict.result, comment, (("smtp.mailfrom", mailfrom),))


def results_field(authserv_id: str, results: Sequence[MethodResult]) -> bytes:
    """One Authentication-Results field (RFC 8601 section 2.2), folded, with its CRLF; `none` without any results."""
    lines = [f"Authentication-Results: {_value(normal_domain(authserv_id))};"]
    if not results:
        lines[0] += " none"
    for number, result in enumerate(results, 1):
        words = [f"{result.method}={result.result}", *_comment(result.comment)]
        words += [f"{name}={_value(value)}" for name, value in result.properties if value]
        words[-1] += ";" if number < len(results) else ""
        lines += _fold(words)
    return "\r\n".join(lines).encode("ascii") + b"\r\n"


def _fold(words: Sequence[str]) -> Iterator[str]:
    """Continuation lines of at most 78 octets where the words allow it."""
    line = "\t" + words[0]
    for word in words[1:]:
        if len(line) + 1 + len(word) > LINE_OCTETS:
            yield line
            line = "\t" + word
        else:
            line += " " + word
    yield line


def _value(text: str) -> str:
    """A pvalue: a token or an address as it stands, anything else quoted; `?` for what no header can hold."""
    text = _UNWRITABLE.sub("?", text)[:VALUE_OCTETS]
    local, domain = split(text)
    if _TOKEN.match(text) or (DOT_STRING.match(local) and DOMAIN.match(domain)):
        return text
    return '"' + text.translate(_IN_QUOTES) + '"'


def _comment(text: str) -> list[str]:
    """The words of a comment (RFC 5322 section 3.2.2), with nothing in it that could end it."""
    text = _UNWRITABLE.sub("?", text)[:VALUE_OCTETS].translate(_IN_COMMENT)
    return f"({text})".split() if text else []


def strip_forged(message: Message, authserv_id: str) -> tuple[Message, tuple[HeaderField, ...]]:
    """The message without the Authentication-Results that claim to be ours (RFC 8601 section 5), and those fields.

    The authserv-id is compared by its syntax: comments, quotes, case, a version behind it and the spelling of an
    internationalized name make no difference. Of a malformed field it is enough that our name could be read from it,
    and past `SCANNED_OCTETS` every one is taken for forged.
    """
    ours = normal_domain(authserv_id)
    forged: list[HeaderField] = []
    scanned = 0
    for field in message.all("authentication-results"):
        scanned += len(field.raw)
        if scanned > SCANNED_OCTETS or _names(field.value.decode("utf-8", "replace"), ours):
            forged.append(field)
    return message.without(forged), tuple(forged)


def are_signed(message: Message) -> bool:
    """Whether a DKIM signature covers Authentication-Results (`h=`, RFC 6376 section 3.5): without them it fails."""
    found = (_SIGNED_FIELDS.search(field.value.lower()) for field in message.all("dkim-signature"))
    return any(b"authentication-results" in re.split(rb"[:\s]+", tag[1]) for tag in found if tag)


def _names(value: str, ours: str) -> bool:
    words = _words_before_results(value)
    if len(words) > 1 and words[-1].isdigit():
        words.pop()  # the version
    longest = len(ours) + 1  # a final dot; the name with U-labels is shorter
    return any(len(name) <= longest and normal_domain(name) == ours for name in ("".join(words), *words[:1]))


def _words_before_results(value: str) -> list[str]:
    """What stands before the first semicolon, without comments and quotes."""
    words, depth, quoted = [""], 0, False
    for piece in _PIECE.findall(value):
        if depth:
            depth += {"(": 1, ")": -1}.get(piece, 0)
        elif piece == '"':
            quoted = not quoted
        elif quoted:
            words[-1] += piece[1:] if len(piece) > 1 and piece[0] == "\\" else piece
        elif piece == ";":
            break
        elif piece == "(" or piece.isspace():
            depth = int(piece == "(")
            words.append("")
        else:
            words[-1] += piece
    if depth or quoted:  # never closed: a lenient reader may see what stands behind it
        return _words_before_results(re.sub(r'[()"]', " ", value))
    return [word for word in words if word]
