"""Identifier alignment of DMARC (RFC 9989 section 4.10.2): whether SPF or DKIM passes for the author's organization.

Pure functions of the lookups so far, see `relay.authenticate.dmarc_tree_walk`.
"""

from __future__ import annotations

from collections.abc import Sequence

from relay.authenticate.dkim import DkimVerdict
from relay.authenticate.dmarc_record import AlignmentMode
from relay.authenticate.dmarc_tree_walk import Lookups, is_domain, organizational_domain
from relay.authenticate.spf import SpfVerdict
from relay.dns import DnsFailure
from relay.mail.domains import share_two_labels


def any_passes_aligned(
    author: str, verdicts: Sequence[SpfVerdict | DkimVerdict], mode: AlignmentMode, lookups: Lookups
) -> tuple[bool, list[DnsFailure]]:
    """Whether a verdict passes in alignment with the author's domain, and what could not be checked if none does.

    Raises:
        Unasked: that depends on a question that is not among `lookups`.
    """
    failures: list[DnsFailure] = []
    # Verdicts that need no tree walk come first, and temperrors last: they matter only if nothing passes.
    for verdict in sorted(verdicts, key=lambda verdict: (verdict.result != "pass", verdict.domain != author)):
        if verdict.result not in ("pass", "temperror"):
            continue
        try:
            aligned = is_aligned(author, verdict.domain, mode, lookups)
        except DnsFailure as failure:
            if share_two_labels(author, verdict.domain):
                failures.append(failure)
            continue
        if aligned and verdict.result == "pass":
            return True, []
        if aligned:
            failures.append(DnsFailure(verdict.problem or f"{verdict.domain} could not be checked"))
    return False, failures


def is_aligned(author: str, domain: str, mode: AlignmentMode, lookups: Lookups) -> bool:
    """Whether a domain is in alignment with the author's.

    The second tree walk is made only for a domain at or below the author's Organizational Domain.

    Raises:
        Unasked, DnsFailure: as `Lookups`.
    """
    if domain == author:
        return True
    if mode == "s" or not is_domain(domain) or domain.rpartition(".")[2] != author.rpartition(".")[2]:
        return False
    organization = organizational_domain(author, lookups)
    return f".{domain}".endswith(f".{organization}") and organizational_domain(domain, lookups) == organization
