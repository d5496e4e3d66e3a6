"""How the values of the configuration are written: durations, sizes, names, networks, addresses, files.

Each type reads the value of the file or of the environment. It refuses a wrong one with a sentence that says what is
expected.
"""

from __future__ import annotations

import ipaddress
import math
import os
import re
from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta
from ipaddress import IPv4Address
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

from pydantic import AfterValidator, BeforeValidator, Field, TypeAdapter, ValidationError, ValidationInfo

from relay.mail.address import DOMAIN, normal_domain
from relay.network import UNIX_PATH_OCTETS, Endpoint, IPNetwork, endpoint, host_port, literal_ip, network

_UNITS = {"ms": 0.001, "s": 1, "m": 60, "min": 60, "h": 3600, "d": 86400, "w": 604800}
_BOOLEAN = TypeAdapter(bool)
_MOST_PER_MINUTE = 10**12
_SIZES = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30}


def duration(value: object) -> float:
    """Seconds from `"5s"`, `"90m"`, `"4h"`, `"5d"` (also `ms`, `w`).

    Raises:
        ValueError: anything else, a bare number included: its unit would be a guess.
    """
    if isinstance(value, timedelta):
        return value.total_seconds()
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([a-z]+)\s*", str(value)) if isinstance(value, str) else None
    if match is None or match.group(2) not in _UNITS:
        raise ValueError('a duration is written with its unit, like "30s", "5m", "4h" or "5d"')
    return float(match.group(1)) * _UNITS[match.group(2)]


def size(value: object) -> int:
    """Octets from `"25MB"` (10⁶), `"64KiB"` (2¹⁰) or a bare number of octets.

    Raises:
        ValueError: anything else.
    """
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([A-Za-z]*)\s*", str(value)) if isinstance(value, str | int) else None
    if match is None or isinstance(value, bool) or match.group(2).upper() not in _SIZES:
        raise ValueError('a size is written like "25MB", "512MiB" or as a number of octets')
    return int(float(match.group(1)) * _SIZES[match.group(2).upper()])


class PerMinute(NamedTuple):
    """How much is allowed within a minute; None for no limit."""

    messages: int | None = None
    recipients: int | None = None
    octets: int | None = None


def per_minute(value: object) -> PerMinute:
    """Limits from a table like `{ messages = 60, recipients = 200, octets = "100MB" }`, of which one may do.

    Raises:
        ValueError: anything else.
    """
    if not isinstance(value, Mapping) or not value or not set(value) <= set(PerMinute._fields):
        raise ValueError('limits are written like { messages = 60, recipients = 200, octets = "100MB" }')
    limits = dict[str, int]()
    for name, number in value.items():
        if name == "octets":
            number = size(number)
        elif isinstance(number, str) and number.isascii() and number.isdigit():  # from the environment
            number = int(number)
        if not isinstance(number, int) or isinstance(number, bool) or not 1 <= number <= _MOST_PER_MINUTE:
            raise ValueError(f"{name} is a whole number from 1 to {_MOST_PER_MINUTE}")
        limits[name] = number
    return PerMinute(**limits)


class AnswerRange(NamedTuple):
    """Answers of a DNS list: the first three octets with a dot behind each, and the bounds of the last octet."""

    start: str
    first: int
    last: int

    def has(self, answer: str) -> bool:
        """Whether an IPv4 address is one of them."""
        start, _, octet = answer.rpartition(".")
        return f"{start}." == self.start and self.first <= int(octet) <= self.last


def list_answers(value: object) -> AnswerRange:
    """Answers of a DNS list from an IPv4 address, or a range of its last octet: `"127.0.0.2-11"`.

    Raises:
        ValueError: neither, or no answer that means a listing.
    """
    if isinstance(value, AnswerRange):
        return value
    match = re.fullmatch(r"((?:\d{1,3}\.){3})(\d{1,3})(?:-(\d{1,3}))?", str(value).strip(), re.ASCII)
    form = 'an answer is written like "127.0.0.2", or "127.0.0.2-11" for a range of its last octet'
    if match is None:
        raise ValueError(form)
    try:
        octets = IPv4Address(match[1] + match[2]).packed
        last = IPv4Address(match[1] + (match[3] or match[2])).packed[3]
    except ValueError:
        raise ValueError(form) from None
    if last < octets[3]:
        raise ValueError(f"{value}: the range ends before it begins")
    if octets[0] != 127:
        raise ValueError(f"{value}: a DNS list answers with addresses that begin with 127 (RFC 5782 section 2.1)")
    if octets[:3] == b"\x7f\xff\xff":
        raise ValueError(f"{value}: with 127.255.255.x a list refuses to answer, which is no listing")
    return AnswerRange(match[1], octets[3], last)


