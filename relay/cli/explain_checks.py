"""The results of all checks of a message, as rows for a person."""

from __future__ import annotations

from collections.abc import Iterator

from relay.authenticate.verdict import Verdict


def check_rows(verdict: Verdict) -> Iterator[tuple[str, str, str, str]]:
    """Each check: its name, its result, whom it is about, and why."""
    spf, dmarc, arc, name = verdict.spf, verdict.dmarc, verdict.arc, verdict.iprev
    if verdict.trusted_results is not None:
        yield "word of", verdict.trusted_results.authserv_id, "", "the trusted client's own verdict"
    if name is not None:
        yield "iprev", name.result, name.name, name.problem
    if spf is None:
        yield "SPF", "not checked", "", "the client is trusted" if verdict.trusted else ""
    else:
        yield "SPF", spf.result, f"{spf.domain} ({spf.identity})", spf.problem or spf.explanation
    for signature in verdict.dkim:
        key = f"{signature.domain} ({signature.selector}, {signature.algorithm})"
        yield "DKIM", signature.result, key, signature.problem
    if not verdict.dkim:
        yield "DKIM", "none", "", "no signature" if not verdict.trusted or verdict.trusted_results else "not checked"
    yield "ARC", arc.result, " < ".join(link.domain for link in arc.sets), arc.problem
    if dmarc is not None:
        why = [dmarc.problem] if dmarc.problem else []
        if dmarc.policy:
            why.append(f"p={dmarc.policy} at {dmarc.record_domain}{', testing' if dmarc.testing else ''}")
        why.append("aligned: " + (", ".join(dmarc.aligned) or "nothing"))
        yield "DMARC", dmarc.result, dmarc.domain, "; ".join(why)
