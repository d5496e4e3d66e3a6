"""What the examination of a message found, and the log line and metrics that tell of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import structlog

from relay.authenticate.forged_results import are_signed
from relay.authenticate.verdict import Verdict
from relay.mail.arrival import Arrival
from relay.mail.message import HeaderField, Message
from relay.mail.reply import Reply
from relay.metrics import Metrics

log = structlog.get_logger()

_SELDOM_VERIFIED = "ed25519-sha256"  # Google, Microsoft and Yahoo do not verify it


class Examination(NamedTuple):
    """The results of all checks of a message, and what follows from them.

    Attributes:
        arrival: the message that was examined.
        verdict: the results.
        message: the message as it goes on, without forged fields.
        forged: the fields that claimed to be ours, and are not in `message` any more: Authentication-Results, and those
            of the filter.
        override: why a DMARC failure does not count; empty where it counts, and where DMARC did not fail.
        refusal: the reply to a message that is not accepted; None where it is.
        questions: how many questions to DNS the checks took.
    """

    arrival: Arrival
    verdict: Verdict
    message: Message
    forged: tuple[HeaderField, ...] = ()
    override: str = ""
    refusal: Reply | None = None
    questions: int = 0

    @property
    def seal_is_useful(self) -> bool:
        """Whether an ARC set tells the next hop what it cannot see by itself (`arc.seal = "useful"`).

        That is a chain that came along, whose results only its seals tell; a DMARC failure that we let pass; a
        signature that covered a field we removed; and SPF or DMARC `pass` where no signature that the next hop can
        verify proves the author. SPF holds for one hop, and a trusted client's MTA may have seen DMARC pass by it
        without telling of SPF.
        """
        verdict = self.verdict
        if verdict.arc.result == "pass" or self.override or any(dmarc.result == "fail" for dmarc in verdict.authors):
            return True
        if self.forged and are_signed(self.arrival.message, self.forged):
            return True
        spf_passes = verdict.spf is not None and verdict.spf.result == "pass"
        passes = spf_passes or any(dmarc.result == "pass" for dmarc in verdict.authors)
        return passes and not self._is_visibly_signed

    @property
    def _is_visibly_signed(self) -> bool:
        """Whether a signature that the next hop can verify is in alignment with every author."""
        passing = [signature for signature in self.verdict.dkim if signature.result == "pass"]
        readable = {signature.domain for signature in passing if signature.algorithm != _SELDOM_VERIFIED}
        is_aligned = all("dkim" in dmarc.aligned for dmarc in self.verdict.authors)
        # It is not known which signature is the aligned one, so none may be of a domain that only Ed25519 speaks for.
        return is_aligned and all(signature.domain in readable for signature in passing)


Watch = Callable[[Examination], None]
"""Is told of every examination."""


def report(examination: Examination, metrics: Metrics) -> None:
    """Log an examination, and count its results."""
    verdict, queue_id = examination.verdict, examination.arrival.queue_id
    if verdict.spf is not None and verdict.dmarc is not None:
        log.info(
            "authenticated",
            id=queue_id,
            spf=verdict.spf.result,
            domain=verdict.spf.domain,
            identity=verdict.spf.identity,
            dkim=[f"{signature.domain}:{signature.result}" for signature in verdict.dkim],
            arc=verdict.arc.result,
            dmarc=verdict.dmarc.result,
            author=verdict.dmarc.domain,
            policy=verdict.dmarc.policy or None,
            problem=verdict.dmarc.problem or None,
            aligned=list(verdict.aligned),
            word=verdict.trusted_results.authserv_id if verdict.trusted_results is not None else None,
            questions=examination.questions,
        )
        for signature in verdict.dkim:
            metrics.dkim.add(signature.result)
        metrics.arc.add(verdict.arc.result)
        metrics.dmarc.add(verdict.dmarc.result)
    if examination.override and verdict.dmarc is not None:
        log.info("dmarc_overridden", id=queue_id, domain=verdict.dmarc.domain, reason=examination.override)
    if examination.forged:
        signed = are_signed(examination.arrival.message, examination.forged)
        log.info("forged_results_removed", id=queue_id, fields=len(examination.forged), signed=signed)
