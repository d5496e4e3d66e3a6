"""What a stranger has to show: reverse DNS, and a name in HELO (`require_reverse`, `require_helo` of `[clients]`).

Both are off by default. Each finds hosts that nobody has set up as mail servers.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from relay.authenticate.iprev import Iprev
from relay.config.sections import ClientsSection
from relay.dns import DnsFailure, Resolver
from relay.mail.address import DOMAIN, DOMAIN_OCTETS, normal_domain
from relay.mail.envelope import Client
from relay.mail.reply import Refused
from relay.network import literal_ip

_SHOWN = 100  # octets of a name in a reply


@dataclass(frozen=True, slots=True)
class ClientRequirements:
    """The requirements of one worker."""

    _clients: ClientsSection
    _resolver: Resolver

    async def check(self, client: Client, reverse: Callable[[], Awaitable[Iprev | None]]) -> None:
        """Refuse a client that does not show what is required.

        Args:
            reverse: looks for the name of the client's address; None where a proxy does not name the address.

        Raises:
            Refused: 550 5.7.25 and 450 4.7.25 for the reverse DNS (RFC 7372 section 3.3); 504 5.5.2, 550 5.7.1 and
                450 4.7.1 for HELO.
        """
        if self._clients.require_helo != "none":
            _refuse_helo(client)
        if self._clients.require_reverse != "none":
            found = await reverse()
            if found is not None:
                _refuse_reverse(client.ip, found, confirmed=self._clients.require_reverse == "confirmed")
        if self._clients.require_helo == "resolves" and not literal_ip(client.helo):
            await self._refuse_unknown(normal_domain(client.helo))

    async def _refuse_unknown(self, name: str) -> None:
        """Refuse a name without an address and without an MX. DNS has the last word only where all of it answers."""
        answers = await asyncio.gather(*(self._records(name, rdtype) for rdtype in ("A", "AAAA", "MX")))
        if any(answers):
            return
        if None in answers:
            raise Refused(450, "4.7.1", f"HELO name {name[:_SHOWN]}: DNS does not answer, try again later")
        raise Refused(550, "5.7.1", f"HELO name {name[:_SHOWN]} has neither an address nor an MX in DNS")

    async def _records(self, name: str, rdtype: str) -> bool | None:
        """Whether there are records; None where DNS does not answer."""
        try:
            return bool((await self._resolver.query(name, rdtype)).records)
        except DnsFailure:
            return None


def _refuse_helo(client: Client) -> None:
    """Refuse a name that is no full domain name, and no literal of the client's address. Raises Refused 504 5.5.2."""
    literal = literal_ip(client.helo)
    if literal:
        if literal == client.ip or not client.known:
            return
        raise Refused(504, "5.5.2", f"HELO {client.helo[:_SHOWN]} is not your address [{client.ip}]")
    name = normal_domain(client.helo)
    last = name.rpartition(".")[2]
    if "." not in name or last.isdigit() or len(name) > DOMAIN_OCTETS or not DOMAIN.match(name):
        raise Refused(504, "5.5.2", f"HELO {client.helo[:_SHOWN]}: a full domain name is required")


def _refuse_reverse(ip: str, found: Iprev, *, confirmed: bool) -> None:
    """Refuse an address without a name, or without a confirmed one. Raises Refused 550 5.7.25, 450 4.7.25."""
    if found.result == "pass":
        return
    if not confirmed and (found.result == "fail" or found.unconfirmed):
        return
    if found.result == "temperror":
        raise Refused(450, "4.7.25", f"the reverse DNS of [{ip}] does not answer, try again later")
    if found.result == "permerror":
        raise Refused(550, "5.7.25", f"[{ip}] has no name in reverse DNS (PTR), which is required here")
    raise Refused(550, "5.7.25", f"no name in the reverse DNS of [{ip}] leads back to it, which is required here")
