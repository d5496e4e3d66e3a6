"""Decides what the checks of a message lead to: acceptance, a permanent refusal, or a temporary one.

The decisions are pure functions of verdicts. Every refusal names the check that failed and for whom, so that the
sender's postmaster sees from the bounce what to mend.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

from relay.authenticate.arc import ArcSet
from relay.authenticate.author import AUTHORS
from relay.authenticate.dmarc import AUTHOR_DOMAINS, DmarcVerdict
from relay.authenticate.iprev import Iprev
from relay.authenticate.spf import SpfVerdict
from relay.authenticate.trusted_results import passes_dmarc
from relay.authenticate.verdict import Verdict
from relay.config.sections import DmarcSection, SpfSection
from relay.mail.domains import share_two_labels
from relay.mail.reply import Refused, Reply
from relay.network import IPNetwork, within

_SEVERITY = ("tag", "defer", "reject")  # from the mildest action to the strictest
UNLESS_DKIM = "reject-unless-dkim"


def apply_spf(policy: SpfSection, verdict: SpfVerdict, ip: str) -> None:
    """Apply the SPF policy at RCPT. Returns where the result is only tagged, and where DKIM may still save the message.

    Raises:
        Refused: 550 5.7.23, 550 5.7.24 or 451 4.7.24 (RFC 7208 sections 8.4 to 8.7, RFC 7372 section 3.2), with the
            explanation of the domain's owner.
    """
    action = _spf_action(policy, verdict)
    if action not in ("tag", UNLESS_DKIM):
        raise _spf_refusal(action, verdict, ip)


def apply_spf_unless_dkim(policy: SpfSection, verdict: Verdict, ip: str, doubt: str = "") -> None:
    """Apply the SPF policy at the end of DATA: mail that failed SPF goes on if DKIM passes for the author or MAIL FROM.

    Any other signature does not prove the sender: a forger can sign with a domain of his own.

    Args:
        doubt: why we cannot tell now whether the failure counts, see `override_doubt`.

    Raises:
        Refused: 550 5.7.23; 451 4.7.24 where that, or a signature that may pass for them, cannot be checked now.
    """
    if verdict.spf is None or _spf_action(policy, verdict.spf) != UNLESS_DKIM:
        return
    if "dkim" in verdict.aligned or verdict.sender_signed:
        return
    domains = {verdict.spf.domain, *(author.domain for author in verdict.authors)}
    for signature in verdict.dkim:
        if signature.result == "temperror" and any(share_two_labels(signature.domain, domain) for domain in domains):
            doubt = doubt or f"its DKIM signature cannot be checked for now, {signature.problem}"
    if doubt:
        raise _spf_refusal("defer", verdict.spf, ip, f"; {doubt}")
    if verdict.dmarc is not None and verdict.dmarc.from_fields > 1:
        more = f", and of a message with {verdict.dmarc.from_fields} From fields no signature speaks for an author"
    else:
        more = ", and no valid DKIM signature of its domain or the author's does"
    raise _spf_refusal("reject", verdict.spf, ip, more)


def _spf_action(policy: SpfSection, verdict: SpfVerdict) -> str:
    return {
        "fail": policy.fail,
        "softfail": policy.softfail,
        "permerror": policy.permerror,
        "temperror": policy.temperror,
    }.get(verdict.result, "tag")


def _spf_refusal(action: str, verdict: SpfVerdict, ip: str, more: str = "") -> Refused:
    text = f"SPF {verdict.result} for {verdict.domain}: "
    if verdict.result in ("temperror", "permerror"):
        text += verdict.problem
    else:
        text += f"{ip} is not allowed to send for it{more}"
        text += f"; the domain explains: {verdict.explanation}" if verdict.explanation else ""
    if action == "defer" or verdict.result == "temperror":
        return Refused(451, "4.7.24", text)
    return Refused(550, "5.7.24" if verdict.result == "permerror" else "5.7.23", text)


def refuse_many_authors(authors: Sequence[str], doubtful: Sequence[str]) -> None:
    """Refuse a From with more domains than are looked at (RFC 9989 section 11.5), before DNS is asked for any of them.

    Args:
        authors: the author domains, as every mail program reads From.
        doubtful: the domains that only some mail programs read there.

    Raises:
        Refused: 550 5.7.1.
    """
    if len(authors) > AUTHORS or max(len(set(authors)), len(doubtful)) > AUTHOR_DOMAINS:
        raise Refused(550, "5.7.1", f"more than {AUTHOR_DOMAINS} domains in From: this is no list of authors")


def refuse_forged(
    verdict: Verdict,
    sender_is_ours: bool,
    authors: Sequence[str],
    ours: Collection[str],
    ip: str,
    doubtful: Sequence[str] = (),
) -> None:
    """Refuse a stranger's message in the name of a domain of our organization, unless the author is proven.

    Args:
        sender_is_ours: MAIL FROM is in a domain of ours, or below one.
        authors: the author domains, as every mail program reads From.
        ours: those of them and of `doubtful` that belong to our organization.
        doubtful: the domains that only some mail programs read in From.

    Raises:
        Refused: 550 5.7.1, the mail would leave with our address, our SPF and our signature; 451 4.7.1, we cannot
            tell now.
    """
    proven = bool(ours) and _is_proven(verdict, authors, ours)
    if ours and not proven:
        domain = min(ours)
        unknown = verdict.dmarc is not None and verdict.dmarc.result == "temperror"
        if verdict.dmarc is not None and unknown and _is_one_author(authors, ours):
            text = f"whether {ip} may send mail from {domain} cannot be told now: {verdict.dmarc.problem}"
            raise Refused(451, "4.7.1", text)
        raise Refused(550, "5.7.1", f"{ip} may not send mail from {_in_from(domain, verdict.dmarc)}, a domain of ours")
    if sender_is_ours and not proven and (verdict.spf is None or verdict.spf.result != "pass"):
        domain = verdict.spf.domain if verdict.spf is not None else "a domain of ours"
        raise Refused(550, "5.7.1", f"{ip} may not send for {domain}, a domain of ours")


def defer_unknown_owner(verdict: Verdict, authors: Sequence[str], unknown: Collection[str]) -> None:
    """Defer an unproven message while DNS does not say whether its author belongs to our organization.

    Args:
        authors: the author domains, as every mail program reads From.
        unknown: the domains in From of which DNS does not say it.

    Raises:
        Refused: 451 4.7.1.
    """
    if unknown and not _is_proven(verdict, authors, unknown):
        text = f"whether {min(unknown)} is a domain of ours cannot be told now"
        raise Refused(451, "4.7.1", f"{text}: DNS does not answer for what is above it")


def _is_proven(verdict: Verdict, authors: Sequence[str], named: Collection[str]) -> bool:
    return _is_one_author(authors, named) and verdict.author_proven


def _is_one_author(authors: Sequence[str], named: Collection[str]) -> bool:
    """Whether From has one author, and `named` is that author's domain only."""
    return len(authors) == 1 and all(domain in authors for domain in named)


