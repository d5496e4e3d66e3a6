"""The text of an SPF record (RFC 7208 section 4.5), and the record to publish in its place."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Sequence

_RECORD = re.compile(r"v=spf1(?: |\Z)", re.IGNORECASE)
_ALL = re.compile(r"([+?~-]?)all\Z", re.IGNORECASE)
_MODIFIER = re.compile(r"[a-z][a-z0-9_.-]*=", re.IGNORECASE)
_OPAQUE = re.compile(r"[+?~-]?(?:include:|exists:)|redirect=", re.IGNORECASE)


def is_spf(record: str) -> bool:
    """Whether the text of a TXT record is an SPF record."""
    return bool(_RECORD.match(record))


def passes_everyone(record: str) -> bool:
    """Whether the record says so itself, by `+all` or `all`."""
    return any(match[1] in ("", "+") for match in map(_ALL.match, record.split()) if match)


def resembles_spf(record: str) -> bool:
    """Whether the text of a TXT record was meant for an SPF record, and is none."""
    return "v=spf1" in record.lower() and not is_spf(record)


def sources(record: str) -> list[str]:
    """The terms that name who may send: the mechanisms without `all`, and `redirect=`."""
    terms = record.split()[1:]
    return [term for term in terms if not _ALL.match(term) and (not _MODIFIER.match(term) or _is_redirect(term))]


def without(record: str, terms: Iterable[str]) -> str:
    """The record without these terms, and, where that takes something out, without its end."""
    unwanted = set(terms)
    if not unwanted:
        return record
    return " ".join(term for term in record.split() if term not in unwanted and not _ALL.match(term))


def asks_others(record: str) -> bool:
    """Whether records of other names decide (`include:`, `exists:`, `redirect=`)."""
    return any(map(_OPAQUE.match, record.split()))


def merged(records: Sequence[str], ips: Iterable[str], *, first: bool = False) -> str:
    """One record with the terms of all these records, and these addresses before its end.

    It ends as the strictest of them does. One that lets everyone pass, or has no end, gets `~all`, because other hosts
    may send for the domain as well; a record that is new gets `-all`.

    Args:
        first: the addresses go to the beginning, where no other term hides them.
    """
    terms = list(dict.fromkeys(term for record in records for term in record.split()[1:]))
    modifiers = [term for term in terms if _MODIFIER.match(term)]
    mechanisms = [term for term in terms if term not in modifiers and not _ALL.match(term)]
    qualifiers = {match[1] for match in map(_ALL.match, terms) if match}
    redirects = [term for term in modifiers if _is_redirect(term)]
    modifiers = [term for term in modifiers if term not in redirects[1:]]
    new = [f"ip{ipaddress.ip_address(ip).version}:{ip}" for ip in ips]
    end = ["-all" if "-" in qualifiers or not records else "~all"]
    if redirects and not qualifiers:
        end = []
    return " ".join(
        ["v=spf1", *new, *mechanisms, *end, *modifiers] if first else ["v=spf1", *mechanisms, *new, *end, *modifiers]
    )


def _is_redirect(term: str) -> bool:
    return term.lower().startswith("redirect=")
