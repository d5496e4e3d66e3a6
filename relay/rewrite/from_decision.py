"""Decides when From is rewritten: where DMARC passes here and would fail at the next hop.

That is so for mail that passes DMARC by SPF alone, because SPF speaks for the last host only, and whose author's domain
asks for quarantine or reject. `dmarc.unforwardable`, or the route of the recipient, says what is done then: From is
rewritten (`from_field`), the message is refused, or it passes as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from relay.authenticate.verdict import Verdict
from relay.config.model import Config
from relay.config.sections import Unforwardable
from relay.mail.address import domain_of
from relay.mail.domains import are_nested
from relay.queue.stored_verdict import StoredVerdict


class FromDecisions:
    """Decides for one worker.

    Args:
        signs_as: whether we sign mail of an author's domain in its own name; such mail passes DMARC everywhere.
    """

    def __init__(self, config: Config, signs_as: Callable[[str], bool]) -> None:
        self._config = config
        self._signs_as = signs_as

    def why_unforwardable(self, verdict: Verdict, sender: str) -> str:
        """Why DMARC would fail at the next hop; empty where it would pass, or fails already.

        Args:
            sender: the envelope sender; SPF passes at the next hop for a local domain, for which we may send.
        """
        author, reason = _fails_when_forwarded(verdict)
        if not reason or domain_of(sender) in self._config.senders.local_domains or self._signs_as(author):
            return ""
        return reason

    def treatments(self, recipients: Iterable[str]) -> frozenset[Unforwardable]:
        """What the ways to these recipients want done with unforwardable mail."""
        return frozenset(self._config.unforwardable(domain_of(recipient)) for recipient in recipients)

    def rewrites(self, verdict: StoredVerdict, recipient: str) -> bool:
        """Whether From of a message is rewritten on the way to a recipient."""
        return verdict.unforwardable and self._config.unforwardable(domain_of(recipient)) == "rewrite-from"


def _fails_when_forwarded(verdict: Verdict) -> tuple[str, str]:
    """The author's domain for which DMARC passes here and fails at the next hop, and the reason; empty where none is.

    A signature whose key could not be looked up may be good. Receivers that implement RFC 7489 do not know `t=y`, so
    the published policy counts.
    """
    for dmarc in verdict.authors:
        if dmarc.result != "pass" or dmarc.aligned != ("spf",) or dmarc.policy not in ("quarantine", "reject"):
            continue
        if any(sig.result == "temperror" and are_nested(sig.domain, dmarc.domain) for sig in verdict.dkim):
            continue
        return dmarc.domain, f"DMARC of {dmarc.domain} passes by SPF alone, and its policy is {dmarc.policy}"
    return "", ""
