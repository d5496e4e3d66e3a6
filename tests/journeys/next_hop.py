"""What the host behind the relay sees in a message: SPF, DKIM and DMARC, by code that has nothing in common with ours.

SPF is pyspf's own, over the zone of the test; DKIM is dkimpy's; DMARC is what of RFC 9989 a zone needs whose
organizational domains all stand right below `example`, the rest of it being tested elsewhere.
"""

from __future__ import annotations

import re
from email.utils import parseaddr
from typing import Any, NamedTuple
from unittest import mock

import spf

from tests.journeys.maildir import parse
from tests.journeys.sinks import Received
from tests.journeys.world import FWD, World


class Sight(NamedTuple):
    """What a receiver finds.

    Attributes:
        author: the domain in From.
        spf: of the envelope sender, of the EHLO name where that is null.
        signers: the domains of the signatures that verify, top to bottom.
        dmarc: `none` where the author's domain has no policy.
    """

    author: str
    spf: str
    signers: tuple[str, ...]
    dmarc: str


def sight(world: World, received: Received, *, address: str = FWD, helo: str = "mx.fwd.example") -> Sight:
    """What arrived from a client at this address, as a careful receiver judges it."""
    froms = parse(received.content).get_all("From", [])
    assert len(froms) == 1, froms
    author = parseaddr(froms[0])[1].rpartition("@")[2].lower()
    result = _spf(world, received.sender, address, helo)
    signers = tuple(world.signers(received.content))
    policy = world.zone.get((f"_dmarc.{_organization(author)}", "TXT"))
    passing = {_organization(domain) for domain in signers}
    if result == "pass":
        passing.add(_organization(received.sender.rpartition("@")[2] or helo))
    dmarc = "none" if policy is None else "pass" if _organization(author) in passing else "fail"
    return Sight(author, result, signers, dmarc)


def _organization(domain: str) -> str:
    return ".".join(domain.lower().split(".")[-2:])


def _spf(world: World, sender: str, address: str, helo: str) -> str:
    def answer(name: str, rdtype: str, *_: Any, **__: Any) -> list[Any]:
        records = world.zone.get((name.lower().rstrip("."), rdtype), [])
        assert rdtype == "TXT", f"no record of this zone asks for {rdtype}"
        return [((name, rdtype), tuple(part.encode() for part in re.findall(r'"(.*?)"', one))) for one in records]

    with mock.patch("spf.DNSLookup", answer):
        result, _ = spf.check2(i=address, s=sender, h=helo)
    return str(result)
