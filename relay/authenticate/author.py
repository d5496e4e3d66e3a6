"""Who a message says it is from: the addresses in its From fields (RFC 5322 section 3.6.2), whatever their shape.

A parser that gives up on a malformed field would let through what a reader's mail client shows as ours. So nothing is
parsed but what cannot be an address (quoted strings and comments), and every domain in the rest counts.
"""

from __future__ import annotations

import re
from itertools import islice

from relay.address import domain_of
from relay.message import Message

AUTHORS = 100  # domains of one message that are looked at: an internationalized name costs 30 microseconds
_READ_OCTETS = 8192  # of a longer value nothing is passed over: the strictest reading is also the cheapest
_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|\\.|[()]|[^"\\()]+|.', re.DOTALL)
_DOT = re.compile(r"(?<!\s)\s*+\.\s*+")  # RFC 5322 section 4.4: white space may stand around the dots of a domain
_DOMAIN = re.compile(r"@[\s\x00-\x1f]*([^\s\x00-,/:-@\[-^`{-\x7f]+)")  # to the first octet that no domain has


def author_domains(message: Message) -> list[str]:
    """The normal domains of the authors, in the order of the fields; of more than can be looked at `AUTHORS` + 1.

    A domain that is spelled in several ways is there several times: past so many none could be passed over unseen.
    """
    values = (field.value.decode("utf-8", "replace") for field in message.all("from"))
    found = dict.fromkeys(domain for value in values for domain in _DOMAIN.findall(_DOT.sub(".", _bare(value))))
    return [domain_of("@" + domain) for domain in islice(found, AUTHORS + 1)]


def _bare(value: str) -> str:
    """The value without comments and without the content of quoted strings; all of it where a comment has no end."""
    if len(value) > _READ_OCTETS:
        return value
    depth = 0
    kept = []
    for token in _TOKEN.findall(value):
        if token == "(":
            depth += 1
        elif token == ")" and depth:
            depth -= 1
        elif not depth:
            kept.append('""' if len(token) > 1 and token[0] == '"' else token)
    return value if depth else "".join(kept)
