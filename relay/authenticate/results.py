"""Authentication-Results (RFC 8601): what our checks found, written down for readers behind us.

They believe the field that carries our authserv-id, so it must be well-formed whatever a client sent.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from relay.address import DOMAIN, DOT_STRING, normal_domain, split
from relay.authenticate.arc import ArcVerdict
from relay.authenticate.dkim import DkimVerdict
from relay.authenticate.dmarc import DmarcVerdict
from relay.authenticate.spf import SpfVerdict
from relay.authenticate.verdict import Verdict
from relay.dns import Iprev

LINE_OCTETS = 78  # RFC 5322 section 2.1.1: a line should not be longer
VALUE_OCTETS = 320  # an address within RFC 5321 section 4.5.3.1 (64 + 1 + 255); keeps every line below 998 octets

_TOKEN = re.compile(r"[!#$%&'*+.0-9A-Z^_`a-z{|}~-]+\Z")  # RFC 2045 section 5.1
_UNWRITABLE = re.compile(r"[^ -~]")
_IN_QUOTES = str.maketrans({c: f"\\{c}" for c in '"\\'})
_IN_COMMENT = str.maketrans({c: f"\\{c}" for c in "()\\"})

_SPF_COMMENTS = {
    "pass": "{ip} is authorized by {domain}",
    "fail": "{ip} is not authorized by {domain}",
    "softfail": "{ip} is probably not authorized by {domain}",
    "neutral": "{domain} does not say whether {ip} is authorized",
    "none": "{domain} has no SPF record",
}


@dataclass(frozen=True, slots=True)
class MethodResult:
    """One method's result (RFC 8601 section 2.2).

    Attributes:
        method: as registered with IANA: `spf`, `dkim`, `iprev`, …
        result: one of the method's registered results.
        comment: a reason for people; any text.
        properties: `("smtp.mailfrom", value)` and so on; any text as value, and left out where that is empty.
    """

    method: str
    result: str
    comment: str = ""
    properties: tuple[tuple[str, str], ...] = ()


def all_results(verdict: Verdict, *, ip: str, sender: str, override: str = "") -> list[MethodResult]:
    """Every method that was tried on a message, in the order in which a reader wants them.

    Args:
        ip: the client's address.
        sender: MAIL FROM.
        override: why a DMARC failure did not count (RFC 9989 section 5.4 leaves that to local policy).
    """
    found = []
    if verdict.spf is not None:
        found.append(spf_result(verdict.spf, ip=ip, sender=sender))
    found += dkim_results(verdict.dkim)
    found.append(arc_result(verdict.arc, ip=ip))
    if verdict.dmarc is not None:
        found.append(dmarc_result(verdict.dmarc, override))
    if verdict.iprev is not None:
        found.append(iprev_result(verdict.iprev, ip=ip))
    return found


def spf_result(verdict: SpfVerdict, *, ip: str, sender: str) -> MethodResult:
    """SPF (RFC 8601 section 2.7.2) of a client's address and MAIL FROM.

    Of an internationalized sender only the domain is named: in a header without UTF-8 its local part cannot stand. So
    it is of one that is too long.
    """
    comment = verdict.problem or _SPF_COMMENTS.get(verdict.result, "").format(ip=ip, domain=verdict.domain)
    if verdict.identity == "helo":
        return MethodResult("spf", verdict.result, comment, (("smtp.helo", verdict.domain),))
    mailfrom = sender if sender.isascii() and len(sender) <= VALUE_OCTETS else verdict.domain
    return MethodResult("spf", verdict.result, comment, (("smtp.mailfrom", mailfrom),))


def dkim_results(verdicts: Sequence[DkimVerdict]) -> list[MethodResult]:
    """DKIM (RFC 8601 section 2.7.1), a result for each signature, told apart by the beginning of `b=` (RFC 6008)."""
    if not verdicts:
        return [MethodResult("dkim", "none", "no signature")]
    return [
        MethodResult(
            "dkim",
            one.result,
            one.problem or ("the domain is testing DKIM" if one.testing else ""),
            (
                ("header.d", one.domain),
                ("header.i", one.identity),
                ("header.s", one.selector),
                ("header.a", one.algorithm),
                ("header.b", one.signature),
            ),
        )
        for one in verdicts
    ]


def arc_result(verdict: ArcVerdict, *, ip: str) -> MethodResult:
    """ARC (RFC 8617 section 10.1) of the chain that a client's message came with."""
    sealers = ", ".join(f"i={link.instance} {link.domain}" for link in verdict.sets)
    comment = verdict.problem or ("no chain" if verdict.result == "none" else sealers)
    oldest = (("header.oldest-pass", str(verdict.oldest_pass)),) if verdict.result == "pass" else ()
    remote = (("smtp.remote-ip", ip),) if verdict.result != "none" else ()
    return MethodResult("arc", verdict.result, comment, (*oldest, *remote))


def dmarc_result(verdict: DmarcVerdict, override: str = "") -> MethodResult:
    """DMARC (RFC 9989 section 9): the result, the policy that applies, and why a failure did not count."""
    words = [f"p={verdict.policy}"] if verdict.policy else []
    if verdict.result == "none" and not verdict.problem:
        words.append(f"{verdict.domain} has no DMARC record")
    words += ["testing (t=y)"] if verdict.testing else []
    words += [f"aligned by {' and '.join(verdict.aligned)}"] if verdict.aligned else []
    words += [verdict.problem] if verdict.problem else []
    words += [f"overridden: {override}"] if override else []
    policy = (("policy.dmarc", verdict.policy),) if verdict.policy else ()
    return MethodResult("dmarc", verdict.result, ", ".join(words), (("header.from", verdict.domain), *policy))


def iprev_result(verdict: Iprev, *, ip: str) -> MethodResult:
    """The client's name (RFC 8601 section 2.7.3)."""
    return MethodResult("iprev", verdict.result, verdict.name or verdict.problem, (("policy.iprev", ip),))


def results_field(authserv_id: str, results: Sequence[MethodResult]) -> bytes:
    """One Authentication-Results field (RFC 8601 section 2.2), folded, with its CRLF; `none` without any results."""
    lines = [f"Authentication-Results: {_value(normal_domain(authserv_id))};"]
    if not results:
        lines[0] += " none"
    for number, result in enumerate(results, 1):
        words = [f"{result.method}={result.result}", *_comment(result.comment)]
        words += [f"{name}={_value(value)}" for name, value in result.properties if value]
        words[-1] += ";" if number < len(results) else ""
        lines += _fold(words)
    return "\r\n".join(lines).encode("ascii") + b"\r\n"


def _fold(words: Sequence[str]) -> Iterator[str]:
    """Continuation lines of at most 78 octets where the words allow it."""
    line = "\t" + words[0]
    for word in words[1:]:
        if len(line) + 1 + len(word) > LINE_OCTETS:
            yield line
            line = "\t" + word
        else:
            line += " " + word
    yield line


def _value(text: str) -> str:
    """A pvalue: a token or an address as it stands, anything else quoted; `?` for what no header can hold."""
    text = _UNWRITABLE.sub("?", text)[:VALUE_OCTETS]
    local, domain = split(text)
    if _TOKEN.match(text) or ((not local or DOT_STRING.match(local)) and DOMAIN.match(domain)):
        return text
    return '"' + text.translate(_IN_QUOTES) + '"'


def _comment(text: str) -> list[str]:
    """The words of a comment (RFC 5322 section 3.2.2), with nothing in it that could end it."""
    text = _UNWRITABLE.sub("?", text)[:VALUE_OCTETS].translate(_IN_COMMENT)
    return f"({text})".split() if text else []
