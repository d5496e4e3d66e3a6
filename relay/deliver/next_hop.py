"""Decides where a delivery goes: to the next hop of its route, to the smarthost, or to the MX of its domain."""

from __future__ import annotations

from dataclasses import dataclass, field

from relay.config.model import Config
from relay.deliver.client_tls import Level
from relay.mail.address import domain_of
from relay.network import Endpoint
from relay.queue.change import own_hop


@dataclass(frozen=True, slots=True)
class NextHop:
    """Where deliveries go; those with the same next hop share connections.

    Attributes:
        domain: the domain whose MX it is; empty for a configured endpoint.
        user, password: for AUTH; empty without credentials.
        null_sender: what stands in MAIL FROM in the place of the null sender, for a smarthost that refuses that.
    """

    domain: str = ""
    endpoint: Endpoint | None = None
    tls: Level = "may"
    user: str = ""
    password: str = field(default="", repr=False)
    null_sender: str = ""

    @property
    def key(self) -> str:
        """The name under which the queue and the log know it, see `Delivery.hop`."""
        return self.domain if self.endpoint is None else str(self.endpoint)


class NextHops:
    """The next hops by the configuration.

    Args:
        password: for the smarthost, where it wants one.
    """

    def __init__(self, config: Config, password: str = "") -> None:
        self._config = config
        self._tls = config.delivery.tls
        self._smarthost: NextHop | None = None
        if (smarthost := config.delivery.smarthost) is not None:
            self._smarthost = NextHop(
                endpoint=smarthost.url,
                tls=smarthost.tls_level,
                user=smarthost.user,
                password=password,
                null_sender=smarthost.null_sender,
            )

    def of(self, recipient: str) -> NextHop:
        """Where mail for a recipient goes now."""
        domain = domain_of(recipient)
        return self._configured(domain) or NextHop(domain=domain, tls=self._tls)

    def at(self, endpoint: Endpoint) -> NextHop:
        """A configured host."""
        return NextHop(endpoint=endpoint, tls=self._tls)

    def key(self, recipient: str, *, own: bool = False) -> str:
        """The key by which deliveries share a concurrency limit, see `Delivery.hop`; an own message has another."""
        domain = domain_of(recipient)
        configured = self._configured(domain)
        key = domain if configured is None else configured.key
        return own_hop(key) if own else key

    def _configured(self, domain: str) -> NextHop | None:
        """The next hop of the route, or the smarthost; None for mail that goes to the MX of its domain."""
        endpoint = self._config.next_hop(domain)
        return self._smarthost if endpoint is None else self.at(endpoint)
