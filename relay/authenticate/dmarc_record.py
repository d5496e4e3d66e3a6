"""Reads the DMARC Policy Record of a domain (RFC 9989 sections 4.7 and 4.8) from TXT records.

The tree walk needs `psd`, the evaluation needs the policies and the alignment modes. Pure, and never raises: whoever
owns the zone writes these records.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal, TypeVar

from relay.mail.reply import printable

Policy = Literal["none", "quarantine", "reject"]
StatedPolicy = Literal["", "none", "quarantine", "reject"]
AlignmentMode = Literal["r", "s"]
Psd = Literal["y", "n", "u"]

POLICIES: tuple[Policy, ...] = ("none", "quarantine", "reject")  # by strictness, the mildest first
_STATED: tuple[StatedPolicy, ...] = POLICIES
RECORD_OCTETS = 8192  # a record with a dozen report addresses has less than 1000; reading 8192 takes a millisecond

_VERSION = re.compile(r"[ \t]*+[vV][ \t]*+=[ \t]*+DMARC1[ \t]*+(?:;|\Z)")
_NAME = re.compile(r"[A-Za-z]+\Z")
# RFC 3986, without the semicolon that ends a tag and the comma and exclamation point that end a URI here (section 4.8)
_URI = re.compile(r"[a-z][a-z0-9+.-]*+:(?:[\w.~:/?#\[\]@$&'()*+=-]|%[0-9a-f]{2})*+\Z", re.IGNORECASE | re.ASCII)

T = TypeVar("T", bound=str)


@dataclass(frozen=True, slots=True)
class PolicyRecord:
    """One DMARC Policy Record.

    Attributes:
        text: as published, its character-strings joined; printable ASCII.
        p: the policy for the domain itself. `p`, `sp` and `np` are empty where the record asks for no DMARC
            processing: it has no valid policy, and no address for reports (section 4.10.1).
        sp: the policy for subdomains that exist; `p` where it is not set.
        np: the policy for subdomains that do not exist; `sp` where it is not set.
        psd: whether the domain is a public suffix; `u` where the record does not say.
        testing: the owner does not want the policy applied yet (`t=y`).
        adkim: `s`: DKIM alignment needs the same domain; `r`: the same Organizational Domain is enough.
        aspf: likewise for SPF.
    """

    text: str
    p: StatedPolicy
    sp: StatedPolicy
    np: StatedPolicy
    psd: Psd
    testing: bool
    adkim: AlignmentMode
    aspf: AlignmentMode


def policy_record(records: Iterable[tuple[bytes, ...]]) -> PolicyRecord | None:
    """The DMARC Policy Record among the TXT records of a name; None if there are several (section 4.10, step 2).

    Only a record that begins with `v=DMARC1` counts, in exactly this case (section 4.7). A record with a repeated tag
    (RFC 6376 section 3.2 on tag lists) or with more than `RECORD_OCTETS` is void.

    Args:
        records: the character-strings of each record, which are joined without a separator (section 4.5).
    """
    texts = [b"".join(strings).decode("latin-1") for strings in records]
    texts = [text for text in texts if _VERSION.match(text)]
    tags = policy_tags(texts[0]) if len(texts) == 1 and len(texts[0]) <= RECORD_OCTETS else None
    if tags is None:
        return None
    p, sp, np = _policies(tags)
    return PolicyRecord(
        text=printable(texts[0], RECORD_OCTETS),
        p=p,
        sp=sp,
        np=np,
        psd=_literal(("y", "n", "u"), tags.get("psd"), "u"),
        testing=tags.get("t", "").lower() == "y",
        adkim=_literal(("r", "s"), tags.get("adkim"), "r"),
        aspf=_literal(("r", "s"), tags.get("aspf"), "r"),
    )


def policy_tags(text: str) -> dict[str, str] | None:
    """The tags, names in lower case; None if a tag is repeated. What is not a tag is ignored (section 4.8)."""
    tags: dict[str, str] = {}
    for part in text.split(";"):
        name, equals, value = part.partition("=")
        name = name.strip(" \t").lower()
        if equals and _NAME.match(name):
            if name in tags:
                return None
            tags[name] = value.strip(" \t")
    return tags


def _policies(tags: Mapping[str, str]) -> tuple[StatedPolicy, StatedPolicy, StatedPolicy]:
    """`p`, `sp` and `np`. If one of them is invalid or `p` is missing, all are `none` (section 4.10.1)."""
    stated = {name: _literal(_STATED, tags[name], "") for name in ("p", "sp", "np") if name in tags}
    if "p" not in stated or "" in stated.values():
        fallback: StatedPolicy = "none" if report_uris(tags.get("rua", ""))[0] else ""
        return fallback, fallback, fallback
    p = stated["p"]
    sp = stated.get("sp", p)
    return p, sp, stated.get("np", sp)


def _literal(literals: tuple[T, ...], value: str | None, default: T) -> T:
    """The literal that a value is, in any case (RFC 5234 section 2.3); the default for every other value."""
    return next((literal for literal in literals if value is not None and literal == value.lower()), default)


def report_uris(rua: str) -> tuple[list[str], list[str]]:
    """What is in a list of URIs for reports: the valid ones, and what is none.

    A size after a URI (`!10m`) is obsolete, and left out (section 4.8).
    """
    valid, invalid = list[str](), list[str]()
    for item in filter(None, (item.strip(" \t") for item in rua.split(","))):
        uri = item.partition("!")[0].strip(" \t")
        (valid if _URI.match(uri) else invalid).append(uri)
    return valid, invalid
