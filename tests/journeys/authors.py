"""The domains that mail comes from: each publishes SPF, a DKIM key and perhaps a DMARC policy, and can sign as dkimpy
does it.
"""

from __future__ import annotations

import dkim

from tests.journeys.world import Zone, key_pair

SELECTOR = "author1"
SIGNED = (b"from", b"to", b"subject", b"date", b"message-id")


def publish(zone: Zone, domain: str, address: str, dmarc: str = "") -> None:
    """Let a domain and its host `mx.DOMAIN` send from one address, sign with a key, and ask for a DMARC policy.

    Args:
        dmarc: the record after its `v=DMARC1;`, none where empty.
    """
    for name in (domain, f"mx.{domain}"):
        zone[name, "TXT"] = [f'"v=spf1 ip4:{address} -all"']
    zone[f"{SELECTOR}._domainkey.{domain}", "TXT"] = [key_pair(domain)[1]]
    if dmarc:
        zone[f"_dmarc.{domain}", "TXT"] = [f'"v=DMARC1; {dmarc}"']


def signed(message: bytes, domain: str, selector: str = SELECTOR) -> bytes:
    """The message with a DKIM-Signature of the domain on top."""
    key = key_pair(domain)[0].encode()
    field: bytes = dkim.sign(message, selector.encode(), domain.encode(), key, include_headers=list(SIGNED))
    return field + message


def broken(message: bytes) -> bytes:
    """The message as a mailing list leaves it: with a line more, for which no signature holds."""
    return message + b"-- \r\nYou get this mail because you subscribed.\r\n"
