"""OpenDKIM's files, as opendkim.conf(5) and the section DATA SETS of opendkim(8) describe them: settings and tables.

A host that moves over keeps them as they are. Everything here is text in, values out; what cannot be read is told with
the file and the line that it stands in.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Iterator
from typing import Literal, NamedTuple

from relay.mail.address import DOMAIN, normal_domain
from relay.network import IPNetwork, too_wide

Kind = Literal["file", "refile", "csl"]

ITSELF = "%"  # a key, or the domain of one, that is named as the author's domain

_KINDS: dict[str, Kind] = {"file": "file", "refile": "refile", "csl": "csl"}
_NO_WILDCARD = re.compile(r"[][?(){}|^$\\]")
_LOOPBACK = ("127.0.0.1/32", "::1/128")  # what localhost means anywhere (RFC 6761 section 6.3)


class Setting(NamedTuple):
    """The value of one line of opendkim.conf, and which line it is."""

    value: str
    where: str


class Entry(NamedTuple):
    """One line of a table: what is looked up, what is found (empty in a mere list), and which line it is."""

    key: str
    value: str
    where: str


class Key(NamedTuple):
    """An entry of the KeyTable. The domain may be `ITSELF`; `private` is a path or, without a slash, the key itself."""

    domain: str
    selector: str
    private: str
    where: str


class Signing(NamedTuple):
    """An entry of the SigningTable: addresses (`*` is any run of characters), and the name of a key or `ITSELF`."""

    pattern: str
    key: str
    where: str


class Hosts(NamedTuple):
    """Who is trusted, and the entries that are no addresses: they need a name server to vouch for the client."""

    networks: tuple[IPNetwork, ...]
    names: tuple[Entry, ...]


def settings(text: str, source: str) -> Iterator[tuple[str, Setting]]:
    """The settings of opendkim.conf, names in lower case; of two of one name the later counts."""
    for number, line in enumerate(text.splitlines(), 1):
        name, _, value = line.partition("#")[0].strip().replace("\t", " ").partition(" ")
        if name:
            yield name.lower(), Setting(value.strip(), f"{source}:{number}")


def dataset(setting: Setting) -> tuple[Kind, str]:
    """What a table is: a file (`file:`, or a path alone), a file of patterns (`refile:`), or a list in place (`csl:`).

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
        raise ValueError(
            f"{setting.where}: {setting.value}: only text files (file:, refile:) and lists (csl:) are read"
        )
    return kind, rest.strip()


def entries(kind: Kind, text: str, source: str) -> Iterator[Entry]:
    """The lines of a table.

    Args:
        source: for a list in place the line of opendkim.conf, otherwise the file.
    """
    if kind == "csl":
        for item in filter(None, map(str.strip, text.split(","))):
            key, _, value = item.partition("=")
            yield Entry(key.strip(), value.strip(), source)
        return
    for number, line in enumerate(text.splitlines(), 1):
        words = line.partition("#")[0].split(None, 1)
        if words:
            yield Entry(words[0], words[1].strip() if len(words) > 1 else "", f"{source}:{number}")


def key_table(lines: Iterable[Entry]) -> dict[str, Key]:
    """The keys by their names; of two of one name the first counts.

    Raises:
        ValueError: an entry is not `name domain:selector:key`.
    """
    found: dict[str, Key] = {}
    for name, value, where in lines:
        parts = [part.strip() for part in value.split(":", 2)]
        if len(parts) < 3 or not all(parts):
            raise ValueError(f"{where}: {name}: a key is written NAME DOMAIN:SELECTOR:FILE")
        domain, selector = (part if part == ITSELF else domain_name(part, where) for part in parts[:2])
        if selector == ITSELF:
            raise ValueError(f"{where}: {name}: % is no selector")
        found.setdefault(name, Key(domain, selector, parts[2], where))
    return found


