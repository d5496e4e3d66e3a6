"""Our results for Authentication-Results (RFC 8601 section 2.7): each method's result, its registered properties, and a
comment for people. Later readers believe them, so they say no more than what was checked.
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
    """The results of every method that was tried on a message, in the order in which readers want them.

    Args:
        ip: the client's address.
        sender: MAIL FROM.
        override: why a DMARC failure did not count (RFC 9989 section 5.4 leaves that to local policy).
    """
    results = []
    if verdict.spf is not None:
        results.append(spf_result(verdict.spf, ip=ip, sender=sender))
    results += dkim_results(verdict.dkim)
    results.append(arc_result(verdict.arc, ip=ip))
    if verdict.dmarc is not None:
        results.append(dmarc_result(verdict.dmarc, override))
    if verdict.iprev is not None:
        results.append(iprev_result(verdict.iprev, ip=ip))
    return results


def spf_result(verdict: SpfVerdict, *, ip: str, sender: str) -> MethodResult:
    """SPF (RFC 8601 section 2.7.2) for a client's address and MAIL FROM.

    For an internationalized sender only the domain is named: a header without UTF-8 cannot hold its local part.
    Likewise for a sender that is too long.
    """
    comment = verdict.problem or _SPF_COMMENTS.get(verdict.result, "").format(ip=ip, domain=verdict.domain)
    if verdict.identity == "helo":
        return MethodResult("spf", verdict.result, comment, (("smtp.helo", verdict.domain),))
    mailfrom = sender if sender.isascii() and len(sender) <= VALUE_OCTETS else verdict.domain
    return MethodResult("spf", verdict.result, comment, (("smtp.mailfrom", mailfrom),))


def dkim_results(verdicts: Sequence[DkimVerdict]) -> list[MethodResult]:
    """DKIM (RFC 8601 section 2.7.1): a result for each signature; the beginning of `b=` tells them apart (RFC 6008)."""
    if not verdicts:
        return [MethodResult("dkim", "none", "no signature")]
    return [
        MethodResult(
            "dkim",
            verdict.result,
            verdict.problem or ("the domain is testing DKIM" if verdict.testing else ""),
            (
                ("header.d", verdict.domain),
                ("header.i", verdict.identity),
                ("header.s", verdict.selector),
                ("header.a", verdict.algorithm),
                ("header.b", verdict.signature),
            ),
        )
        for verdict in verdicts
    ]


def arc_result(verdict: ArcVerdict, *, ip: str) -> MethodResult:
    """ARC (RFC 8617 section 10.1): the result for the chain that came with the message."""
    sealers = ", ".join(f"i={arc_set.instance} {arc_set.domain}" for arc_set in verdict.sets)
    comment = verdict.problem or ("no chain" if verdict.result == "none" else sealers)
    oldest = (("header.oldest-pass", str(verdict.oldest_pass)),) if verdict.result == "pass" else ()
    remote = (("smtp.remote-ip", ip),) if verdict.result != "none" else ()
    return MethodResult("arc", verdict.result, comment, (*oldest, *remote))


def dmarc_result(verdict: DmarcVerdict, override: str = "") -> MethodResult:
    """DMARC (RFC 9989 section 9): the result, the policy that applies, and why a failure did not count."""
    parts = [f"p={verdict.policy}"] if verdict.policy else []
    if verdict.result == "none" and not verdict.problem:
        parts.append(f"{verdict.domain} has no DMARC record")
    parts += ["testing, t=y"] if verdict.testing else []
    parts += [f"aligned by {' and '.join(verdict.aligned)}"] if verdict.aligned else []
    parts += [verdict.problem] if verdict.problem else []
    parts += [f"one of {verdict.domains} author domains in From"] if verdict.domains > 1 else []
    parts += [f"overridden: {override}"] if override else []
    policy = (("policy.dmarc", verdict.policy),) if verdict.policy else ()
    return MethodResult("dmarc", verdict.result, ", ".join(parts), (("header.from", verdict.domain), *policy))


def auth_result(user: str) -> MethodResult:
    """A login (RFC 8601 section 2.7.4). A name that is not ASCII is left out: a header without UTF-8 cannot hold it."""
    return MethodResult("auth", "pass", "", (("smtp.auth", user),) if user.isascii() else ())


def iprev_result(verdict: Iprev, *, ip: str) -> MethodResult:
    """The client's name (RFC 8601 section 2.7.3)."""
    return MethodResult("iprev", verdict.result, verdict.name or verdict.problem, (("policy.iprev", ip),))
