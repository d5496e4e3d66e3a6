"""Finds the domains that only some readers see in an oddly written From.

Measured with Python's email package (parseaddr and the policies), nodemailer and mailparser of several years, Perl's
Mail::Address, Email::Address and Mail::DKIM, rspamd, and IDNA2003 as Python's codec has it. They differ where a domain
continues behind an octet that no domain may have:

- Python's parseaddr joins what white space and comments divide; Mail::Address joins everything in angle brackets,
- nodemailer drops control characters, and takes quoted strings and `<>` for part of the domain; rspamd does the same
  with `)`, and lenient decoders with octets that are not UTF-8,
- mailparser and Python's policies decode encoded words in it,
- IDNA2003 maps zero-width characters to nothing, which IDNA2008 refuses or (the two joiners) keeps.

If a mailbox has no address outside quoted strings, encoded words and comments, some readers find one inside them.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Sequence

from relay.mail.address import DOMAIN, DOMAIN_OCTETS, normal_domain
from relay.mail.mailbox_list import IN_COMMENT, decoded

CANDIDATES = 100  # domains of one message that are read: an internationalized name costs 60 microseconds
MARKS = 1000  # octets with a meaning in an address list: 140 authors have as many, and they are read in milliseconds

# One address of ASCII, alone or in angle brackets behind a name without `<`, `>` and `@`: all readers agree on it.
_PLAIN = re.compile(rb"(?:[^<>@]*+<)?[\w.!#$%&'*+/=?^`{|}~-]++@[A-Za-z0-9.-]++>?", re.ASCII)
_MARK = re.compile(rb'[<>()",;@\\]|=\?')
# What IDNA2003, a lenient decoder or a font does not show: controls, format characters, fillers, variation selectors.
INVISIBLE = re.compile(
    "[\0-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\xad\u034f\u061c\u115f\u1160\u17b4\u17b5\u1806\u180b-\u180f\u200b-\u200f\u202a-\u202e"
    "\u2060-\u206f\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufffb\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff]+"
)
_TOKEN = re.compile(
    r"""  "(?:[^"\\]|\\.)*+"                       # a quoted string
        | =\?[^?\s"]++\?[BQbq]\?[^?\s]*+\?=      # an encoded word
        | (?P<angle> < (?=[^<>@]*+@) )           # the beginning of an address, behind a name
        | \\. | [(),;] | (?: [^"=\\(),;<] | =(?!\?) )++ | .""",
    re.VERBOSE | re.DOTALL,
)
_WORD_OCTETS = 1000  # of an encoded word that are read: RFC 2047 section 2 has 75, and a domain 255
_ENCODED_WORD = re.compile(r"=\?[^?\s\"]++\?[BQbq]\?[^?\s\"]*+\?=")
_AROUND_DOT = re.compile(r"(?<!\s)\s*+\.\s*+")
_QUOTED_PAIR = re.compile(r"\\(.)", re.DOTALL)
_NO_NAME = r"[^\w.\u0080-\U0010ffff-]"  # octets that no domain has
_LOCAL_PART = re.compile(r"(?<![^\s<>\"])[^\s<>\"]*+\s*+\Z")
_NAME_WITH_SPACES = re.compile(rf"{_NO_NAME}*+(?:[\w.\s\u0080-\U0010ffff-]*+)")
_TO_WHITE_SPACE = re.compile(rf"{_NO_NAME}*+[^ \t?:]*+")
_TO_ANGLE_BRACKET = re.compile(rf"{_NO_NAME}*+[^>?:]*+")
_NOT_IN_DOMAIN = re.compile(rf"{_NO_NAME}+|\s+")
DOTS = re.compile("[.\u2024\u3002\ufe52\uff0e\uff61]")


def lenient_name(name: str) -> re.Pattern[bytes]:
    """Matches a field's name and its colon also for readers that drop white space, control characters and octets beyond
    ASCII, anywhere in the name."""
    dropped = rb"[\0- \x7f-\xff]*+"
    return re.compile(b"".join(dropped + re.escape(c.encode("ascii")) for c in f"{name}:"), re.IGNORECASE)


def further_domains(values: Sequence[bytes]) -> set[str] | None:
    """The normal domains that a known reader may find in these values of From; None if there are too many.

    Domains that all readers see may be among them. Names that DNS cannot hold are left out.
    """
    odd = [value for value in values if not _PLAIN.fullmatch(value)]
    if sum(len(_MARK.findall(value)) for value in odd) > MARKS:
        return None
    candidates: set[str] = set()
    for text in {text for value in odd for text in _texts(value)}:
        for piece in {piece for mailbox in _mailboxes(text) for piece in _behind_at_signs(mailbox)}:
            candidates.update(_domains(piece))
            if len(candidates) > CANDIDATES:
                return None
    return {name for domain in candidates for name in spellings(domain) if DOMAIN.match(name) and _is_public(name)}


def _texts(value: bytes) -> Iterator[str]:
    """The value without what some readers drop; a value that is not UTF-8 also as older readers decode it."""
    text = value.decode("utf-8", "ignore")
    yield INVISIBLE.sub("", text)
    if len(text.encode()) < len(value):
        yield INVISIBLE.sub("", value.decode("latin-1"))


def _mailboxes(text: str) -> Iterator[str]:
    """The text between two separators.

    Quoted strings and encoded words are decoded, unless they are a name in front of an address. Comments are left out,
    unless there is no address outside them.
    """
    kept: list[str] = []
    names: list[int] = []  # where quoted strings and encoded words stand in `kept`, which may be a name
    comments: list[int] = []  # where each open comment begins in `kept`
    closed_comments: list[str] = []
    position = 0
    while match := (IN_COMMENT if comments else _TOKEN).match(text, position):
        token, position = match[0], match.end()
        if token == ")" and comments:
            start = comments.pop()
            closed_comments.append("".join(kept[start + 1 :]))
            del kept[start:]
        elif token == "(":
            comments.append(len(kept))
            kept.append(token)
        elif comments:
            kept.append(token)
        elif token in (",", ";"):
            yield _mailbox(kept, closed_comments)
            kept, names, closed_comments = [], [], []
        elif match["angle"]:
            for index in names:
                kept[index] = " "
            names.clear()
            kept.append(token)
        elif len(token) > 1 and token[0] in '"=':
            names.append(len(kept))
            kept.append(_ENCODED_WORD.sub(_decoded, _QUOTED_PAIR.sub(r"\1", token)))
        else:
            kept.append(token)
    yield _mailbox(kept, closed_comments)


def _decoded(encoded_word: re.Match[str]) -> str:
    return INVISIBLE.sub("", decoded(encoded_word[0][:_WORD_OCTETS]))


def _mailbox(kept: list[str], comments: list[str]) -> str:
    text = "".join(kept)
    text = text if "@" in text else " ".join([text, *comments])
    return text.replace("<>", "")


def _behind_at_signs(mailbox: str) -> Iterator[str]:
    """What stands behind each at sign, without the local part of the next address."""
    pieces = mailbox.split("@")
    for number, piece in enumerate(pieces[1:], 2):
        if DOTS.search(piece):
            yield piece if number == len(pieces) else _LOCAL_PART.sub("", piece) or piece


def _domains(piece: str) -> Iterator[str]:
    """The domains at the beginning of the text, by how far readers read: over white space, up to white space, and up to
    an angle bracket; each with white space around dots as part of the domain (RFC 5322 section 4.4), and as its end."""
    for text in dict.fromkeys((piece, _AROUND_DOT.sub(".", piece))):
        for expression in (_NAME_WITH_SPACES, _TO_WHITE_SPACE, _TO_ANGLE_BRACKET):
            match = expression.match(text)
            if match and (name := _NOT_IN_DOMAIN.sub("", match[0]).strip(".")):
                yield name


def _is_public(name: str) -> bool:
    """Whether the name may be registered in DNS: it is neither a host of a local network nor an address."""
    return "." in name and not name.rpartition(".")[2].isdigit()


def spellings(domain: str) -> Iterator[str]:
    """The A-label forms of a domain: by IDNA2008 with the mapping of UTS 46, and by IDNA2003."""
    if len(domain) > DOMAIN_OCTETS:
        return
    yield normal_domain(domain)
    if not domain.isascii():
        try:
            yield domain.encode("idna").decode("ascii").lower().rstrip(".")
        except UnicodeError:
            yield normal_domain(unicodedata.normalize("NFKC", domain))
