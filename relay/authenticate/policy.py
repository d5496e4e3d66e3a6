"""What the checks lead to in the session: nothing, a refusal for good, or one for now.

Pure decisions over verdicts; every refusal names the check that failed and for whom, so that the sender's postmaster
can see from the bounce what to mend.
"""

from __future__ import annotations

from collections.abc import Collection

from relay.address import domain_of
from relay.authenticate.author import AUTHORS, author_domains
from relay.authenticate.spf import SpfVerdict
from relay.config import Spf
from relay.message import Message
from relay.reply import Refused


def apply_spf(policy: Spf, verdict: SpfVerdict, ip: str) -> None:
    """Return where the result is only to be tagged.

    Raises:
        Refused: 550 5.7.23, 550 5.7.24 or 451 4.7.24 (RFC 7208 sections 8.4 to 8.7, RFC 7372 section 3.2), with the
            explanation of the domain's owner.
    """
    action = {
        "fail": policy.fail,
        "softfail": policy.softfail,
        "permerror": policy.permerror,
        "temperror": policy.temperror,
    }.get(verdict.result, "tag")
    if action == "tag":
        return
    text = f"SPF {verdict.result} for {verdict.domain}: "
    if verdict.result in ("temperror", "permerror"):
        text += verdict.problem
    else:
        text += f"{ip} is not allowed to send for it"
        text += f"; the domain explains: {verdict.explanation}" if verdict.explanation else ""
    if action == "defer" or verdict.result == "temperror":
        raise Refused(451, "4.7.24", text)
    raise Refused(550, "5.7.24" if verdict.result == "permerror" else "5.7.23", text)


def refuse_forged_sender(own: Collection[str], verdict: SpfVerdict, sender: str, ip: str) -> None:
    """An outsider may use our domains, and what is below them, in MAIL FROM only where SPF passes for them.

    A domain above one of ours is no concern here: as a sender that is not ours it is rewritten on the way out.

    Raises:
        Refused: 550 5.7.1; the mail would leave with our address, our SPF and our signature.
    """
    domain = domain_of(sender)
    if verdict.result != "pass" and _is_within(own, domain):
        raise Refused(550, "5.7.1", f"<{sender}>: {ip} may not send for {domain}, a domain of ours")


def refuse_forged_author(own: Collection[str], verdict: SpfVerdict, message: Message, ip: str) -> None:
    """An outsider may write From one of our domains only where SPF passes for that domain.

    Raises:
        Refused: 550 5.7.1; also for more authors than anyone can look at.
    """
    domains = author_domains(message)
    if len(domains) > AUTHORS:
        raise Refused(550, "5.7.1", f"more than {AUTHORS} domains in From: this is no list of authors")
    for domain in domains:
        aligned = verdict.result == "pass" and _aligned(domain, verdict.domain)
        if _is_akin(own, domain) and not aligned:
            raise Refused(550, "5.7.1", f"{ip} may not send mail from {domain}, a domain of ours")


def _is_within(own: Collection[str], domain: str) -> bool:
    """Whether a domain is one of ours, or below one."""
    return any(domain == one or domain.endswith("." + one) for one in own)


def _is_akin(own: Collection[str], domain: str) -> bool:
    """Whether a domain is one of ours, below one, or above one: relaxed alignment takes them all for the same."""
    return _is_within(own, domain) or ("." in domain and any(one.endswith("." + domain) for one in own))


def _aligned(author: str, authenticated: str) -> bool:
    """Relaxed alignment as far as it goes without the organizational domain: equal, or one below the other."""
    return author == authenticated or author.endswith("." + authenticated) or authenticated.endswith("." + author)
