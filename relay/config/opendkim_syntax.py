"""The syntax of OpenDKIM's files: settings and tables, as opendkim.conf(5) and DATA SETS in opendkim(8) describe them.

A host that moves over keeps its files as they are. The functions here take text and return values; they open no file.
Errors name the file and the line.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Iterator
from typing import Literal, NamedTuple

from relay.mail.address import DOMAIN, normal_domain
from relay.network import IPNetwork, too_wide

TableKind = Literal["file", "refile", "csl"]

ITSELF = "%"  # in place of a key's name or domain: the author's domain

_KINDS: dict[str, TableKind] = {"file": "file", "refile": "refile", "csl": "csl"}
_NO_WILDCARD = re.compile(r"[][?(){}|^$\\]")
_LOGIN = re.compile(r"//[^/]*@")  # user and password of a database
_LOOPBACK = ("127.0.0.1/32", "::1/128")  # what localhost means everywhere (RFC 6761 section 6.3)


class ConfSetting(NamedTuple):
    """A setting of opendkim.conf: its value, and the file and line where it is."""

    value: str
    where: str


class TableEntry(NamedTuple):
    """A line of a table: its key, its value (empty in a list of keys), and the file and line where it is."""

    key: str
    value: str
    where: str


class KeyTableEntry(NamedTuple):
    """A key of the KeyTable. The domain may be `ITSELF`; `private` is a path or, without a slash, the key itself."""

    domain: str
    selector: str
    private: str
    where: str


class SigningTableEntry(NamedTuple):
    """An entry of the SigningTable: a pattern of addresses (`*` stands for any characters), and a key's name or
    `ITSELF`.
    """

    pattern: str
    key: str
    where: str


class InternalHosts(NamedTuple):
    """The trusted networks, and the entries that are host names: only a name server could say who these are."""

    networks: tuple[IPNetwork, ...]
    names: tuple[TableEntry, ...]


def settings(text: str, source: str) -> Iterator[tuple[str, ConfSetting]]:
    """The settings of opendkim.conf, names in lower case. If a name occurs twice, the later one counts."""
    for number, line in enumerate(text.splitlines(), 1):
        name, _, value = line.partition("#")[0].strip().replace("\t", " ").partition(" ")
        if name:
            yield name.lower(), ConfSetting(value.strip(), f"{source}:{number}")


def dataset(setting: ConfSetting) -> tuple[TableKind, str]:
    """The kind of a table: a file (`file:`, or a path alone), a file of patterns (`refile:`), or a list here (`csl:`).

    Returns:
        The kind, and the path or the list.

    Raises:
        ValueError: a database, a script, or a service.
    """
    prefix, colon, rest = setting.value.partition(":")
    if not colon or "," in prefix:
        prefix, rest = "file" if setting.value.startswith("/") else "csl", setting.value
    kind = _KINDS.get(prefix.lower())
    if kind is None or (kind == "file" and rest.endswith(".db")):
        shown = _LOGIN.sub("//…@", setting.value)
        raise ValueError(f"{setting.where}: {shown}: only text files (file:, refile:) and lists (csl:) are read")
    return kind, rest.strip()


def entries(kind: TableKind, text: str, source: str) -> Iterator[TableEntry]:
    """The lines of a table.

    Args:
        source: the file; for a `csl:` list the file and line of opendkim.conf.
    """
    if kind == "csl":
        for item in filter(None, map(str.strip, text.split(","))):
            key, _, value = item.partition("=")
            yield TableEntry(key.strip(), value.strip(), source)
        return
    for number, line in enumerate(text.splitlines(), 1):
        words = line.partition("#")[0].split(None, 1)
        if words:
            yield TableEntry(words[0], words[1].strip() if len(words) > 1 else "", f"{source}:{number}")


def key_table(lines: Iterable[TableEntry]) -> dict[str, KeyTableEntry]:
    """The keys by their names. If a name occurs twice, the first one counts.

    Raises:
        ValueError: an entry is not `name domain:selector:key`.
    """
    keys: dict[str, KeyTableEntry] = {}
    for name, value, where in lines:
        parts = [part.strip() for part in value.split(":", 2)]
        if len(parts) < 3 or not all(parts):
            raise ValueError(f"{where}: {name}: a key is written NAME DOMAIN:SELECTOR:FILE")
        domain, selector = (part if part == ITSELF else domain_name(part, where) for part in parts[:2])
        if selector == ITSELF:
            raise ValueError(f"{where}: {name}: % is no selector")
        keys.setdefault(name, KeyTableEntry(domain, selector, parts[2], where))
    return keys


def signing_table(kind: TableKind, lines: Iterable[TableEntry]) -> list[SigningTableEntry]:
    """The entries in the order in which they are tried.

    Patterns of a `refile:` are tried in the order of the file. In other tables the lookup is for the whole address, its
    domain, then both with each parent domain (`user@.domain`, `.domain`), `user@*` and `*`.

    Raises:
        ValueError: an entry names no key, or is a regular expression.
    """
    table = []
    for pattern, value, where in lines:
        key = value.partition(":")[0].strip()  # after the colon is i=, which we do not write
        if not key:
            raise ValueError(f"{where}: {pattern}: the name of a key is missing")
        if kind == "refile":
            if _NO_WILDCARD.search(pattern):
                raise ValueError(f"{where}: {pattern}: only * is a wildcard here")
            table.append(SigningTableEntry(_normal_pattern(pattern), key, where))
        else:
            table.append(SigningTableEntry(_pattern_of_lookup_key(pattern), key, where))
    if kind == "refile":
        return table
    first: dict[str, SigningTableEntry] = {}
    for entry in table:
        first.setdefault(entry.pattern, entry)
    return sorted(first.values(), key=lambda entry: _lookup_order(entry.pattern))


def looks_like_patterns(lines: Iterable[TableEntry]) -> bool:
    """Tells whether a SigningTable without opendkim.conf is a `refile:`: only there `*` occurs within a pattern."""
    return any("*" in key and key != "*" and not re.fullmatch(r"[^*]+@\*", key) for key, _, _ in lines)


def internal_hosts(lines: Iterable[TableEntry]) -> InternalHosts:
    """The networks of InternalHosts. For each client the smallest network decides; `!` excludes a network. Of two
    entries for one network the exclusion counts.

    Raises:
        ValueError: a network is so wide that the relay would be open to everyone.
    """
    names: list[TableEntry] = []
    listed: list[tuple[IPNetwork, bool, str]] = []  # each with: whether it is excluded, and where it is
    for entry in lines:
        text = entry.key.removeprefix("!")
        networks = _networks(text)
        if not networks:
            names.append(entry)
        listed += [(network, text != entry.key, entry.where) for network in networks]
    wide = too_wide(network for network, excluded, _ in listed if not excluded)
    if wide is not None:
        parts = ((network, where) for network, excluded, where in listed if not excluded and network.overlaps(wide))
        _, where = min(parts, key=lambda part: part[0].prefixlen)
        raise ValueError(f"{where}: {wide} would make this an open relay; name the networks that are yours")
    trusted: list[IPNetwork] = []
    for network, excluded, _ in sorted(listed, key=lambda entry: (entry[0].prefixlen, entry[1])):
        if excluded:
            trusted = [rest for wider in trusted for rest in _without(wider, network)]
        else:
            trusted.append(network)
    return InternalHosts(tuple(trusted), tuple(names))


def _networks(text: str) -> list[IPNetwork]:
    """The networks of an entry: none for a host name, and for a network in a form that OpenDKIM does not match."""
    if text.lower() == "localhost":
        return [ipaddress.ip_network(address) for address in _LOOPBACK]
    try:
        network = ipaddress.ip_network(re.sub(r"[][]", "", text))
    except ValueError:
        return []
    if "." in text.partition("/")[2]:  # a netmask
        return []
    mapped = network.network_address.ipv4_mapped if isinstance(network, ipaddress.IPv6Network) else None
    if mapped is not None and network.prefixlen >= 96:
        return [ipaddress.ip_network((mapped, network.prefixlen - 96))]
    return [network]


def _without(network: IPNetwork, excluded: IPNetwork) -> Iterator[IPNetwork]:
    """The network without another one that is not larger."""
    if network.version == excluded.version and network.overlaps(excluded):
        yield from network.address_exclude(excluded)  # type: ignore[arg-type]
    else:
        yield network


def domain_name(text: str, where: str) -> str:
    """A domain or selector in its normal form. Raises ValueError: it is none."""
    name = normal_domain(text)
    if not name.isascii() or not DOMAIN.match(name):
        raise ValueError(f"{where}: {text!r} is not a domain name")
    return name


def _normal_pattern(pattern: str) -> str:
    """The pattern in lower case, with A-labels if its domain is complete."""
    user, at, domain = pattern.lower().rpartition("@")
    below = "*." if domain.startswith("*.") else ""
    rest = domain.removeprefix(below)
    return f"{user}{at}{below}{rest if '*' in rest else normal_domain(rest)}"


def _pattern_of_lookup_key(key: str) -> str:
    """The pattern of addresses that a key of a plain table is looked up for."""
    user, at, domain = key.rpartition("@")
    return _normal_pattern(f"{user if at else '*'}@{'*' if domain.startswith('.') else ''}{domain}")


def _lookup_order(pattern: str) -> tuple[int, int, bool]:
    """A sort key: exact domains first, then longer parent domains, then `*`; addresses before whole domains."""
    user, _, domain = pattern.rpartition("@")
    if domain == "*":
        return 2, 0, user == "*"
    return int("*" in domain), -len(domain), user == "*"
