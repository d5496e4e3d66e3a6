"""What both versions of PostSRSd configure: rewriting, the domains that stay as they are, and the sockets."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Iterable
from pathlib import Path

from relay.config.values import domain_name
from relay.importer.draft import Draft, Entry, Key, Origin
from relay.network import host_port
from relay.sending_addresses import is_private

SRS = ("srs",)
_SHORTEST_HASH, _LONGEST_HASH = 4, 27  # of `srs.hash_length`


def set_scheme(draft: Draft, separator: tuple[str, Origin] | None) -> None:
    """The format of addresses: that of PostSRSd, so that each side reads what the other has written."""
    draft.set(
        SRS,
        "hash",
        "compatible",
        comment="PostSRSd's format: addresses that it has sent stay valid, and it could read those that we send.",
    )
    if separator is not None:
        value, origin = separator
        if value[:1] in ("=", "+", "-") and value:
            draft.set(SRS, "separator", value[0], origin)
        else:
            draft.no_counterpart(origin, f'{value!r} is no separator; "=" is used.', matters=True)


def set_hash_lengths(draft: Draft, length: tuple[int, Origin] | None, shortest: tuple[int, Origin] | None) -> None:
    """The lengths of hashes, within our bounds; 4 is the default of both programs."""
    written = _SHORTEST_HASH
    if length is not None:
        written = min(max(length[0], _SHORTEST_HASH), _LONGEST_HASH)
        draft.set(SRS, "hash_length", written, length[1])
        _tell_bounds(draft, length, written)
    if shortest is not None:
        accepted = min(max(shortest[0], _SHORTEST_HASH), written)
        draft.set(SRS, "hash_min", accepted, shortest[1])
        if shortest[0] < _SHORTEST_HASH:
            meaning = (
                f"addresses with hashes of fewer than {_SHORTEST_HASH} characters are refused: they can be guessed."
            )
            draft.no_counterpart(shortest[1], meaning, matters=True)
        elif shortest[0] > written:
            draft.no_counterpart(shortest[1], f"it was longer than the hashes that were written; {accepted} is used.")


def _tell_bounds(draft: Draft, length: tuple[int, Origin], written: int) -> None:
    if length[0] != written:
        meaning = f"hashes have {_SHORTEST_HASH} to {_LONGEST_HASH} characters here, so {written} are written."
        draft.no_counterpart(length[1], meaning, matters=True)


def set_secrets(draft: Draft, path: Path, origin: Origin | str) -> None:
    """The file of secrets, which is the same for both programs."""
    comment = "The first line signs, every line verifies, as in PostSRSd."
    draft.their_file(SRS, "secrets_file", path, "srs.secret", origin, comment)


def set_local_domains(draft: Draft, domains: Iterable[str], origin: Origin) -> None:
    """The domains whose senders stay as they are."""
    exact, below, bad = list[str](), list[str](), list[str]()
    for domain in domains:
        try:
            name = domain_name(domain.removeprefix("."))
        except ValueError:
            bad.append(domain)
            continue
        (below if domain.startswith(".") else exact).append(name)
    draft.add(("senders",), "local_domains", exact, origin)
    if below:
        meaning = (
            f"{', '.join(f'.{name}' for name in below)} stands for all domains below. Here senders of such a domain are"
            " rewritten, unless senders.local_domains names the domain itself: add those that you use."
        )
        draft.no_counterpart(origin, meaning, matters=True)
    if bad:
        draft.no_counterpart(origin, f"{', '.join(bad)}: no domain names, so they are left out.", matters=True)


def add_table(draft: Draft, address: str, protocol: str, direction: str, origin: Origin | str, comment: str) -> None:
    """One socket that Postfix asks."""
    keys = {"address": Key(address, str(origin)), "protocol": Key(protocol)}
    if direction:
        keys["direction"] = Key(direction)
    if address.startswith("unix:"):
        keys["mode"] = Key("0660", comment="PostSRSd let every user of the host in. Only Postfix asks, so:")
        keys["group"] = Key("postfix")
    elif not _is_private(address):
        keys["clients"] = Key(
            ("127.0.0.1/32",), comment="Name the hosts whose Postfix asks here, if there are others than this one."
        )
    entries: list[Entry] = draft.arrays.get("tables", [])
    if any(entry.keys["address"].value == address for entry in entries):
        draft.no_counterpart(Origin(str(origin), ""), f"{address} is a table already.", matters=True)
        return
    draft.entry("tables", keys, comment)


def _is_private(address: str) -> bool:
    ip = ipaddress.ip_address(host_port(address)[0])
    return is_private(ip) and not ip.is_unspecified


def address(host: str, port: int) -> str:
    """The address to listen on for a host as PostSRSd takes it; empty for a name that only a name server knows."""
    if host in ("", "localhost"):
        return f"127.0.0.1:{port}"  # Postfix tries every address of localhost
    if host == "*":
        return f"0.0.0.0:{port}"
    try:
        ip = ipaddress.ip_address(host.removeprefix("[").removesuffix("]"))
    except ValueError:
        return ""
    return f"[{ip}]:{port}" if ip.version == 6 else f"{ip}:{port}"


def port_number(text: str) -> int | None:
    """The number of a port; None for a text that is none."""
    if text.isdecimal():
        return int(text) if len(text) <= 5 and 0 < int(text) < 65536 else None
    try:
        return socket.getservbyname(text, "tcp")
    except (OSError, ValueError):  # ValueError: NUL in the name
        return None