def point_in_time(value: object) -> datetime:
    """A point in time, in UTC, from a date (its first moment) or a date with a time; one without an offset is in UTC.

    Raises:
        ValueError: neither, nor the text of one (RFC 3339).
    """
    try:
        parsed = datetime.fromisoformat(value) if isinstance(value, str) else value
    except ValueError:
        parsed = None
    if isinstance(parsed, datetime):
        try:
            return parsed.astimezone(UTC) if parsed.tzinfo else parsed.replace(tzinfo=UTC)
        except OverflowError:
            raise ValueError("a year between 1 and 9999, in UTC") from None
    if isinstance(parsed, date):
        return datetime(parsed.year, parsed.month, parsed.day, tzinfo=UTC)
    raise ValueError("a moment is written like 2026-07-01 or 2026-07-01T12:00:00Z")


def domain_name(value: str) -> str:
    """A domain name in its normal form. Raises ValueError: it is none."""
    value = normal_domain(value)
    if not value.isascii() or not DOMAIN.match(value):
        raise ValueError(f"{value!r} is not a domain name")
    return value


def host_name(value: str) -> str:
    """The name of this host in DNS, in normal form.

    Raises:
        ValueError: it is no domain name, or one that other hosts cannot look up: `localhost`, one without a dot.
    """
    try:
        name = domain_name(value)
    except ValueError:
        name = ""
    last = name.rpartition(".")[2]
    if "." not in name or last in ("localhost", "localdomain") or last.isdigit():
        raise ValueError(f'{value!r} is not a full name that other hosts can look up, like "mx.fwd.example"')
    return name


def domain_pattern(value: str) -> str:
    """A domain name, `*.` and a domain name for all below it, or `*` for every domain. Raises ValueError."""
    if value == "*":
        return value
    return ("*." if value.startswith("*.") else "") + domain_name(value.removeprefix("*."))


def destination(value: str) -> str:
    """Domains that mail goes to: a name or an address literal, `.` and a name for all below it, or `mx:` with a host or
    `*.` and a name.

    Raises:
        ValueError: none of these.
    """
    if value[:3].lower() == "mx:":
        host = value[3:].strip()
        if host == "*":
            raise ValueError('"mx:*" would be everything: set the key in [delivery]')
        return "mx:" + domain_pattern(host)
    if value.startswith("*."):
        raise ValueError(f'all domains below {value[2:]} are written ".{value[2:]}"')
    if ip := literal_ip(value):
        return f"[IPv6:{ip}]" if ":" in ip else f"[{ip}]"
    return ("." if value.startswith(".") else "") + domain_name(value.removeprefix("."))


def authserv_id(value: str) -> str:
    """An authserv-id (RFC 8601 section 2.2), in normal form if it is a domain.

    Raises:
        ValueError: white space, or anything that ends a name there.
    """
    if re.search(r'[\s;()"]', value.strip()) or not value.strip():
        raise ValueError(f"{value!r} is no authserv-id: a name like a host has, without spaces")
    return normal_domain(value.strip())


def host_pattern(value: object) -> IPNetwork | str:
    """Hosts by address or network, or by name: `"mx.lists.example"`, and `".lists.example"` for all below it.

    Raises:
        ValueError: neither.
    """
    text = str(value)
    if re.fullmatch(r"[0-9a-fA-F:./]+", text) and (":" in text or text.replace(".", "").replace("/", "").isdigit()):
        return network(value)
    return ("." if text.startswith(".") else "") + domain_name(text.removeprefix("."))


def resolve_path(value: Path, info: ValidationInfo) -> Path:
    """The path; a relative one starts at the folder of the configuration (`base` in the validation's context)."""
    base = (info.context or {}).get("base", Path())
    return value if value.is_absolute() else Path(base, value)


def socket_address(value: str) -> str:
    """An address with a port, like `127.0.0.1:25` or `[::1]:25`. Raises ValueError: anything else."""
    host_port(value)
    return value


def access_mode(value: object) -> str:
    """The access mode of a file in octal digits, like `"0660"`. Raises ValueError: anything else, also a number."""
    if not isinstance(value, str) or not re.fullmatch(r"0?[0-7]{3}", value):
        raise ValueError('an access mode is written in octal digits between quotes, like "0660"')
    return value


def table_address(value: str, info: ValidationInfo) -> str:
    """An address with a port, or `unix:` and the path of a socket, which is resolved as `resolve_path` does.

    Raises:
        ValueError: neither, or a path that is longer than the kernel takes (unix(7)).
    """
    if not value.startswith("unix:"):
        return socket_address(value)
    if value in ("unix:", "unix:/"):
        raise ValueError('a Unix socket is written "unix:/path/of/the/socket"')
    path = resolve_path(Path(value.removeprefix("unix:")), info).absolute()
    if len(os.fsencode(path)) > UNIX_PATH_OCTETS:
        raise ValueError(f"{path}: the path of a Unix socket has at most {UNIX_PATH_OCTETS} octets")
    return f"unix:{path}"


