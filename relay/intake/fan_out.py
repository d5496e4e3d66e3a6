"""From the recipients of a message to its deliveries: one for each address that they lead to, each address once."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from relay.deliver.settlement import recorded
from relay.mail.address import lookup_key
from relay.mail.envelope import RcptTo
from relay.mail.outcome import Outcome
from relay.queue.store import Delivery, StoredMessage
from relay.route.router import Routed

FORGED = "forged SRS address, from a client that has tried many"


def fan_out(
    stored: StoredMessage, routes: Sequence[tuple[RcptTo, Routed]], hop_of: Callable[[str], str], expires: float
) -> list[Delivery]:
    """The deliveries of a message that was just taken.

    What came for a forged address is dead from the start. It keeps that address, so that a retry brings it here again
    and nowhere else.

    Args:
        routes: the recipients, and what each of them is.
        hop_of: the next hop of an address.
        expires: when a delivery becomes undeliverable.
    """
    found: dict[str, Delivery] = {}
    for rcpt, routed in routes:
        if routed.home is not None and routed.home.forged:
            key = lookup_key(rcpt.recipient)
            found.setdefault(key, _dead(stored, len(found), rcpt.recipient, hop_of(rcpt.recipient), expires))
            continue
        for target in routed.targets:
            found.setdefault(
                lookup_key(target.address),
                Delivery(
                    stored.id,
                    len(found),
                    recipient=target.address,
                    original=rcpt.recipient,
                    hop=hop_of(target.address),
                    srs=target.srs,
                    notify=_behind_list(rcpt.notify) if len(routed.targets) > 1 else rcpt.notify,
                    orcpt=rcpt.orcpt,
                    next_attempt=stored.received,
                    expires=expires,
                ),
            )
    return list(found.values())


def _dead(stored: StoredMessage, number: int, forged: str, hop: str, expires: float) -> Delivery:
    return Delivery(
        stored.id,
        number,
        recipient=forged,
        original=forged,
        hop=hop,
        state="dead",
        next_attempt=stored.received,
        expires=expires,
        last=recorded(Outcome("failed", 550, "5.1.1", FORGED), stored.received),
    )


def _behind_list(notify: str) -> str:
    """What is left of NOTIFY for the members of a list, whose success is not reported; not even failure was asked for
    where success was all."""
    return ",".join(word for word in notify.split(",") if word != "SUCCESS") or ("NEVER" if notify else "")
