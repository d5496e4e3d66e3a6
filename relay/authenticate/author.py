"""Who a message says it is from: the addresses in its From fields (RFC 5322 section 3.6.2), whatever their shape.

A parser that gives up on a malformed field would let through what a reader's mail client shows as ours. So nothing is
parsed but what cannot be an address (quoted strings and comments), and every domain in the rest counts.
"""

from __future__ import annotations

import re
from binascii import a2b_base64, a2b_qp
from collections.abc import Sequence
from functools import lru_cache
from itertools import islice

from relay.authenticate.lenient_from import further_domains, lenient_name
from relay.mail.address import domain_of, split
from relay.mail.mailbox_list import IN_COMMENT, read, text_of
from relay.mail.message import HeaderField, Message

FROM_OCTETS = 16384  # of all From fields: 200 long addresses
AUTHORS = 100  # domains of one message that are looked at: an internationalized name costs 30 microseconds
_LENIENT_NAME = lenient_name("from")
_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|\\.|[()]|[^"\\()]+|.', re.DOTALL)
_DOT = re.compile(r"(?<!\s)\s*+\.\s*+")  # RFC 5322 section 4.4: white space may stand around the dots of a domain
_DOMAIN = re.compile(r"@[\s\x00-\x1f]*([^\s\x00-,/:-@\[-^`{-\x7f]+)")  # to the first octet that no domain has
_MAILBOX_END = re.compile("[,;]")
_ENCODED_WORD = re.compile(r"=\?[^?\s]++\?([bq])\?([^?\s]*+)\?=", re.IGNORECASE)  # RFC 2047 section 2
_NO_BASE64 = re.compile("[^A-Za-z0-9+/]+")


def from_fields(message: Message) -> list[HeaderField]:
    """The fields that some reader takes for From, top to bottom.

    RFC 5322 section 2.2 has neither white space before a field's name, nor a line end before its colon, nor NUL in it;
    mailparser, rspamd and Dovecot do not mind one or the other.
    """
    odd = [f for f in message.all("") if _LENIENT_NAME.match(f.raw)]
    if not odd:
        return list(message.all("from"))
    return [f for f in message.fields if f.name == "from" or (not f.name and _LENIENT_NAME.match(f.raw))]


def author_domains(message: Message) -> list[str]:
    """The normal domains of the authors; of more than can be looked at `AUTHORS` + 1, or so many empty ones.

    A domain counts as often as it is spelled differently: past so many none could be passed over unseen.
    """
    fields = from_fields(message)
    if len(fields) > AUTHORS or sum(len(field.raw) for field in fields) > FROM_OCTETS:
        return [""] * (AUTHORS + 1)
    return list(_read_domains(tuple([field.value for field in fields])))


def doubtful_domains(message: Message) -> list[str]:
    """Further normal domains, which some readers only make of an odd From (`readings`); none of ordinary mail's.

    They count against a message and never for it: mail of theirs has to be refused, and may not be signed as theirs.
    """
    fields = from_fields(message)
    if len(fields) > AUTHORS or sum(len(field.raw) for field in fields) > FROM_OCTETS:
        return []  # nobody is the author of that as it is
    return list(_read_doubtful(tuple([field.value for field in fields])))


@lru_cache(maxsize=64)
def _read_doubtful(values: Sequence[bytes]) -> Sequence[str]:
    found = further_domains(values)
    return [""] * (AUTHORS + 1) if found is None else sorted(found.difference(_read_domains(values)))


@lru_cache(maxsize=64)  # every stage of a message asks
def _read_domains(values: Sequence[bytes]) -> Sequence[str]:
    found = dict.fromkeys(domain for value in values for domain in _domains(value.decode("utf-8", "replace")))
    # Whoever writes to the authors reads them in a way of his own: nobody may be an author there and none here.
    found |= dict.fromkeys(split(author.address).domain for value in values for author in read(text_of(value)))
    domains = [domain_of("@" + domain) for domain in islice(found, AUTHORS + 1)]
    return domains if len(domains) > AUTHORS else list(dict.fromkeys(domains))


def _domains(value: str) -> list[str]:
    bare = _bare(value)
    found = _DOMAIN.findall(_DOT.sub(".", bare))
    if any("@" not in mailbox and not mailbox.isspace() for mailbox in _MAILBOX_END.split(bare) if mailbox):
        # No place for an address (RFC 2047 section 5), and there are mail clients that show one which they find there.
        found += _DOMAIN.findall(_DOT.sub(".", " ".join(_decoded(*word) for word in _ENCODED_WORD.findall(value))))
    return found


def _decoded(encoding: str, text: str) -> str:
    """An encoded word read as UTF-8: every charset in use shares the letters of a domain. Lenient as a mail client."""
    if encoding in "qQ":
        octets = a2b_qp(text.encode("ascii", "ignore"), header=True)
    else:
        letters = _NO_BASE64.sub("", text)
        octets = a2b_base64(letters[: len(letters) - (len(letters) % 4 == 1)] + "==")
    return octets.decode("utf-8", "replace")


def _bare(value: str) -> str:
    """The value without comments and without the content of quoted strings; what a comment that has no end holds stays.

    Inside a comment a quotation mark is nothing but itself (RFC 5322 section 3.2.2).
    """
    kept: list[str] = []
    comments: list[int] = []  # where those that are open begin
    position = 0
    while match := (IN_COMMENT if comments else _TOKEN).match(value, position):
        token, position = match[0], match.end()
        if token == ")" and comments:
            del kept[comments.pop() :]
            continue
        if token == "(":
            comments.append(len(kept))
        kept.append('""' if len(token) > 1 and token[0] == '"' and not comments else token)
    return "".join(kept)
