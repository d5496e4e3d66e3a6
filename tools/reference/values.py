"""What a type is called in plain words, and how a value is written in TOML."""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Iterable
from datetime import date, datetime
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from annotated_types import Ge, Gt, Le
from pydantic import AfterValidator, BeforeValidator
from pydantic.fields import FieldInfo

from relay import network
from relay.config import table_sources, values
from relay.config.sections.routes import recipients_of_domain

# The names of types, one and many of it, by the function that reads a value.
_READ_BY = {
    values.duration: ("duration", "durations"),
    values.size: ("size", "sizes"),
    values.per_minute: ("table of numbers a minute", "tables of numbers a minute"),
    values.list_answers: (
        "IPv4 address, or a range of its last octet",
        "IPv4 addresses, or ranges of their last octet",
    ),
    values.point_in_time: ("date, or date with a time", "dates"),
    values.domain_name: ("domain name", "domain names"),
    values.domain_pattern: ('domain name, "*.domain" or "*"', 'domain names, "*.domain" or "*"'),
    values.host_pattern: ("address, network or host name", "addresses, networks and host names"),
    values.authserv_id: ("name", "names"),
    values.resolve_path: ("path", "paths"),
    values.socket_address: ("address with a port", "addresses with ports"),
    values.table_address: ("address with a port, or unix:PATH", "addresses with ports, or unix:PATH"),
    values.rspamd_address: ("URL, or path", "URLs, or paths"),
    values.clamd_address: ("path, or host:port", "paths, or hosts and ports"),
    values.score: ("number", "numbers"),
    table_sources.table_sources: ("path, other table, or array of them", "paths, or other tables"),
    recipients_of_domain: ('"callout", "any", path, other table, or array of them', "tables"),
    network.network: ("address or network", "addresses and networks"),
    network.endpoint: ("URL of a host", "URLs of hosts"),
    values.endpoint_or_mx: ('URL of a host, or "mx"', 'URLs of hosts, or "mx"'),
}
_TYPES = {
    bool: ("true or false", "true or false"),
    int: ("whole number", "whole numbers"),
    str: ("text", "text"),
    ipaddress.IPv4Address: ("IPv4 address", "IPv4 addresses"),
    ipaddress.IPv6Address: ("IPv6 address", "IPv6 addresses"),
}


def type_in_words(annotation: Any, many: bool = False) -> str:
    """What a value of this type is, with its bounds.

    Raises:
        ValueError: the type has no name here yet.
    """
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        reader = _reader(annotation)
        name = _READ_BY[reader][many] if reader in _READ_BY else type_in_words(arguments[0], many)
        return name + _bounds(_constraints(annotation), is_duration=reader is values.duration)
    if origin in (Union, UnionType):
        [kind] = [kind for kind in arguments if kind is not NoneType and kind != Literal[""]]
        return type_in_words(kind, many)
    if origin is Literal:
        return in_words([json.dumps(choice) for choice in arguments])
    if origin is tuple:
        return "array of " + type_in_words(arguments[0], many=True)
    if annotation not in _TYPES:
        raise ValueError(f"{annotation} has no name in words: add one to tools/reference/values.py")
    return _TYPES[annotation][many]


def in_words(choices: list[str]) -> str:
    """The choices as a phrase: `a, b or c`."""
    return " or ".join(filter(None, (", ".join(choices[:-1]), choices[-1])))


def toml(value: object, annotation: Any) -> str:
    """A value as it is written in TOML; empty for one that means nothing, like None or an empty array."""
    reader = _reader(annotation)
    if value is None or value in ((), {}, ""):
        return ""
    if isinstance(value, float) and reader is values.duration:
        return f'"{_duration(value)}"'
    if isinstance(value, int) and reader is values.size:
        return f'"{_size(value)}"'
    if isinstance(value, tuple | list):
        return f"[{', '.join(toml(item, Any) for item in value)}]"
    if isinstance(value, dict):
        return f"{{ {', '.join(f'{name} = {toml(item, Any)}' for name, item in value.items())} }}"
    if isinstance(value, bool | int | float):
        return json.dumps(value)
    if isinstance(value, datetime):
        return value.isoformat().replace("+00:00", "Z")
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, str | Path | ipaddress.IPv4Network | ipaddress.IPv6Network):
        return json.dumps(str(value), ensure_ascii=False)
    raise ValueError(f"{value!r} cannot be written in TOML yet: see tools/reference/values.py")


def _reader(annotation: Any) -> Any:
    """The function that reads values of this type, if there is one."""
    for argument in get_args(annotation):
        if isinstance(argument, AfterValidator | BeforeValidator) and argument.func in _READ_BY:
            return argument.func
    if get_origin(annotation) in (Union, UnionType, Annotated):
        return next((reader for kind in get_args(annotation) if (reader := _reader(kind))), None)
    return None


def _constraints(annotation: Any) -> Iterable[object]:
    for argument in get_args(annotation)[1:]:
        yield from argument.metadata if isinstance(argument, FieldInfo) else (argument,)


def _bounds(constraints: Iterable[object], is_duration: bool) -> str:
    least: Any = None
    most: Any = None
    for constraint in constraints:
        match constraint:
            case Ge(ge=bound):
                least = bound
            case Le(le=bound):
                most = bound
            case Gt(gt=0) if is_duration:
                return " longer than 0"
    if most is not None and is_duration:
        return f', at most "{_duration(most)}"'
    if most is not None:
        return f" from {least} to {most}"
    return "" if least is None else f", at least {least}"


def _duration(seconds: float) -> str:
    for unit, length in (("d", 86400), ("h", 3600), ("m", 60), ("s", 1)):
        if seconds >= length and seconds % length == 0:
            return f"{seconds / length:.0f}{unit}"
    if not seconds:
        return "0s"
    return f"{seconds * 1000:.0f}ms"


def _size(octets: int) -> str:
    for unit, length in (("GB", 10**9), ("MB", 10**6), ("MiB", 2**20), ("KB", 10**3), ("KiB", 2**10)):
        if octets >= length and octets % length == 0:
            return f"{octets // length}{unit}"
    return str(octets)
