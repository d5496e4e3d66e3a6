"""The levels of TLS of Postfix (`smtp_tls_security_level`, `smtp_tls_policy_maps`) as ours."""

from __future__ import annotations

import re
from typing import NamedTuple

_LEVELS = {
    "none": "none",
    "may": "may",
    "encrypt": "require",
    "verify": "verify",
    "secure": "verify",
    "dane": "may",  # `delivery.dane` follows TLSA records at every level
    "dane-only": "require",
    "fingerprint": "require",
}
BY_MX = {  # what is different where mail goes to the MX
    "secure": "secure: the certificate has to be that of the MX host, not of the domain; DNS says which host that is,"
    " DANE and MTA-STS prove it where the domain has them."
}
_PROBLEMS = {
    "dane-only": "hosts without usable TLSA records get mail, too, over TLS, with any certificate if no MTA-STS policy"
    " says otherwise.",
    "fingerprint": "no fingerprints are looked at; TLS is required, with any certificate.",
}
_USUAL_MATCHES = frozenset({"hostname", "nexthop", "dot-nexthop"})
_NO_DIFFERENCE = ("ciphers", "protocols", "exclude", "connection_reuse", "enable_rpk")


class TlsLevel(NamedTuple):
    """A level.

    Attributes:
        level: ours; empty where there is none for it.
        problem: what is different; empty if nothing is.
    """

    level: str
    problem: str = ""


def tls_level(text: str) -> TlsLevel:
    """What a level means here."""
    name = text.strip().lower()
    if name not in _LEVELS:
        return TlsLevel("", f"{text!r} is no level of TLS; the default stays.")
    problem = _PROBLEMS.get(name, "")
    return TlsLevel(_LEVELS[name], problem and f"{name}: {problem}")


def tls_policy(text: str) -> TlsLevel:
    """What a policy means here: a level, and attributes like `match=`."""
    level_text, *attributes = re.split(r"[\s,]+", text.strip())
    level = tls_level(level_text)
    problems = [level.problem] if level.problem else []
    for attribute in filter(None, attributes):
        name, _, value = attribute.partition("=")
        if name == "match" and level.level == "verify" and not _USUAL_MATCHES.issuperset(value.split(":")):
            problems.append(f"{attribute}: the certificate has to be that of the host itself.")
        elif name not in ("match", *_NO_DIFFERENCE):
            problems.append(f"{attribute} is not read.")
    return level._replace(problem=" ".join(problems))
