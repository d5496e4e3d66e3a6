"""Where the programs of the filter listen: their addresses, and what a connection may take until it is open."""

from __future__ import annotations

from relay.config.values import Service
from relay.content_filter.scanned import NoOpinion
from relay.dns import DnsFailure, Resolver

# Seconds; on this host or in the same network a connection is open within milliseconds, and a host that is off must not
# cost each session the whole of `filter.timeout`.
CONNECT_SECONDS = 3.0

_LOCALHOST = ("127.0.0.1", "::1")  # RFC 6761 section 6.3: never looked up in DNS


async def addresses(service: Service, resolver: Resolver) -> tuple[str, ...]:
    """The addresses of a service, those of IPv4 first; that of an address is itself.

    Raises:
        NoOpinion: DNS has none, or gives no answer.
    """
    host = service.host
    if host == "localhost":
        return _LOCALHOST
    if ":" in host or host.rpartition(".")[2].isdigit():
        return (host,)
    try:
        found = (*(await resolver.query(host, "A")).records, *(await resolver.query(host, "AAAA")).records)
    except DnsFailure as error:
        raise NoOpinion(f"{host} cannot be looked up: {error}") from None
    if not found:
        raise NoOpinion(f"{host} has no address")
    return found
