"""For whom a recipient counts, see `relay.rate.traffic`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from relay.mail.address import domain_of
from relay.mail.envelope import Client
from relay.network import client_network
from relay.rate.traffic import Party
from relay.route.router import Routed


def parties(client: Client, sender: str, routed: Routed, *, spf_passes: bool) -> Mapping[Party, int]:
    """Those for whom a recipient counts, each with the number of recipients that it is.

    Who is behind a return address of ours counts for nobody: he has rates of his own (`[srs]`), and a forged address
    must not use up the rate of a destination.

    Args:
        spf_passes: whether SPF passes for the sender. Otherwise the sender's domain may be forged, and its mail counts
            for the domain and the client together.
    """
    found = Counter[Party]()
    if client.user:
        found[Party("user", client.user)] = 1
    elif not client.trusted:
        network = client_network(client.ip)
        if client.known:  # otherwise the address is that of a proxy
            found[Party("client", network)] = 1
        if domain := domain_of(sender):
            found[Party("sender_domain", domain if spf_passes else f"{domain} {network}")] = 1
    if routed.persons:
        return found
    for name in routed.aliases:
        found[Party("alias", name)] = len(routed.targets)
    found.update(Party("destination", domain_of(target.address)) for target in routed.targets)
    return found
