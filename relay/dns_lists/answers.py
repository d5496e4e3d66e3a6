"""How a DNS list (RFC 5782) is asked, and what the addresses that it answers mean.

The relay asks at the door whether clients are listed, and `srs-relay check` asks whether we are.
"""

from __future__ import annotations

import ipaddress

from relay.mail.address import DOMAIN, normal_domain

NEVER_LISTED = ("127.0.0.1", "::ffff:127.0.0.1")  # of addresses (RFC 5782 section 5)
NEVER_LISTED_NAMES = ("invalid",)
ALWAYS_LISTED = "127.0.0.2"
ALWAYS_LISTED_NAME = "test"

_LOOPBACK = ipaddress.ip_network("127.0.0.0/8")  # RFC 5782 section 2.1: all answers
_REFUSAL = ipaddress.ip_network("127.255.255.0/24")  # Spamhaus and others: the resolver, not the subject, is refused
_WRONG_QUESTION = "127.0.1.255"  # Spamhaus: a list of names was asked for an address
_NO_LISTING = ("127.0.0.1", _WRONG_QUESTION)  # RFC 5782 section 2.1: lists do not answer with 127.0.0.1


def question(zone: str, subject: str) -> str:
    """The name to ask for, for an address (its octets or nibbles reversed) or a domain."""
    try:
        address = ipaddress.ip_address(subject)
    except ValueError:
        return f"{subject}.{zone}"
    reverse = address.reverse_pointer
    return f"{reverse.removesuffix('.in-addr.arpa').removesuffix('.ip6.arpa')}.{zone}"


def is_answer(answer: str) -> bool:
    """Whether an address is an answer of a list, and not one that somebody put in its place."""
    return ipaddress.ip_address(answer) in _LOOPBACK


def is_refusal(answer: str) -> bool:
    """Whether the list refuses the resolver that asks."""
    return ipaddress.ip_address(answer) in _REFUSAL


def is_wrong_question(answer: str) -> bool:
    """Whether the list says that it has no such subjects."""
    return answer == _WRONG_QUESTION


def is_listing(answer: str) -> bool:
    """Whether an answer lists the subject, where nobody has said which answers do."""
    return is_answer(answer) and not is_refusal(answer) and answer not in _NO_LISTING


def listed_name(domain: str) -> str:
    """The domain as lists of names have it; empty where it is none: an address, an address literal, a single label.

    An address is no harmless question: to a list of names it is a fault of the one who asks.
    """
    name = normal_domain(domain)
    last = name.rpartition(".")[2]
    return name if "." in name and name.isascii() and DOMAIN.match(name) and not last.isdigit() else ""