def signing_table(kind: Kind, lines: Iterable[Entry]) -> list[Signing]:
    """The entries in the order in which they are tried.

    Patterns of a `refile:` are tried as they stand there. Of other tables the whole address is looked up, its domain,
    then both with each domain above (`user@.domain`, `.domain`), `user@*` and `*`.

    Raises:
        ValueError: an entry names no key, or is a regular expression.
    """
    found = []
    for pattern, value, where in lines:
        key = value.partition(":")[0].strip()  # behind the colon stands i=, which nothing depends on
        if not key:
            raise ValueError(f"{where}: {pattern}: the name of a key is missing")
        if kind == "refile":
            if _NO_WILDCARD.search(pattern):
                raise ValueError(f"{where}: {pattern}: only * is a wildcard here")
            found.append(Signing(_normal(pattern), key, where))
        else:
            found.append(Signing(_pattern(pattern), key, where))
    if kind == "refile":
        return found
    first: dict[str, Signing] = {}
    for entry in found:
        first.setdefault(entry.pattern, entry)
    return sorted(first.values(), key=lambda entry: _rank(entry.pattern))


def looks_like_patterns(lines: Iterable[Entry]) -> bool:
    """Whether a SigningTable without opendkim.conf is meant as `refile:`, for only there `*` stands in such places."""
    return any("*" in key and key != "*" and not re.fullmatch(r"[^*]+@\*", key) for key, _, _ in lines)


def hosts(lines: Iterable[Entry]) -> Hosts:
    """The networks of InternalHosts. The smallest one that a client is in decides, and `!` excludes; of two of one size
    the exclusion counts.

    Raises:
        ValueError: a network is so wide that the relay would be open to everyone.
    """
    names: list[Entry] = []
    found: list[tuple[IPNetwork, bool, str]] = []
    for entry in lines:
        text = entry.key.removeprefix("!")
        networks = _networks(text)
        if not networks:
            names.append(entry)
        found += [(network, text != entry.key, entry.where) for network in networks]
    wide = too_wide(network for network, excluded, _ in found if not excluded)
    if wide is not None:
        within = (one for one in found if not one[1] and one[0].overlaps(wide))
        where = min(within, key=lambda one: one[0].prefixlen)[2]
        raise ValueError(f"{where}: {wide} would make this an open relay; name the networks that are yours")
    trusted: list[IPNetwork] = []
    for network, excluded, _ in sorted(found, key=lambda one: (one[0].prefixlen, one[1])):
        if excluded:
            trusted = [rest for one in trusted for rest in _without(one, network)]
        else:
            trusted.append(network)
    return Hosts(tuple(trusted), tuple(names))


def _networks(text: str) -> list[IPNetwork]:
    """The networks that an entry means; none for the name of a host, and for a network that OpenDKIM never finds."""
    if text.lower() == "localhost":
        return [ipaddress.ip_network(one) for one in _LOOPBACK]
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


def _without(one: IPNetwork, other: IPNetwork) -> Iterator[IPNetwork]:
    """A network without another one, which is not larger."""
    if one.version == other.version and one.overlaps(other):
        yield from one.address_exclude(other)  # type: ignore[arg-type]
    else:
        yield one


def domain_name(text: str, where: str) -> str:
    """A domain or selector, normal. Raises ValueError: it is none."""
    name = normal_domain(text)
    if not name.isascii() or not DOMAIN.match(name):
        raise ValueError(f"{where}: {text!r} is not a domain name")
    return name


def _normal(pattern: str) -> str:
    """A pattern in lower case, with A-labels where a whole domain stands in it."""
    user, at, domain = pattern.lower().rpartition("@")
    below = "*." if domain.startswith("*.") else ""
    rest = domain.removeprefix(below)
    return f"{user}{at}{below}{rest if '*' in rest else normal_domain(rest)}"


def _pattern(key: str) -> str:
    """A key of a plain table as a pattern of addresses."""
    user, at, domain = key.rpartition("@")
    return _normal(f"{user if at else '*'}@{'*' if domain.startswith('.') else ''}{domain}")


def _rank(pattern: str) -> tuple[int, int, bool]:
    user, _, domain = pattern.rpartition("@")
    if domain == "*":
        return 2, 0, user == "*"
    return int("*" in domain), -len(domain), user == "*"
