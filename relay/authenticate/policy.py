"""What the checks lead to in the session: nothing, a refusal for good, or one for now.

Pure decisions over verdicts; every refusal names the check that failed and for whom, so that the sender's postmaster
can see from the bounce what to mend.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

from relay.authenticate.author import AUTHORS
from relay.authenticate.dmarc import AUTHOR_DOMAINS, DmarcVerdict
from relay.authenticate.kinship import is_akin
from relay.authenticate.spf import SpfVerdict
from relay.authenticate.verdict import Verdict
from relay.authenticate.vouched import passes_dmarc
from relay.config_sections import Dmarc, Spf
from relay.network import IPNetwork, within
from relay.reply import Refused

UNLESS_DKIM = "reject-unless-dkim"


def apply_spf(policy: Spf, verdict: SpfVerdict, ip: str) -> None:
    """At RCPT: return where the result is only to be tagged, or where DKIM may still speak for the sender.

    Raises:
        Refused: 550 5.7.23, 550 5.7.24 or 451 4.7.24 (RFC 7208 sections 8.4 to 8.7, RFC 7372 section 3.2), with the
            explanation of the domain's owner.
    """
    action = _spf_action(policy, verdict)
    if action not in ("tag", UNLESS_DKIM):
        raise _spf_refusal(action, verdict, ip)


def apply_spf_unless_dkim(policy: Spf, verdict: Verdict, ip: str) -> None:
    """At the end of DATA: what failed SPF goes on if a DKIM signature speaks for the author or for MAIL FROM.

    Any other signature says nothing of the sender: who forges one can sign with a domain of his own.

    Raises:
        Refused: 550 5.7.23; 451 4.7.24 where a signature could not be checked for now.
    """
    if verdict.spf is None or _spf_action(policy, verdict.spf) != UNLESS_DKIM:
        return
    if "dkim" in verdict.aligned or verdict.sender_signed:
        return
    if any(one.result == "temperror" for one in verdict.dkim):
        raise _spf_refusal("defer", verdict.spf, ip, "; its DKIM signature cannot be checked for now")
    raise _spf_refusal("reject", verdict.spf, ip, ", and no valid DKIM signature of its domain or the author's does")


def _spf_action(policy: Spf, verdict: SpfVerdict) -> str:
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


def refuse_forged(
    verdict: Verdict,
    sender_is_ours: bool,
    authors: Sequence[str],
    ours: Collection[str],
    ip: str,
    doubtful: Sequence[str] = (),
) -> None:
    """An outsider may write in the name of our domains, or of one akin to them, only where it is proven to be true.

    Args:
        sender_is_ours: MAIL FROM is in a domain of ours, or below one.
        authors: every domain that readers take for the author's.
        ours: those of them and of `doubtful` that are ours or akin to ours.
        doubtful: what only some readers take for it.

    Raises:
        Refused: 550 5.7.1, the mail would leave with our address, our SPF and our signature; 451 4.7.1, for now
            nobody can say. Also for more authors than anyone can look at.
    """
    # Nobody looks at them all (RFC 9989 section 11.5).
    if len(authors) > AUTHORS or max(len(set(authors)), len(doubtful)) > AUTHOR_DOMAINS:
        raise Refused(550, "5.7.1", f"more than {AUTHOR_DOMAINS} domains in From: this is no list of authors")
    one = len(authors) == 1 and all(domain in authors for domain in ours)
    proven = bool(ours) and one and verdict.author_proven
    if ours and not proven:
        domain = min(ours)
        if verdict.dmarc is not None and verdict.dmarc.result == "temperror" and one:
            raise Refused(451, "4.7.1", f"whether {ip} may send mail from {domain} cannot be told now, try later")
        raise Refused(550, "5.7.1", f"{ip} may not send mail from {domain}, a domain of ours")
    if sender_is_ours and not proven and (verdict.spf is None or verdict.spf.result != "pass"):
        domain = verdict.spf.domain if verdict.spf is not None else "a domain of ours"
        raise Refused(550, "5.7.1", f"{ip} may not send for {domain}, a domain of ours")


def apply_dmarc(policy: Dmarc, verdict: DmarcVerdict, ip: str) -> None:
    """Do what is configured for what the author's domain asks for; a temporary error is only tagged.

    Raises:
        Refused: 550 5.7.26 or 451 4.7.26 (RFC 7372 section 3.3: several authentication checks failed).
    """
    if verdict.result != "fail":
        return
    action = {"reject": policy.reject, "quarantine": policy.quarantine}.get(verdict.disposition, "tag")
    if action == "tag":
        return
    text = (
        f"DMARC fail for {verdict.domain}: neither SPF nor DKIM passes in its name for mail from {ip}, "
        f"and its policy is {verdict.policy}"
    )
    raise Refused(451, "4.7.26", text) if action == "defer" else Refused(550, "5.7.26", text)


def overrides(known: Iterable[IPNetwork | str], sealers: Collection[str], verdict: Verdict, ip: str) -> str:
    """Why a DMARC failure does not count: the local policy that RFC 9989 leaves to receivers; empty where it counts.

    A host is known by its address, or by its name where that is confirmed (iprev). A chain counts where it is whole
    and, from its newest seal down to the one that saw DMARC pass, made by these sealers (RFC 8617 section 7.2).

    Args:
        known: hosts, see `config_values.host_pattern`.
        sealers: domains whose seals are believed.
    """
    name = verdict.iprev.name if verdict.iprev is not None else ""
    for pattern in known:
        if isinstance(pattern, str):
            if name and (name == pattern or (pattern[0] == "." and name.endswith(pattern))):
                return f"known host {name}"
        elif within(ip, (pattern,)):
            return f"known host {ip}"
    if verdict.arc.result != "pass" or not verdict.arc.sets[0].signs_author:
        return ""
    for link in verdict.arc.sets:
        if link.domain not in sealers:
            return ""
        if passes_dmarc(link.results, verdict.dmarc.domain if verdict.dmarc is not None else ""):
            return f"trusted ARC sealer {link.domain}"
    return ""


def breaks_when_forwarded(verdict: Verdict) -> tuple[str, str]:
    """The author's domain for which a next hop will see DMARC fail although it passes here, and why; empty: none.

    SPF speaks for the last hop only, so what passes by it alone passes no further. A signature whose key could not be
    looked up may yet be good. Receivers older than RFC 9989 do not know `t=y`, so the policy counts as it is published.
    """
    for dmarc in verdict.authors:
        if dmarc.result != "pass" or dmarc.aligned != ("spf",) or dmarc.policy not in ("quarantine", "reject"):
            continue
        if any(one.result == "temperror" and is_akin(one.domain, dmarc.domain) for one in verdict.dkim):
            continue
        return dmarc.domain, f"DMARC of {dmarc.domain} passes by SPF alone, and its policy is {dmarc.policy}"
    return "", ""
