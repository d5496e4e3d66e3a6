"""The settings of a transport of Postfix that has a name of its own: options in master.cf, parameters in main.cf."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from dataclasses import dataclass, field

from relay.config.values import duration as seconds
from relay.importer.draft import Key, Origin
from relay.importer.hosts import full_name
from relay.importer.main_cf import MainCf, split_list
from relay.importer.postfix_tls import TlsLevel, tls_level
from relay.importer.postfix_values import duration, number

NETWORK = ("", "smtp", "relay", "lmtp", "smtps")  # transports that every Postfix has; their settings are those of all
_SOURCES = {"smtp_bind_address": ("source_ipv4", 4), "smtp_bind_address6": ("source_ipv6", 6)}
_NO_DIFFERENCE = ("syslog_name", "smtp_tls_wrappermode", "smtp_tls_loglevel", "smtp_sasl_auth_enable")
_FOR_EACH = "Postfix counts for each domain; here it is for all domains of this table together."


@dataclass(slots=True)
class TransportSettings:
    """What a transport has of its own.

    Attributes:
        keys: keys of `[[delivery.destinations]]`.
        problems: what has no counterpart, each with where it stands.
        wrapped: TLS begins with the first octet.
    """

    keys: dict[str, Key] = field(default_factory=dict)
    problems: list[tuple[Origin, str]] = field(default_factory=list)
    wrapped: bool = False


def transport_settings(main_cf: MainCf, name: str) -> TransportSettings:
    """Read them; nothing for a transport that every Postfix has, and for one of which master.cf is not known."""
    settings = TransportSettings(wrapped=main_cf.is_on("smtp_tls_wrappermode"))
    service = main_cf.service(name)
    if name in NETWORK or service is None:
        return settings
    origin = Origin(f"{name} in master.cf", service.where)
    if (limit := number(service.process_limit)) is not None and limit > 0:
        settings.keys["concurrency"] = Key(limit, str(origin))
    for option, value in service.options.items():
        _read(settings, option, main_cf.expand(value), Origin(f"-o {option} of {name}", service.where))
    for name_of_limit, limit_key in _limits(main_cf, name):
        old = settings.keys.get(name_of_limit)
        if old is None or int(str(limit_key.value)) < int(str(old.value)):
            settings.keys[name_of_limit] = limit_key
    return settings


def _read(settings: TransportSettings, option: str, value: str, origin: Origin) -> None:
    """Take over one option of master.cf."""
    if option in _SOURCES:
        key, version = _SOURCES[option]
        try:
            ip = ipaddress.ip_address(value.strip("[]"))
        except ValueError:
            ip = None
        if ip is None or ip.version != version:
            settings.problems.append((origin, f"{value} is no IPv{version} address."))
        else:
            settings.keys[key] = Key(str(ip), str(origin))
    elif option in ("smtp_helo_name", "myhostname"):
        name = full_name(value)
        if not name:
            settings.problems.append((origin, f"{value} is no full host name, so EHLO says the host name."))
        elif option == "smtp_helo_name" or "helo" not in settings.keys:
            settings.keys["helo"] = Key(name, str(origin))
    elif option == "inet_protocols":
        families = tuple(word for word in ("ipv6", "ipv4") if word in split_list(value.lower()))
        if len(families) == 1:
            settings.keys["families"] = Key(families, str(origin))
    elif option == "smtp_address_preference":
        if value.lower() == "ipv4":
            settings.keys.setdefault("families", Key(("ipv4", "ipv6"), str(origin)))
    elif option == "smtp_tls_security_level":
        _set_level(settings, tls_level(value), origin)
    elif option not in _NO_DIFFERENCE:
        settings.problems.append((origin, "the import does not read this option. See postconf(5) what it does."))
    if option == "smtp_tls_wrappermode":
        settings.wrapped = value.lower() == "yes"


def _set_level(settings: TransportSettings, level: TlsLevel, origin: Origin) -> None:
    if level.level:
        settings.keys["tls"] = Key(level.level, str(origin))
    if level.problem:
        settings.problems.append((origin, level.problem))


def _limits(main_cf: MainCf, name: str) -> Iterator[tuple[str, Key]]:
    """The limits of a transport in main.cf."""
    parameter = f"{name}_destination_concurrency_limit"
    if (limit := number(main_cf.get(parameter))) is not None and limit > 0:
        yield "concurrency", Key(limit, str(main_cf.origin(parameter)), _FOR_EACH)
    parameter = f"{name}_destination_rate_delay"
    if (delay := duration(main_cf.get(parameter), "s")) is not None:
        yield "rate", Key(max(1, int(60 / seconds(delay))), str(main_cf.origin(parameter)), _FOR_EACH)
        # A delay after each message also means one message at a time.
        yield "concurrency", Key(1, str(main_cf.origin(parameter)))
