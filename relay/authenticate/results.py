"""What our checks found, as Authentication-Results says it (RFC 8601 section 2.7): each method's result, its registered
properties, and a reason for people. Readers behind us believe it, so that it says no more than what was seen.
"""

from __future__ import annotations

from collections.abc import Sequence

from relay.authenticate.arc import ArcVerdict
from relay.authenticate.dkim import DkimVerdict
from relay.authenticate.dmarc import DmarcVerdict
from relay.authenticate.iprev import Iprev
from relay.authenticate.results_field import VALUE_OCTETS, MethodResult
from relay.authenticate.spf import SpfVerdict
from relay.authenticate.verdict import Verdict

_SPF_COMMENTS = {
    "pass": "{ip} is authorized by {domain}",
    "fail": "{ip} is not authorized by {domain}",
    "softfail": "{ip} is probably not authorized by {domain}",
    "neutral": "{domain} does not say whether {ip} is authorized",
    "none": "{domain} has no SPF record",
}


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
    words += ["testing, t=y"] if verdict.testing else []
    words += [f"aligned by {' and '.join(verdict.aligned)}"] if verdict.aligned else []
    words += [verdict.problem] if verdict.problem else []
    words += [f"one of {verdict.domains} author domains in From"] if verdict.domains > 1 else []
    words += [f"overridden: {override}"] if override else []
    policy = (("policy.dmarc", verdict.policy),) if verdict.policy else ()
    return MethodResult("dmarc", verdict.result, ", ".join(words), (("header.from", verdict.domain), *policy))


def iprev_result(verdict: Iprev, *, ip: str) -> MethodResult:
    """The client's name (RFC 8601 section 2.7.3)."""
    return MethodResult("iprev", verdict.result, verdict.name or verdict.problem, (("policy.iprev", ip),))
