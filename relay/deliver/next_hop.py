"""Decides where a delivery goes: to a configured next hop, to a smarthost, or to the MX of its domain.

A route's own next hop comes first, then what `[[delivery.destinations]]` has for the domain, then `delivery.smarthost`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache

from relay.config.destinations import Destination
from relay.config.model import Config
from relay.deliver.client_tls import Level
from relay.mail.address import domain_of
from relay.network import Endpoint
from relay.queue.hop_keys import doubtful_hop, limited_hop, own_hop

REMEMBERED = 1000  # domains whose next hop is known without looking at the configuration
_LEVELS: tuple[Level, ...] = ("none", "may", "require", "verify")  # the strictest last


@dataclass(frozen=True, slots=True)
class NextHop:
    """Where deliveries go; those with the same next hop share connections.

    Attributes:
        domain: the domain whose MX it is; empty for a configured endpoint.
        user, password: for AUTH; empty without credentials.
        null_sender: what stands in MAIL FROM in the place of the null sender, for a smarthost that refuses that.
        destination: the table of `[[delivery.destinations]]` that names the domain of the recipient; None where there
            is none, although the MX hosts may still belong to one (`mx.HostFinder`).
        doubtful: whether it is for doubtful mail, which leaves by another address (`[delivery.doubtful]`).
    """

    domain: str = ""
    endpoint: Endpoint | None = None
    tls: Level = "may"
    user: str = ""
    password: str = field(default="", repr=False)
    null_sender: str = ""
    destination: Destination | None = None
    doubtful: bool = False

    @property
    def key(self) -> str:
        """The name under which the queue and the log know it, see `Delivery.hop`."""
        key = self.domain if self.endpoint is None else str(self.endpoint)
        return doubtful_hop(key) if self.doubtful else key


class NextHops:
    """The next hops by the configuration.

    Args:
        passwords: of the smarthosts that want one, by their tables (`DeliverySection.smarthost_tables`).
    """

    def __init__(self, config: Config, passwords: Mapping[str, str] | None = None) -> None:
        self._config = config
        self._tls = config.delivery.tls
        self._smarthosts = {
            table: NextHop(
                endpoint=smarthost.url,
                tls=smarthost.tls_level,
                user=smarthost.user,
                password=(passwords or {}).get(table, ""),
                null_sender=smarthost.null_sender,
            )
            for table, smarthost in config.delivery.smarthost_tables.items()
        }
        self._remembered = lru_cache(REMEMBERED)(self._of)

    def of(self, recipient: str, *, doubtful: bool = False) -> NextHop:
        """Where mail for a recipient goes now."""
        return self._remembered(domain_of(recipient), doubtful)

    def _of(self, domain: str, doubtful: bool) -> NextHop:
        next_hop = self._of_domain(domain)
        return replace(next_hop, doubtful=True) if doubtful else next_hop

    def _of_domain(self, domain: str) -> NextHop:
        destination = self._config.destinations.of(domain)
        if (endpoint := self._config.next_hop(domain)) is not None:
            return self._at(endpoint, destination)
        if table := self._config.smarthost(domain):
            return _by_smarthost(self._smarthosts[table], destination)
        return NextHop(domain=domain, tls=self._level(destination), destination=destination)

    def at(self, endpoint: Endpoint, recipient: str) -> NextHop:
        """A configured host that is to be asked about a recipient."""
        return self._at(endpoint, self._config.destinations.of(domain_of(recipient)))

    def key(self, recipient: str, *, own: bool = False, doubtful: bool = False) -> str:
        """The key of the next hop of a recipient (`queue.hop_keys`); `own` for an own message, which is not
        doubtful."""
        next_hop = self.of(recipient, doubtful=doubtful and not own)
        key = next_hop.key
        destination = self._config.destinations.for_mail(next_hop.destination, doubtful=next_hop.doubtful)
        if next_hop.endpoint is not None and destination is not None and destination.is_limited:
            key = limited_hop(key, destination.name)
        return own_hop(key) if own else key

    def _at(self, endpoint: Endpoint, destination: Destination | None) -> NextHop:
        # What goes through a Unix socket does not leave this host: every level of TLS counts as satisfied.
        level = "none" if endpoint.path else self._level(destination)
        return NextHop(endpoint=endpoint, tls=level, destination=destination)

    def _level(self, destination: Destination | None) -> Level:
        return self._tls if destination is None or destination.tls is None else destination.tls


def _by_smarthost(smarthost: NextHop, destination: Destination | None) -> NextHop:
    """A smarthost for mail of a destination, which can ask for more TLS than the smarthost's own table, but not for
    less: its credentials go there."""
    if destination is None:
        return smarthost
    level = max(smarthost.tls, destination.tls or "none", key=_LEVELS.index)
    return replace(smarthost, tls=level, destination=destination)
