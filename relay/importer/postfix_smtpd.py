"""The ports where Postfix takes mail: smtpd in master.cf, each with TLS and logins as its options and main.cf say."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from relay.importer.draft import Origin
from relay.importer.main_cf import MainCf, Service

Login = Literal["none", "offered", "required"]
MX_PORT = 25
_PORTS = {"smtp": MX_PORT, "submission": 587, "submissions": 465, "smtps": 465}  # not every host has the last two names
_SUBMISSION_PORTS = (465, 587)
_STEPS = ("client", "helo", "sender", "relay", "recipient")


@dataclass(frozen=True, slots=True)
class Smtpd:
    """A port.

    Attributes:
        host: where it listens, as master.cf writes it; empty for `inet_interfaces`.
        main_cf: the parameters as they hold on this port.
        service: its service in master.cf; None where that is not known.
    """

    port: int
    host: str
    main_cf: MainCf
    service: Service | None = None

    @property
    def origin(self) -> Origin:
        """Where master.cf has it, or where main.cf says what addresses Postfix has."""
        if self.service is None:
            return self.main_cf.origin("inet_interfaces")
        return Origin(self.service.name, self.service.where)

    @property
    def login(self) -> Login:
        """Whether clients can, or have to, log in."""
        if not self.main_cf.is_on("smtpd_sasl_auth_enable"):
            return "none"
        return "required" if any(map(self._is_for_users_only, _STEPS)) else "offered"

    def _is_for_users_only(self, step: str) -> bool:
        """Whether the restrictions of a step refuse everybody who has not logged in, our own networks, too."""
        words = self.main_cf.get(f"smtpd_{step}_restrictions").lower().replace(",", " ").split()
        if "reject" not in words:
            return False
        permits = [word for word in words[: words.index("reject")] if word.startswith("permit")]
        return permits == ["permit_sasl_authenticated"]

    @property
    def tls(self) -> Literal["none", "may", "require", "implicit"]:
        """TLS on this port. A level that is not set counts as `may`: there is no reason to offer none."""
        if self.main_cf.is_on("smtpd_tls_wrappermode"):
            return "implicit"
        level = self.main_cf.get("smtpd_tls_security_level").lower()
        if level == "encrypt" or (not level and self.main_cf.is_on("smtpd_enforce_tls")):
            return "require"
        return "none" if level == "none" else "may"

    @property
    def tls_origin(self) -> Origin:
        """The parameter that `tls` is from."""
        names = ("smtpd_tls_security_level", "smtpd_enforce_tls")
        found = "smtpd_tls_wrappermode" if self.tls == "implicit" else next(filter(self.main_cf.get, names), names[0])
        return self.main_cf.origin(found)


def ports(main_cf: MainCf) -> tuple[list[Smtpd], list[Service]]:
    """The ports where the world brings mail, and where users do; and the services of smtpd on other ports.

    Where master.cf is not known, port 25 is all that there is.
    """
    found, others = list[Smtpd](), list[Service]()
    services = list(_services(main_cf))
    for service, view in services:
        host, _, name = service.name.rpartition(":")
        port = _port(name)
        smtpd = Smtpd(port, host, view, service)
        if port == MX_PORT or port in _SUBMISSION_PORTS or (port and smtpd.login != "none"):
            found.append(smtpd)
        else:
            others.append(service)
    if not services:
        found.append(Smtpd(MX_PORT, "", main_cf))
    return sorted(found, key=lambda smtpd: smtpd.port != MX_PORT), others


def _services(main_cf: MainCf) -> Iterator[tuple[Service, MainCf]]:
    """The services of smtpd with their parameters; behind postscreen smtpd has a service of its own."""
    behind = next((service for service in main_cf.services("pass") if service.program == "smtpd"), None)
    for service in main_cf.services("inet"):
        if service.program == "smtpd":
            yield service, main_cf.of_service(service)
        elif service.program == "postscreen":
            yield service, main_cf if behind is None else main_cf.of_service(behind)


def _port(name: str) -> int:
    """The number of a port; 0 if there is none of this name."""
    if name.isascii() and name.isdecimal():
        return int(name) if 0 < int(name) < 65536 else 0
    try:
        return _PORTS[name] if name in _PORTS else socket.getservbyname(name, "tcp")
    except OSError:
        return 0
