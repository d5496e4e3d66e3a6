"""Who a message says it is from: the addresses in its From fields (RFC 5322 section 3.6.2), whatever their shape."""

from __future__ import annotations

import re
from email.utils import getaddresses

from relay.address import domain_of
from relay.message import Message

_PARSED_OCTETS = 8192  # longer values are only searched: the parser takes quadratic time and deep recursion on some
_ANY_DOMAIN = re.compile(r"@\s*([^\s<>@,;:\"()\[\]]+)")


def author_domains(message: Message) -> list[str]:
    """The normal domain of every author.

    Of a From that no parser should be shown, every domain in it: who hides an author gets the strictest reading.
    """
    values = [field.value.decode("utf-8", "replace") for field in message.all("from")]
    if sum(map(len, values)) > _PARSED_OCTETS:
        return _all_domains(values)
    try:
        addresses = [address for _, address in getaddresses(values) if "@" in address]
    except RecursionError:
        return _all_domains(values)
    return [domain_of(address) for address in addresses]


def _all_domains(values: list[str]) -> list[str]:
    return [domain_of("@" + domain) for value in values for domain in _ANY_DOMAIN.findall(value)]
