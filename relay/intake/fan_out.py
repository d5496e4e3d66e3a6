"""From the recipients of a message to its deliveries: one for each address that they lead to, and each address once."""

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
    stored: StoredMessage, routes: Sequence[tuple[RcptTo, Routed]], next_hop_key: Callable[[str], str], expires: float
) -> list[Delivery]:
    """The deliveries of a message that was just accepted.

    A delivery to a forged address is dead from the start. It keeps the forged address, so that `queue retry` routes it
    to this relay again and to nobody else.

    Args:
        routes: the recipients, and what each of them is.
        next_hop_key: the key of an address' next hop, see `Delivery.hop`.
        expires: when a delivery becomes undeliverable, in seconds since 1970.
    """
    deliveries: dict[str, Delivery] = {}
    for rcpt, routed in routes:
        if routed.returned is not None and routed.returned.forged:
            hop = next_hop_key(rcpt.recipient)
            dead = _dead(stored, len(deliveries), rcpt.recipient, hop, expires)
            deliveries.setdefault(lookup_key(rcpt.recipient), dead)
            continue
        for target in routed.targets:
            deliveries.setdefault(
                lookup_key(target.address),
                Delivery(
                    stored.id,
                    len(deliveries),
                    recipient=target.address,
                    original=rcpt.recipient,
                    hop=next_hop_key(target.address),
                    srs=target.srs,
                    notify=_notify_behind_list(rcpt.notify) if len(routed.targets) > 1 else rcpt.notify,
                    orcpt=rcpt.orcpt,
                    next_attempt=stored.received,
                    expires=expires,
                ),
            )
    return list(deliveries.values())


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


def _notify_behind_list(notify: str) -> str:
    """NOTIFY for the members of a list: their success is not reported, and where only success was asked for,
    nothing."""
    return ",".join(word for word in notify.split(",") if word != "SUCCESS") or ("NEVER" if notify else "")
