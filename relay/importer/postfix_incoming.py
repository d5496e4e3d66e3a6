"""Postfix, as far as mail comes in: its name, trusted networks, limits."""

from __future__ import annotations

import re
from collections.abc import Iterable

from relay.config.sections import LimitsSection
from relay.importer.draft import Draft, ImportFailed, Origin
from relay.importer.hosts import full_name, host_network, without_wide
from relay.importer.lookup_tables import entries, table_of
from relay.importer.main_cf import MainCf, split_list
from relay.importer.postfix_values import duration, number
from relay.importer.source_file import read_text
from relay.network import IPNetwork, too_wide
from relay.table_files.logical_lines import logical_lines

_CLIENTS, _LIMITS, _RECEIVE = ("clients",), ("limits",), ("receive",)
_LOOPBACK_NETWORKS = ("127.0.0.0/8", "::1/128")
_NEWLINES = {"yes": "normalize", "normalize": "normalize", "reject": "reject"}
_FEWEST_RECIPIENTS = 100  # RFC 5321 section 4.5.3.1.8


def fill(draft: Draft, main_cf: MainCf) -> None:
    """Set the keys of this part."""
    _set_hostname(draft, main_cf)
    _set_networks(draft, main_cf)
    _set_limits(draft, main_cf)


def _set_hostname(draft: Draft, main_cf: MainCf) -> None:
    if "myhostname" not in main_cf:
        return
    name = full_name(main_cf.get("myhostname"))
    if name:
        draft.set((), "hostname", name, main_cf.origin("myhostname"))
    else:
        meaning = f"{main_cf.get('myhostname')!r} is no full name in DNS, so hostname is to fill in."
        draft.no_counterpart(main_cf.origin("myhostname"), meaning, matters=True)


def _set_networks(draft: Draft, main_cf: MainCf) -> None:
    """`mynetworks`: the first entry that matches decides, so `!` takes an address out of later networks alone."""
    if "mynetworks" not in main_cf:
        style = main_cf.get("mynetworks_style") or "host"
        meaning = (
            f"it is not set, and mynetworks_style is {style!r}: `postconf -d mynetworks` prints whom Postfix trusts."
            " Name your own hosts in clients.trusted."
        )
        draft.no_counterpart(Origin("mynetworks", ""), meaning, matters=True)
        draft.add(
            _CLIENTS, "trusted", _LOOPBACK_NETWORKS, main_cf.origin("mynetworks"), "Postfix always trusts its own host."
        )
        return
    excluded, wide = list[IPNetwork](), list[IPNetwork]()
    trusted = dict[IPNetwork, str]()
    origin = main_cf.origin("mynetworks")
    for entry, where in _network_entries(draft, main_cf):
        try:
            network = host_network(entry.removeprefix("!"))
        except ValueError:
            draft.no_counterpart(
                origin, f"{entry}: neither an address nor a network, so it is not trusted.", matters=True
            )
            continue
        if entry.startswith("!"):
            excluded.append(network)
        elif too_wide([network]) is not None:
            wide.append(network)
        else:
            for rest in _without(network, excluded):
                trusted.setdefault(rest, where)
    kept, wide_together = without_wide(trusted)
    for network in kept:
        draft.add(_CLIENTS, "trusted", [str(network)], trusted[network])
    wide += wide_together
    if wide:
        meaning = (
            f"too wide to be trusted, because the relay would be open to everyone: {', '.join(map(str, wide))}. Name"
            " the networks that are yours in clients.trusted."
        )
        draft.no_counterpart(origin, meaning, matters=True)


def _network_entries(draft: Draft, main_cf: MainCf) -> Iterable[tuple[str, str]]:
    """The entries of `mynetworks`, in files and tables, too, each with its origin."""
    origin = main_cf.origin("mynetworks")
    for item in split_list(main_cf.get("mynetworks")):
        table = (
            None
            if item.lstrip("!").startswith(("[", "/")) or re.match(r"!?[0-9a-fA-F:.]+(?:/|\Z)", item)
            else table_of(item)
        )
        try:
            if item.startswith("/"):
                path = main_cf.path(item)
                for line in logical_lines(read_text(path)):
                    yield from ((word, f"{path}:{line.number}") for word in split_list(line.text))
            elif table is None:
                yield item, str(origin)
            elif table.kind == "cidr" and table.name.startswith("{"):  # { { network OK }, … }
                rules = split_list(table.name.removeprefix("{").removesuffix("}"))
                yield from ((rule.removeprefix("{").split()[0], str(origin)) for rule in rules)
            elif table.kind == "cidr":
                path = main_cf.path(table.name)
                for line in logical_lines(read_text(path)):
                    words = line.text.split()
                    yield words[0], f"{path}:{line.number}"
            else:
                yield from ((entry.key, entry.where) for entry in entries(main_cf, table))
        except ImportFailed as error:
            draft.no_counterpart(origin, f"{error}. Name its networks in clients.trusted.", matters=True)


def _without(network: IPNetwork, excluded: Iterable[IPNetwork]) -> list[IPNetwork]:
    """What is left of a network without others."""
    rest: list[IPNetwork] = [network]
    for other in excluded:
        rest = [part for whole in rest for part in _minus(whole, other)]
    return rest


def _minus(network: IPNetwork, other: IPNetwork) -> list[IPNetwork]:
    if network.version != other.version or not network.overlaps(other):
        return [network]
    return [] if other.prefixlen <= network.prefixlen else list(network.address_exclude(other))  # type: ignore[arg-type]


def _set_limits(draft: Draft, main_cf: MainCf) -> None:
    _set_message_size(draft, main_cf)
    numbers = (
        ("header_size_limit", _RECEIVE, "max_header_size", 1),
        ("hopcount_limit", _RECEIVE, "max_hops", 1),
        ("smtpd_client_connection_count_limit", _LIMITS, "connections_per_client", 1),
        ("smtpd_recipient_limit", _LIMITS, "recipients", _FEWEST_RECIPIENTS),
        ("smtpd_hard_error_limit", _LIMITS, "errors", 1),
    )
    for name, table, key, least in numbers:
        if name not in main_cf:
            continue
        value = number(main_cf.get(name))
        if value is not None and value >= least:
            draft.set(table, key, value, main_cf.origin(name))
        else:
            meaning = f"{main_cf.get(name)}: {'.'.join(table)}.{key} is at least {least}, so its default stays."
            draft.no_counterpart(main_cf.origin(name), meaning, matters=True)
    if "smtpd_timeout" in main_cf and (seconds := duration(main_cf.get("smtpd_timeout"), "s")):
        draft.set(_LIMITS, "command_timeout", seconds, main_cf.origin("smtpd_timeout"))
    newline = main_cf.get("smtpd_forbid_bare_newline").lower()
    if newline in _NEWLINES:
        draft.set(_RECEIVE, "bare_newline", _NEWLINES[newline], main_cf.origin("smtpd_forbid_bare_newline"))


def _set_message_size(draft: Draft, main_cf: MainCf) -> None:
    if "message_size_limit" not in main_cf:
        return
    origin, octets = main_cf.origin("message_size_limit"), number(main_cf.get("message_size_limit"))
    largest = LimitsSection().message_memory
    if octets is None or octets == 0 or octets > largest:
        meaning = f"a message has at most {largest} octets here (limits.message_memory), so this is the limit."
        draft.set(_RECEIVE, "max_message_size", largest, origin)
        draft.no_counterpart(origin, meaning, matters=True)
    else:
        draft.set(_RECEIVE, "max_message_size", octets, origin)
