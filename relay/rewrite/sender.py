"""Decides which envelope sender a delivery leaves with, and whether it is rewritten by SRS.

SPF at the next hop checks this address, and bounces come back to it. Only a sender that we may not send for is
rewritten; the reason stands in the log line of the attempt.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal

from relay.mail.address import domain_of, is_ascii, normal_domain
from relay.srs.address import Scheme, TooLong, forward

Reason = Literal["null", "local", "unwanted", "own", "unneeded", "srs", "too-long", "non-ascii"]


@dataclass(frozen=True, slots=True)
class Decision:
    """The sender of one delivery.

    Attributes:
        address: what goes into MAIL FROM; empty for the null sender, and where `token_for` is set.
        reason: unchanged because it is the `null` sender, of a `local` domain, of our `own` SRS domain, or because
            rewriting is `unwanted` on this route, or `unneeded` as SPF passes without it; rewritten by `srs`; or in
            need of a stored token, being `too-long` or `non-ascii`.
        token_for: the sender to store; the caller gets an id for it and sends as `forward_token` of that id.
    """

    address: str
    reason: Reason
    token_for: str | None = None


def leaving_sender(
    sender: str,
    *,
    authorised: bool,
    srs_wanted: bool,
    srs_needed: bool = True,
    smtputf8: bool,
    local_domains: Collection[str],
    scheme: Scheme,
    now: float,
) -> Decision:
    """Decide on the sender of one delivery.

    Args:
        sender: the envelope sender as it came in; empty for the null sender.
        authorised: the client is trusted, or SPF passed for this sender. The domain is looked at here.
        srs_wanted: the route has not `srs = false`.
        srs_needed: the route has not `srs = "when-needed"`, or SPF would not pass for this sender from our addresses.
        smtputf8: the next hop offers SMTPUTF8 (RFC 6531).
        local_domains: normal domains that we are authorised to send for.
        now: seconds since 1970.

    Raises:
        BadSyntax: the sender has to be rewritten and is no mailbox of RFC 5321 section 4.1.2.
    """
    if not sender:
        return Decision("", "null")  # RFC 5321 section 4.5.5: a notification must not be answered with another
    if not srs_wanted:
        return Decision(sender, "unwanted")
    domain = domain_of(sender)
    if authorised and domain in local_domains:
        return Decision(sender, "local")
    if domain == normal_domain(scheme.domain):
        return Decision(sender, "own")
    if not smtputf8 and not is_ascii(sender):
        return Decision("", "non-ascii", token_for=sender)
    if not srs_needed:
        return Decision(sender, "unneeded")
    try:
        return Decision(forward(sender, scheme, now), "srs")
    except TooLong:
        return Decision("", "too-long", token_for=sender)
