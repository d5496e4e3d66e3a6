"""The DMARC record to publish in the place of bad ones: with all that they say and that receivers understand."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from relay.authenticate.dmarc_record import POLICIES, report_uris

_MEANT = re.compile(r"v\s*=\s*dmarc1", re.IGNORECASE)
_VALUES = {
    **dict.fromkeys(("p", "sp", "np"), POLICIES),
    **dict.fromkeys(("adkim", "aspf"), ("r", "s")),
}


def resembles_dmarc(text: str) -> bool:
    """Whether the text of a TXT record is, or was meant for, a DMARC record."""
    return bool(_MEANT.search(text))


def mended(texts: Sequence[str]) -> str:
    """One good record. Of each tag it has the first good value; without a policy it has `p=none`, as it is now."""
    tags = {"p": "none"}
    for name, good in _VALUES.items():
        values = (value.lower() for text in texts for value in _values(text, name))
        if value := next((value for value in values if value in good), ""):
            tags[name] = value
    uris = [uri for text in texts for value in _values(text, "rua") for uri in report_uris(value)[0]]
    if uris:
        tags["rua"] = ",".join(dict.fromkeys(uris))
    return "; ".join(["v=DMARC1", *(f"{name}={value}" for name, value in tags.items())])


def _values(text: str, name: str) -> Iterable[str]:
    """What a text has for a tag, also where its other tags are not well formed."""
    return (match[1].strip() for match in re.finditer(rf"(?<![A-Za-z]){name}\s*=([^;]*)", text, re.IGNORECASE))