def apply_dmarc(policy: DmarcSection, verdict: DmarcVerdict, ip: str, doubt: str = "") -> None:
    """Apply the DMARC policies of the authors' domains; of several the strictest.

    Where DNS does not answer now, and a refusal may follow, the message is deferred: otherwise a DNS failure would be a
    way around the policy.

    Args:
        doubt: why we cannot tell now whether a failure counts, see `override_doubt`.

    Raises:
        Refused: 550 5.7.26 or 451 4.7.26 (RFC 7372 section 3.3: several authentication checks failed).
    """
    replies = [
        _dmarc_refusal(policy, author, _in_from(author.domain, verdict), ip, doubt)
        for author in (verdict, *verdict.others)
    ]
    strictest = max(filter(None, replies), key=lambda reply: reply.code, default=None)
    if strictest is not None:
        raise Refused.of(strictest)


def _dmarc_refusal(policy: DmarcSection, verdict: DmarcVerdict, where: str, ip: str, doubt: str) -> Reply | None:
    actions = {"none": "tag", "quarantine": policy.quarantine, "reject": policy.reject}
    action = max((actions[disposition] for disposition in verdict.dispositions), key=_SEVERITY.index, default="tag")
    if action == "tag" or (verdict.result == "temperror" and policy.temperror == "tag"):
        return None
    if verdict.result == "temperror":
        known = f"whose policy is {verdict.policy}" if verdict.policy else "whose policy is not known"
        return Reply(451, "4.7.26", f"DMARC temperror for {where}, {known}: {verdict.problem}")
    if not verdict.policy:
        why = verdict.problem
    elif verdict.from_fields > 1:
        why = f"nobody can tell who the author is, and its policy is {verdict.policy}"
    else:
        why = f"neither SPF nor DKIM passes in its name for mail from {ip}, and its policy is {verdict.policy}"
    if doubt and action == "reject":
        return Reply(451, "4.7.26", f"DMARC fail for {where}: {why}; {doubt}")
    text = f"DMARC fail for {where}: {why}"
    return Reply(451, "4.7.26", text) if action == "defer" else Reply(550, "5.7.26", text)


