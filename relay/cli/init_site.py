"""What `srs-relay init` writes a configuration from: its options, and what this host says of itself."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import typer

from relay.cli import init_options
from relay.cli.init_files import RELAYHOST_PORT, SMTP, Site, Use
from relay.mail.address import normal_domain

EXAMPLE = "fwd.example"  # the domain where this host's name has none (RFC 2606)
UNPRIVILEGED = 2525  # port
_NEXT_HOPS: dict[Use, str] = {"forwarding": "", "mailboxes": "lmtp://127.0.0.1:24", "relayhost": "smtp://127.0.0.1:25"}


def site(
    use: Use, domain: str | None, hostname: str | None, srs_domain: str | None, next_hop: str | None
) -> tuple[Site, bool]:
    """The names and ports of a site, and whether its domain is only an example, because this host's name has none.

    Raises:
        typer.BadParameter: an option is wrong.
    """
    host = init_options.host_name(hostname) if hostname else _own_name()
    is_example = not (domain or host)
    if domain:
        domain = init_options.full_name(domain, "--domain")
    elif host:
        domain = host.partition(".")[2] if host.count(".") > 1 else host
    else:
        domain = EXAMPLE
    if srs_domain:
        srs_domain = init_options.full_name(srs_domain, "--srs-domain")
    else:
        srs_domain = domain if use == "forwarding" else f"srs.{domain}"
    port = RELAYHOST_PORT if use == "relayhost" else SMTP if may_bind(SMTP) else UNPRIVILEGED
    made = Site(
        use,
        host or f"{'mail' if use == 'relayhost' else 'mx'}.{domain}",
        domain,
        srs_domain,
        next_hop=_next_hop(use, next_hop, port),
        port=port,
        has_ipv6=has_ipv6(),
    )
    return made, is_example


def _next_hop(use: Use, given: str | None, port: int) -> str:
    if given is None:
        return _NEXT_HOPS[use]
    if use == "forwarding":
        raise typer.BadParameter(
            "a forwarding host has none, its aliases say where mail goes; add --for mailboxes", param_hint="--next-hop"
        )
    next_hop = init_options.next_hop(given)
    if next_hop.port == port and next_hop.host in ("127.0.0.1", "::1", "localhost"):
        raise typer.BadParameter(f"{given} is this relay itself", param_hint="--next-hop")
    return str(next_hop)


def _own_name() -> str:
    """The host's full name; empty where it has none, or none for the public DNS."""
    name = normal_domain(socket.getfqdn())
    return name if init_options.is_public_name(name) else ""


def may_bind(port: int) -> bool:
    """Whether this user may listen on a port."""
    try:
        first_free = int(Path("/proc/sys/net/ipv4/ip_unprivileged_port_start").read_text())
    except (OSError, ValueError):
        first_free = 1024
    return os.geteuid() == 0 or port >= first_free


def has_ipv6() -> bool:
    """Whether this host can listen on IPv6."""
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_STREAM) as probe:
            probe.bind(("::", 0))
    except OSError:
        return False
    return True
