"""What the values of the configuration are written like: durations, sizes, names, networks, addresses, files.

Each type takes the text of the file or the environment, and refuses with a sentence what it cannot mean.
"""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field, ValidationInfo

from relay.mail.address import DOMAIN, normal_domain
from relay.network import Endpoint, IPNetwork, endpoint, host_port, network

_UNITS = {"ms": 0.001, "s": 1, "m": 60, "min": 60, "h": 3600, "d": 86400, "w": 604800}
_SIZES = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30}


def duration(value: object) -> float:
    """Seconds from `"5s"`, `"90m"`, `"4h"`, `"5d"` (also `ms`, `w`).

    Raises:
        ValueError: anything else, a bare number included: its unit would be a guess.
    """
    if isinstance(value, timedelta):
        return value.total_seconds()
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([a-z]+)\s*", str(value)) if isinstance(value, str) else None
    if found is None or found.group(2) not in _UNITS:
        raise ValueError('a duration is written with its unit, like "30s", "5m", "4h" or "5d"')
    return float(found.group(1)) * _UNITS[found.group(2)]


def size(value: object) -> int:
    """Octets from `"25MB"` (10⁶), `"64KiB"` (2¹⁰) or a bare number of octets.

    Raises:
        ValueError: anything else.
    """
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([A-Za-z]*)\s*", str(value)) if isinstance(value, str | int) else None
    if found is None or isinstance(value, bool) or found.group(2).upper() not in _SIZES:
        raise ValueError('a size is written like "25MB", "512MiB" or as a number of octets')
    return int(float(found.group(1)) * _SIZES[found.group(2).upper()])


def moment(value: object) -> datetime:
    """A point in time, in UTC, from a date (its first moment) or a date with a time; one without an offset is in UTC.

    Raises:
        ValueError: neither, nor the text of one (RFC 3339).
    """
    try:
        found = datetime.fromisoformat(value) if isinstance(value, str) else value
    except ValueError:
        found = None
    if isinstance(found, datetime):
        try:
            return found.astimezone(UTC) if found.tzinfo else found.replace(tzinfo=UTC)
        except OverflowError:
            raise ValueError("a year between 1 and 9999, in UTC") from None
    if isinstance(found, date):
        return datetime(found.year, found.month, found.day, tzinfo=UTC)
    raise ValueError("a moment is written like 2026-07-01 or 2026-07-01T12:00:00Z")


def _domain(value: str) -> str:
    value = normal_domain(value)
    if not value.isascii() or not DOMAIN.match(value):
        raise ValueError(f"{value!r} is not a domain name")
    return value


def _domain_pattern(value: str) -> str:
    if value == "*":
        return value
    return ("*." if value.startswith("*.") else "") + _domain(value.removeprefix("*."))


def authserv_id(value: str) -> str:
    """A name as Authentication-Results has it (RFC 8601 section 2.2); normal, where it is a domain.

    Raises:
        ValueError: white space, or anything that ends a name there.
    """
    if re.search(r'[\s;()"]', value.strip()) or not value.strip():
        raise ValueError(f"{value!r} is no authserv-id: a name like a host has, without spaces")
    return normal_domain(value.strip())


def host_pattern(value: object) -> IPNetwork | str:
    """Hosts by their address or network, or by name: `"mx.lists.example"`, and `".lists.example"` for all below it.

    Raises:
        ValueError: neither.
    """
    text = str(value)
    if re.fullmatch(r"[0-9a-fA-F:./]+", text) and (":" in text or text.replace(".", "").replace("/", "").isdigit()):
        return network(value)
    return ("." if text.startswith(".") else "") + _domain(text.removeprefix("."))


def resolved(value: Path, info: ValidationInfo) -> Path:
    """The path, a relative one against the folder of the configuration (`base` in the validation's context)."""
    base = (info.context or {}).get("base", Path())
    return value if value.is_absolute() else Path(base, value)


Duration = Annotated[float, BeforeValidator(duration)]
Timeout = Annotated[Duration, Field(gt=0)]
Size = Annotated[int, BeforeValidator(size)]
Moment = Annotated[datetime, BeforeValidator(moment)]
DomainName = Annotated[str, AfterValidator(_domain)]
DomainPattern = Annotated[str, AfterValidator(_domain_pattern)]  # "*.example.org" is all below it, "*" every domain
Network = Annotated[IPNetwork, BeforeValidator(network)]
HostPattern = Annotated[IPNetwork | str, BeforeValidator(host_pattern)]
AuthservId = Annotated[str, AfterValidator(authserv_id)]
File = Annotated[Path, AfterValidator(resolved)]
Action = Literal["reject", "defer", "tag"]
NextHop = Annotated[Endpoint, BeforeValidator(endpoint)]


def _socket_address(value: str) -> str:
    host_port(value)
    return value


SocketAddress = Annotated[str, AfterValidator(_socket_address)]