def _in_from(domain: str, verdict: DmarcVerdict | None) -> str:
    """An author's domain, for a refusal; with the number of From fields or domains where that may be the fault.

    Args:
        verdict: on all of the authors.
    """
    if verdict is not None and verdict.from_fields > 1:
        return f"{domain}, an author in one of {verdict.from_fields} From fields"
    if verdict is not None and verdict.domains > 1:
        return f"{domain}, one of {verdict.domains} author domains in From"
    return domain


def overrides(known: Iterable[IPNetwork | str], sealers: Collection[str], verdict: Verdict, ip: str) -> str:
    """Why a DMARC failure does not count, by local policy (which RFC 9989 leaves to receivers); empty where it counts.

    A host is known by its address, or by its confirmed name (iprev). An ARC chain counts where it passes and trusted
    sealers made all sets from the newest down to the one that saw DMARC pass (RFC 8617 section 7.2).

    Args:
        known: hosts, see `relay.config.values.host_pattern`.
        sealers: domains whose seals are believed.
    """
    name = verdict.iprev.name if verdict.iprev is not None else ""
    for pattern in known:
        if isinstance(pattern, str):
            if _is_named(name, pattern):
                return f"known host {name}"
        elif within(ip, (pattern,)):
            return f"known host {ip}"
    sealer = _sealer_who_saw_a_pass(verdict, sealers) if verdict.arc.result == "pass" else ""
    return f"trusted ARC sealer {sealer}" if sealer else ""


def override_doubt(known: Iterable[IPNetwork | str], sealers: Collection[str], verdict: Verdict) -> str:
    """Why we cannot tell now whether `overrides` holds, with the DNS name that failed; empty where we can tell."""
    iprev = verdict.iprev
    patterns = [pattern for pattern in known if isinstance(pattern, str)]
    if iprev is not None and iprev.result == "temperror" and _may_be_named(iprev, patterns):
        return f"whether the client is a known host cannot be told now, {iprev.problem}"
    if verdict.arc.temporary and _sealer_who_saw_a_pass(verdict, sealers):
        return f"its ARC chain cannot be checked for now, {verdict.arc.problem}"
    return ""


def _is_named(name: str, pattern: str) -> bool:
    return bool(name) and (name == pattern or (pattern[0] == "." and name.endswith(pattern)))


def _may_be_named(iprev: Iprev, patterns: Sequence[str]) -> bool:
    if not iprev.unconfirmed:
        return bool(patterns)
    return any(_is_named(name, pattern) for name in iprev.unconfirmed for pattern in patterns)


def _sealer_who_saw_a_pass(verdict: Verdict, sealers: Collection[str]) -> str:
    """The domain of the newest set that saw DMARC pass for the authors, if these sealers made it and all above it."""
    sets: Sequence[ArcSet] = verdict.arc.sets
    if not sets[0].signs_author:
        return ""
    authors = {author.domain for author in verdict.authors if author.dispositions}
    authors = authors or {verdict.dmarc.domain if verdict.dmarc is not None else ""}
    for link in sets:
        if link.domain not in sealers:
            return ""
        if all(passes_dmarc(link.results, author) for author in authors):
            return link.domain
    return ""