class Service(NamedTuple):
    """Where a program listens that the relay asks.

    Attributes:
        host, port: a name or an address, without brackets; empty and 0 for a Unix socket.
        path: of the Unix socket; empty for a host.
    """

    host: str
    port: int
    path: str = ""

    def __str__(self) -> str:
        return self.path or f"{f'[{self.host}]' if ':' in self.host else self.host}:{self.port}"


def rspamd_address(value: object, info: ValidationInfo) -> Service:
    """Where rspamd listens: `http://host:port`, or the path of a Unix socket. Raises ValueError: anything else."""
    text = str(value)
    if text.startswith("/"):
        return _socket(text, info)
    host = text.removeprefix("http://").removesuffix("/")
    if host == text or "/" in host:
        raise ValueError(f'{text!r}: write "http://127.0.0.1:11333" or the path of a Unix socket')
    return _service(host, "http://127.0.0.1:11333")


def clamd_address(value: object, info: ValidationInfo) -> Service:
    """Where clamd listens: the path of a Unix socket, or `host:port`. Raises ValueError: anything else."""
    text = str(value)
    return _socket(text, info) if "/" in text else _service(text, "/run/clamav/clamd.ctl or 127.0.0.1:3310")


def _socket(text: str, info: ValidationInfo) -> Service:
    path = resolve_path(Path(text), info).absolute()
    if len(os.fsencode(path)) > UNIX_PATH_OCTETS or "\0" in text:
        raise ValueError(f"{path}: the path of a Unix socket has at most {UNIX_PATH_OCTETS} octets")
    return Service("", 0, str(path))


def _service(text: str, example: str) -> Service:
    host, _, port = text.rpartition(":")
    try:
        if not re.fullmatch("[0-9]{1,5}", port) or not 0 < int(port) <= 65535:
            raise ValueError
        if host[:1] + host[-1:] == "[]":
            return Service(str(ipaddress.IPv6Address(host[1:-1])), int(port))
        return Service(domain_name(host), int(port))
    except ValueError:
        raise ValueError(f"{text!r} has no host and port: it is written like {example}") from None


def score(value: object) -> float:
    """A score of rspamd: a number, negative ones too. Raises ValueError: anything else."""
    try:
        number = float(value) if isinstance(value, int | float | str) and not isinstance(value, bool) else math.nan
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise ValueError("a score is a number, like 6 or 7.5")
    return number


def endpoint_or_mx(value: object) -> object:
    """The URL of a next hop, or `mx`. Raises ValueError: anything else."""
    try:
        return value if value == "mx" else endpoint(value)
    except ValueError as error:
        raise ValueError(f'{error}, or "mx"') from None


def sealing(value: object) -> object:
    """True, false (in the environment a text, as any of them) or `useful`. Raises ValueError: anything else."""
    try:
        return value if value == "useful" else _BOOLEAN.validate_python(value)
    except ValidationError:
        raise ValueError('must be true, false or "useful"') from None


Duration = Annotated[float, BeforeValidator(duration)]
Timeout = Annotated[Duration, Field(gt=0)]
Size = Annotated[int, BeforeValidator(size)]
Limits = Annotated[PerMinute, BeforeValidator(per_minute)]
ListAnswers = Annotated[AnswerRange, BeforeValidator(list_answers)]
PointInTime = Annotated[datetime, BeforeValidator(point_in_time)]
DomainName = Annotated[str, AfterValidator(domain_name)]
HostName = Annotated[str, AfterValidator(host_name)]
DomainPattern = Annotated[str, AfterValidator(domain_pattern)]
Destination = Annotated[str, AfterValidator(destination)]
Network = Annotated[IPNetwork, BeforeValidator(network)]
HostPattern = Annotated[IPNetwork | str, BeforeValidator(host_pattern)]
AuthservId = Annotated[str, AfterValidator(authserv_id)]
File = Annotated[Path, AfterValidator(resolve_path)]
NextHop = Annotated[Endpoint, BeforeValidator(endpoint)]
NextHopOrMx = Annotated[Endpoint | Literal["mx"], BeforeValidator(endpoint_or_mx)]
SocketAddress = Annotated[str, AfterValidator(socket_address)]
AccessMode = Annotated[str, BeforeValidator(access_mode)]
RspamdAddress = Annotated[Service, BeforeValidator(rspamd_address)]
ClamdAddress = Annotated[Service, BeforeValidator(clamd_address)]
Score = Annotated[float, BeforeValidator(score)]
TableAddress = Annotated[str, AfterValidator(table_address)]

Action = Literal["reject", "defer", "tag"]
Unforwardable = Literal["rewrite-from", "reject", "pass"]
Sealing = Annotated[Literal[True, False, "useful"], BeforeValidator(sealing)]
DeliveryMode = Literal["queue", "in-session", "auto"]
