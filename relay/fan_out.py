"""From the recipients of a message to its deliveries: one for each address that they lead to, each address once."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from relay.address import lookup_key
from relay.queue.store import Delivery, StoredMessage
from relay.receive.command import RcptTo
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
            found.setdefault(
                lookup_key(rcpt.recipient),
                Delivery(
                    stored.id,
                    len(found),
                    recipient=rcpt.recipient,
                    original=rcpt.recipient,
                    hop=hop_of(rcpt.recipient),
                    state="dead",
                    next_attempt=stored.received,
                    expires=expires,
                    last={
                        "at": stored.received,
                        "code": 550,
                        "status": "5.1.1",
                        "text": FORGED,
                        "host": "",
                        "address": "",
                        "tls": "",
                    },
                ),
            )
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


def _behind_list(notify: str) -> str:
    """What is left of NOTIFY for the members of a list, whose success is not reported; not even failure was asked for
    where success was all."""
    return ",".join(word for word in notify.split(",") if word != "SUCCESS") or ("NEVER" if notify else "")
