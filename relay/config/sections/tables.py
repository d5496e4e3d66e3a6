"""The table about lookup tables for Postfix."""

from __future__ import annotations

import ipaddress
from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from relay.config.sections.base import OwnNetworks, Section
from relay.config.values import AccessMode, TableAddress
from relay.network import host_port, within
from relay.sending_addresses import is_private

UNIX = "unix:"


class TablesSection(Section):
    """A lookup table for Postfix, as PostSRSd is one: `forward` answers a sender with its SRS address, `reverse`
    answers an SRS or reply address with who is behind it. Each address has a table of its own. A configuration without
    `[[listen]]` may have tables alone: then no mail comes in, there is no queue, and senders that are too long for an
    SRS address stay as they are. See docs/moving-from-postfix.md."""

    address: TableAddress = Field(examples=["127.0.0.1:10003", "unix:/var/spool/postfix/srs-relay/tables"])
    """The address and port to listen on, or `unix:` and the path of a socket. Whoever can connect can make addresses
    that this host forwards mail to. So an address that other hosts can reach needs `clients`, unless it is private:
    then the log warns at the start."""

    protocol: Literal["socketmap", "tcp"] = "socketmap"
    """The protocol: "socketmap" (socketmap_table(5)) has both maps on one address; "tcp" (tcp_table(5)), which PostSRSd
    1.x speaks on the ports 10001 and 10002, has the one that `direction` names."""

    direction: Literal["forward", "reverse"] | None = Field(None, examples=["forward"])
    """Which map a table with the protocol "tcp" is: "forward" for `sender_canonical_maps`, "reverse" for
    `recipient_canonical_maps`. A "socketmap" with this key has this map only. Default: both maps of a socketmap."""

    clients: OwnNetworks = Field((), examples=[["172.18.0.0/16"]])
    """The addresses and networks that may connect to a port, besides this host by loopback. Default: for a private
    address every private one, otherwise none."""

    mode: AccessMode = "0660"
    """The access mode of a Unix socket, in octal digits. Who may write to it may connect."""

    group: str = Field("", examples=["postfix"])
    """The group of a Unix socket, by name. The user that the relay runs as has to be a member. Default: the group that
    the relay runs as."""

    @model_validator(mode="after")
    def _consistent(self) -> TablesSection:
        if self.protocol == "tcp" and self.direction is None:
            raise ValueError('protocol = "tcp" needs direction: "forward" or "reverse"')
        if not self.clients and self.is_open:
            raise ValueError(
                f"{self.address}: any host that reaches this address could make addresses that mail is forwarded to; "
                'listen on 127.0.0.1 or unix:PATH, or name in clients who may connect, like clients = ["192.0.2.10"]'
            )
        return self

    @property
    def path(self) -> Path | None:
        """The path of a Unix socket; None for a port."""
        return Path(self.address.removeprefix(UNIX)) if self.address.startswith(UNIX) else None

    @property
    def is_open(self) -> bool:
        """Whether the address may be reached from networks that are not private."""
        ip = self._ip
        return ip is not None and (ip.is_unspecified or not is_private(ip))

    @property
    def is_shared(self) -> bool:
        """Whether other hosts may reach the address, and nothing says which of them may connect."""
        ip = self._ip
        return ip is not None and not ip.is_loopback and not self.clients

    @property
    def _ip(self) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
        return None if self.path is not None else ipaddress.ip_address(host_port(self.address)[0])

    def admits(self, ip: str) -> bool:
        """Whether a client may connect to the port."""
        address = ipaddress.ip_address(ip)
        return address.is_loopback or (within(ip, self.clients) if self.clients else is_private(address))
