"""What a domain's owner says in a DMARC Policy Record (RFC 9989 sections 4.7 and 4.8), read from TXT records.

The tree walk needs to know of records and their `psd`, the evaluation their policies and alignment modes. Pure, and it
never raises: whoever owns the zone writes what is read here.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal, TypeVar

from relay.mail.reply import printable

Policy = Literal["none", "quarantine", "reject"]
Stated = Literal["", "none", "quarantine", "reject"]
Mode = Literal["r", "s"]
Psd = Literal["y", "n", "u"]

POLICIES: tuple[Policy, ...] = ("none", "quarantine", "reject")  # in the order of their strictness
_STATED: tuple[Stated, ...] = POLICIES
RECORD_OCTETS = 8192  # one with a dozen report addresses has less than 1000; reading this much takes a millisecond

_VERSION = re.compile(r"[ \t]*+[vV][ \t]*+=[ \t]*+DMARC1[ \t]*+(?:;|\Z)")
_NAME = re.compile(r"[A-Za-z]+\Z")
# RFC 3986, without the semicolon that ends a tag and the comma and exclamation point that end a URI here (section 4.8)
_URI = re.compile(r"[a-z][a-z0-9+.-]*+:(?:[\w.~:/?#\[\]@$&'()*+=-]|%[0-9a-f]{2})*+\Z", re.IGNORECASE | re.ASCII)

T = TypeVar("T", bound=str)


@dataclass(frozen=True, slots=True)
class Record:
    """One DMARC Policy Record.

    Attributes:
        text: as published, its character-strings joined; printable ASCII.
        p: for the domain itself. All three policies are empty where no DMARC processing is asked for: the record has
            none that can be understood, and no address to report that to (section 4.10.1).
        sp: for subdomains that exist; `p` where it is not set.
        np: for subdomains that do not exist; `sp` where it is not set.
        psd: whether the domain is a public suffix; `u` where its owner does not say.
        testing: the owner does not want the policy applied yet (`t=y`).
        adkim: `s` where only the same domain is in DKIM alignment, `r` where the same Organizational Domain is enough.
        aspf: the same for SPF.
    """

    text: str
    p: Stated
    sp: Stated
    np: Stated
    psd: Psd
    testing: bool
    adkim: Mode
    aspf: Mode


def policy_record(records: Iterable[tuple[bytes, ...]]) -> Record | None:
    """The DMARC Policy Record among the TXT records of a name; none where there are several (section 4.10, step 2).

    Only what begins with `v=DMARC1` counts, in this very case (section 4.7). It is void as a whole where a tag is there
    twice (RFC 6376 section 3.2 on tag lists), or past `RECORD_OCTETS`.

    Args:
        records: the character-strings of each, which are joined with nothing between them (section 4.5).
    """
    texts = [b"".join(strings).decode("latin-1") for strings in records]
    texts = [text for text in texts if _VERSION.match(text)]
    tags = _tags(texts[0]) if len(texts) == 1 and len(texts[0]) <= RECORD_OCTETS else None
    if tags is None:
        return None
    p, sp, np = _policies(tags)
    return Record(
        text=printable(texts[0], RECORD_OCTETS),
        p=p,
        sp=sp,
        np=np,
        psd=_one_of(("y", "n", "u"), tags.get("psd"), "u"),
        testing=tags.get("t", "").lower() == "y",
        adkim=_one_of(("r", "s"), tags.get("adkim"), "r"),
        aspf=_one_of(("r", "s"), tags.get("aspf"), "r"),
    )


def _tags(text: str) -> dict[str, str] | None:
    """Names in lower case and values; what has not the form of a tag is ignored (section 4.8)."""
    tags: dict[str, str] = {}
    for part in text.split(";"):
        name, equals, value = part.partition("=")
        name = name.strip(" \t").lower()
        if equals and _NAME.match(name):
            if name in tags:
                return None
            tags[name] = value.strip(" \t")
    return tags


def _policies(tags: Mapping[str, str]) -> tuple[Stated, Stated, Stated]:
    """p, sp and np. If one of them cannot be understood, or p is missing, all are `none` (section 4.10.1)."""
    stated = {name: _one_of(_STATED, tags[name], "") for name in ("p", "sp", "np") if name in tags}
    if "p" not in stated or "" in stated.values():
        instead: Stated = "none" if _has_address(tags.get("rua", "")) else ""
        return instead, instead, instead
    p = stated["p"]
    sp = stated.get("sp", p)
    return p, sp, stated.get("np", sp)


def _one_of(values: tuple[T, ...], value: str | None, default: T) -> T:
    """The literals of the grammar are in any case (RFC 5234 section 2.3), and anything else is as good as nothing."""
    return next((one for one in values if value is not None and one == value.lower()), default)


def _has_address(rua: str) -> bool:
    """Whether one of the URIs is one by its syntax; a size behind it (`!10m`) is obsolete and ignored (section 4.8)."""
    return any(_URI.match(uri.partition("!")[0].strip(" \t")) for uri in rua.split(","))
