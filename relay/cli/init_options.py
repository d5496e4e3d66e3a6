"""Reads the options of `srs-relay init`: each is checked here, and what is wrong is said with its mend."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator, Sequence
from typing import NoReturn

import typer

from relay.mail.address import DOMAIN, BadAddress, is_domain, lookup_key, normal_domain, parse, split
from relay.network import Endpoint, endpoint
from relay.route.alias_entries import is_rejection
from relay.sending_addresses import is_private

_REGULAR_EXPRESSION = re.compile(r"!?/(?:\^|.*[.$*\\|(].*/[a-zA-Z]*\Z)")
_TARGET = re.compile(r'(?:"(?:\\.|[^"\\])*"|[^",])+')
# Top-level domains that are not in the public DNS (RFC 6761, RFC 6762 and custom).
_NAMES_OF_NO_HOST = ("localhost", "localdomain")
_PRIVATE_NAMES = ("local", "internal", "lan", "arpa")


def full_name(value: str, option: str) -> str:
    """A domain name with a dot, in its normal form."""
    name = normal_domain(value)
    last = name.rpartition(".")[2]
    if "." not in name or not name.isascii() or not DOMAIN.match(name) or last.isdigit():
        raise typer.BadParameter(f"{value!r} is not a full domain name, like mx.fwd.example", param_hint=option)
    return name


def host_name(value: str) -> str:
    """The name of this host."""
    name = full_name(value, "--hostname")
    if name.rpartition(".")[2] in _NAMES_OF_NO_HOST:
        raise typer.BadParameter(
            f"{value!r} is every host's name; say the one that the PTR record of the address names, like"
            " mx.fwd.example",
            param_hint="--hostname",
        )
    return name


def is_public_name(name: str) -> bool:
    """Whether a normal domain name can be one of the public DNS."""
    last = name.rpartition(".")[2]
    return "." in name and bool(DOMAIN.match(name)) and last not in _NAMES_OF_NO_HOST + _PRIVATE_NAMES


def public_address(value: str) -> str:
    """An IP address that everyone can reach."""
    try:
        address = ipaddress.ip_address(value.strip().partition("%")[0])
    except ValueError:
        mend = "; give each address an --address of its own" if re.search(r"[,\s]", value.strip()) else ""
        raise typer.BadParameter(f"{value!r} is not an IP address{mend}", param_hint="--address") from None
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    if is_private(address):
        raise typer.BadParameter(
            f"{value} is not a public address ({_kind(address)}): other mail hosts cannot reach it and DNS must not"
            " name it; say the address that they see, behind a NAT that of the router, or leave --address out",
            param_hint="--address",
        )
    return str(address)


def _kind(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> str:
    if address.is_loopback:
        return "loopback"
    if address.is_multicast:
        return "multicast"
    if address.is_link_local:
        return "link-local"
    return "unspecified" if address.is_unspecified else "private or reserved"


def mailbox(value: str, option: str) -> str:
    """A full address in its normal form."""
    try:
        return str(parse(value))
    except BadAddress as error:
        raise typer.BadParameter(f"{value!r}: {error}", param_hint=option) from None


def next_hop(value: str) -> Endpoint:
    """A mailbox host."""
    try:
        return endpoint(value)
    except ValueError as error:
        raise typer.BadParameter(f"{value!r}: {error}", param_hint="--next-hop") from None


def aliases(pairs: Sequence[tuple[str, str]], domain: str) -> list[tuple[str, str]]:
    """The entries of the alias file, each as it is written there.

    Args:
        pairs: what `--alias` says: FROM is an address, a user of the domain, or `@domain` for everyone else in it; TO
            is one address or several with commas between them, or REJECT and a text.
    """
    entries, seen = list[tuple[str, str]](), set[str]()
    for pattern, targets in pairs:
        if _REGULAR_EXPRESSION.match(pattern.strip()):
            _refuse(
                f"{pattern!r} is a regular expression, which the alias table does not have; give each address an entry"
                f" (alice@{domain}), or one to all other users of a domain together (@{domain})"
            )
        if is_rejection(targets):
            right_side = " ".join(targets.split())
        else:
            right_side = ", ".join(_targets(targets, is_domain_alias=pattern[:1] == "@"))
        entry = (_pattern(pattern.strip(), domain), right_side)
        key = lookup_key(entry[0]) if entry[0][0] != "@" else entry[0].lower()
        if key in seen:
            _refuse(f'{entry[0]} is there twice; one entry may have several targets: --alias {pattern} "a@x, b@y"')
        seen.add(key)
        entries.append(entry)
    return entries


def _pattern(text: str, domain: str) -> str:
    if text.startswith("@"):
        return f"@{_domain(text)}"
    address = mailbox(text if "@" in text else f"{text}@{domain}", "--alias")
    if address.startswith("#"):  # without quotes the line would be a comment
        local, domain = split(address)
        return f'"{local}"@{domain}'
    return address


def _targets(text: str, *, is_domain_alias: bool) -> Iterator[str]:
    if is_domain_alias and text.strip().startswith("@"):
        yield f"@{_domain(text.strip())}"
        return
    for part in targets_of(text) or [text]:
        yield mailbox(part, "--alias")


def targets_of(text: str) -> list[str]:
    """The targets of an alias, between commas; a quoted local part may have a comma."""
    return [part.strip() for part in _TARGET.findall(text) if part.strip()]


def _domain(text: str) -> str:
    if not is_domain(text[1:]) or "." not in text:
        _refuse(f"{text!r} is not @ and a domain")
    return normal_domain(text[1:])


def _refuse(problem: str) -> NoReturn:
    raise typer.BadParameter(problem, param_hint="--alias")
