"""Looks at a delivery with the eyes of its next hop: our own checks from the outside, and a second opinion."""

from __future__ import annotations

import time
from dataclasses import dataclass

from relay.authenticate import spf
from relay.authenticate.dns_budget import Budget
from relay.authenticate.iprev import iprev
from relay.authenticate.verdict import Verdict, check_stranger
from relay.cli.address_seen import AddressSeen
from relay.cli.noting_resolver import Asked, NotingResolver
from relay.cli.second_opinion import SecondOpinion, ask_others
from relay.mail.message import Message

_RECEIVER = "next hop"


@dataclass(frozen=True, slots=True)
class NextHopView:
    """What the next hop will see, evaluated from the outside on what would leave.

    Attributes:
        address: the address of ours that it was evaluated for.
        helo: the name that we say in EHLO.
        opinion: what other implementations say.
        asked: in DNS, for all of it.
    """

    address: AddressSeen
    helo: str
    verdict: Verdict
    opinion: SecondOpinion
    asked: tuple[Asked, ...] = ()

    @property
    def ip(self) -> str:
        return self.address.ip


async def look(resolver: NotingResolver, helo: str, address: AddressSeen, sender: str, wire: bytes) -> NextHopView:
    """Evaluate a message that comes from an address of ours.

    Args:
        helo: our name in EHLO.
        sender: MAIL FROM, empty for the null sender.
        wire: the message as it leaves.
    """
    message, budget, ip = Message(wire), Budget(resolver), address.ip
    result = await spf.check(budget.spf, ip=ip, helo=helo, sender=sender, receiver=_RECEIVER)
    name = await iprev(budget.iprev, ip)
    verdict = await check_stranger(budget, message, sender, result, name, time.time())
    opinion = await ask_others(budget.authors, message, verdict, ip=ip, helo=helo, sender=sender, receiver=_RECEIVER)
    return NextHopView(address, helo, verdict, opinion, resolver.noted())
