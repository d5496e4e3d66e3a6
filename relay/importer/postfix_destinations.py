"""Postfix, as far as the way of mail depends on its domain: transport_maps and smtp_tls_policy_maps.

An entry for a domain becomes a table of `[[delivery.destinations]]`. It never makes the domain ours: only routes do.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from relay.importer import next_hops
from relay.importer.draft import Draft, ImportFailed, Item, Key, Origin
from relay.importer.lookup_tables import TableEntry, entries, origin_of, tables
from relay.importer.main_cf import MainCf
from relay.importer.next_hops import NextHop
from relay.importer.postfix_login import find_login, set_login
from relay.importer.postfix_tls import BY_MX, tls_policy
from relay.importer.postfix_transports import transport_settings
from relay.mail.address import is_domain, normal_domain
from relay.network import endpoint

_SMARTHOST = ("delivery", "smarthost")
_ORDER = ("next_hop", "smarthost", "tls", "concurrency", "rate", "source_ipv4", "source_ipv6", "families", "helo")


_PUBLISHED = (
    "a program that looks up what domains publish (postfix-mta-sts-resolver, postfix-tlspol); the relay does so itself"
    " (delivery.mta_sts, delivery.dane)."
)


@dataclass(slots=True)
class _Row:
    """What is set for one domain, or for all below one.

    Attributes:
        next_hop: where Postfix sends its mail, as it calls it; empty for the MX.
        origin: of the domain.
    """

    origin: Origin
    next_hop: str = ""
    keys: dict[str, Key] = field(default_factory=dict)


def fill(draft: Draft, main_cf: MainCf, transports: Mapping[str, TableEntry], routed: frozenset[str]) -> None:
    """Set the tables of destinations.

    Args:
        transports: the entries of transport_maps by what they are for.
        routed: the domains that are ours.
    """
    rows: dict[str, _Row] = {}
    for key, entry in transports.items():
        _add_transport(draft, main_cf, rows, key, entry, routed)
    for table in tables(main_cf, "smtp_tls_policy_maps"):
        if table.kind == "socketmap":
            draft.no_counterpart(origin_of(main_cf, "smtp_tls_policy_maps", table), _PUBLISHED)
            continue
        try:
            for entry in entries(main_cf, table):
                _add_policy(draft, main_cf, rows, entry)
        except ImportFailed as error:
            meaning = f"{error}. Write tls into [[delivery.destinations]] for its domains."
            draft.no_counterpart(main_cf.origin("smtp_tls_policy_maps"), meaning, matters=True)
    for keys, domains in _grouped(rows):
        items = [Item(domain, str(row.origin)) for domain, row in domains.items()]
        draft.entry("delivery.destinations", {"domains": Key(tuple(domains), items=items), **keys})


def _add_transport(
    draft: Draft, main_cf: MainCf, rows: dict[str, _Row], key: str, entry: TableEntry, routed: frozenset[str]
) -> None:
    """Take over an entry of transport_maps."""
    origin = Origin(f"transport_maps {key}", entry.where)
    domain = _domain(key)
    if key == "*":
        return
    if "@" in key:
        meaning = "one address has no next hop of its own; an alias can lead it elsewhere."
        draft.no_counterpart(origin, meaning, matters=True)
        return
    if not domain:
        draft.no_counterpart(origin, f"{key} is no domain name, so it is left out.", matters=True)
        return
    name, _, next_hop = entry.value.strip().partition(":")
    settings = transport_settings(main_cf, name)
    hop = next_hops.transport(
        entry.value, main_cf.programs(), wrapped=settings.wrapped, queue=main_cf.get("queue_directory")
    )
    row = _Row(origin, next_hop, dict(settings.keys))
    if domain not in routed:  # that of a domain of ours stands at its route
        if hop.refuses or hop.is_local:
            what = "neither refused nor thrown away" if hop.refuses else "not delivered on this host"
            meaning = f"{entry.value}: mail for it is {what}; it goes to the smarthost, or to its MX."
            draft.no_counterpart(origin, meaning, matters=True)
            return
        if hop.problem:
            draft.no_counterpart(origin, f"{hop.problem}.", matters=True)
        if hop.url:
            _set_next_hop(draft, main_cf, row, hop)
        elif name and not hop.problem and draft.value(_SMARTHOST, "url") is not None:
            # A transport alone goes to the domain itself, whatever relayhost says; no transport changes nothing.
            row.keys["next_hop"] = Key("mx", str(origin))
    for where, problem in settings.problems:
        draft.no_counterpart(where, problem, matters=True)
    if row.keys:
        rows[domain] = row


def _set_next_hop(draft: Draft, main_cf: MainCf, row: _Row, hop: NextHop) -> None:
    """The host; one that wants a login is a smarthost with a name."""
    login = find_login(draft, main_cf, row.next_hop)
    if login is None or hop.url.startswith("lmtp:"):
        row.keys["next_hop"] = Key(hop.url, str(row.origin))
        return
    url = endpoint(hop.url)
    name = re.sub(r"[^A-Za-z0-9_-]+", "-", url.host).strip("-")
    table = ("delivery", "smarthosts", name)
    if draft.value(table, "url") not in (None, hop.url):
        name = f"{name}-{url.port}"
        table = ("delivery", "smarthosts", name)
    draft.set(table, "url", hop.url, row.origin)
    set_login(draft, table, login)
    row.keys["smarthost"] = Key(name, str(row.origin))
    if "tls" in row.keys:
        _set_smarthost_tls(draft, table, row.keys.pop("tls"))


def _set_smarthost_tls(draft: Draft, table: tuple[str, ...], tls: Key) -> None:
    """TLS towards a smarthost. Our default verifies the certificate where a password is sent."""
    if draft.value(table, "user") is None or tls.value not in ("none", "may"):
        draft.set(table, "tls", tls.value, tls.origin)


def _add_policy(draft: Draft, main_cf: MainCf, rows: dict[str, _Row], entry: TableEntry) -> None:
    """Take over an entry of smtp_tls_policy_maps. Postfix looks for a policy by the next hop."""
    origin = Origin(f"smtp_tls_policy_maps {entry.key}", entry.where)
    policy = tls_policy(entry.value)
    if policy.problem:
        draft.no_counterpart(origin, policy.problem, matters=True)
    if not policy.level:
        return
    tls = Key(policy.level, str(origin))
    relayhost = main_cf.get("relayhost")
    of_hop = [row for row in rows.values() if row.next_hop == entry.key and row.next_hop]
    for row in of_hop:
        smarthost = row.keys.get("smarthost")
        if smarthost is not None:
            _set_smarthost_tls(draft, ("delivery", "smarthosts", str(smarthost.value)), tls)
        elif "next_hop" in row.keys and not endpoint(row.keys["next_hop"].value).path:
            row.keys["tls"] = tls
    if relayhost and entry.key == relayhost and draft.value(_SMARTHOST, "url") is not None:
        _set_smarthost_tls(draft, _SMARTHOST, tls)
        return
    domain = _domain(entry.key)
    if of_hop:
        return
    if not domain:
        draft.no_counterpart(origin, "no mail goes to this host by transport_maps or relayhost.")
        return
    same = rows.get(domain)
    if (same is not None and same.next_hop) or (same is None and relayhost):
        draft.no_counterpart(origin, "its mail goes to another host, whose policy counts.")
        return
    rows.setdefault(domain, _Row(origin)).keys["tls"] = tls
    if problem := BY_MX.get(entry.value.split()[0].lower()):
        draft.no_counterpart(origin, problem, matters=True)


def _domain(key: str) -> str:
    """The domain of an entry, in normal form, with a dot before it where it is for all below; empty if it is none."""
    dot, name = ("." if key.startswith(".") else ""), normal_domain(key.removeprefix("."))
    return dot + name if is_domain(name) and name.isascii() else ""


def _grouped(rows: Mapping[str, _Row]) -> Iterator[tuple[dict[str, Key], dict[str, _Row]]]:
    """The domains that have the same keys, together."""
    groups: dict[tuple[tuple[str, object], ...], dict[str, _Row]] = {}
    for domain, row in rows.items():
        values = tuple((name, row.keys[name].value) for name in _ORDER if name in row.keys)
        groups.setdefault(values, {})[domain] = row
    for domains in groups.values():
        first = next(iter(domains.values())).keys
        yield {name: first[name] for name in _ORDER if name in first}, domains
