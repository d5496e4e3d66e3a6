"""Postfix, as far as recipients go: which domains are whose, aliases, domains with a next hop and their users."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from relay.importer import next_hops
from relay.importer.draft import Draft, ImportFailed, Kind, Origin
from relay.importer.lookup_tables import Domain, TableEntry, domains, entries, tables
from relay.importer.main_cf import MainCf
from relay.importer.next_hops import NextHop
from relay.importer.postfix_aliases import set_aliases
from relay.importer.source_file import read_text
from relay.mail.address import is_domain, normal_domain

_LMTP = "lmtp://127.0.0.1:24"


class _Class(NamedTuple):
    """One address class of Postfix whose domains go to a next hop.

    Attributes:
        domains: the parameter with its domains.
        transports: the parameters with its transport; the first that is set counts.
        users: the parameter with the tables of its users.
    """

    domains: str
    transports: tuple[str, ...]
    users: str


_MAILBOXES = _Class("virtual_mailbox_domains", ("virtual_transport",), "virtual_mailbox_maps")
_RELAYED = _Class("relay_domains", ("relay_transport",), "relay_recipient_maps")
_LOCAL = _Class("mydestination", ("mailbox_transport", "local_transport"), "local_recipient_maps")


class Transports(NamedTuple):
    """What this part leaves to others.

    Attributes:
        entries: of transport_maps, by what they are for.
        routed: the domains that are ours.
    """

    entries: dict[str, TableEntry]
    routed: frozenset[str]


def fill(draft: Draft, main_cf: MainCf) -> Transports:
    """Set the keys of this part."""
    local = _set_local_domains(draft, main_cf)
    transports, routed = _transports(draft, main_cf), set[str]()
    for kind in (_MAILBOXES, _RELAYED):
        if kind.domains not in main_cf:
            continue
        found, problems = domains(main_cf, kind.domains)
        _tell(draft, main_cf, kind, problems)
        if problems:
            _ask_for_domains(draft, main_cf, kind)
        for domain in _full(draft, main_cf, kind.domains, found):
            if domain.name not in local and domain.name not in routed:
                routed.add(domain.name)
                _set_route(draft, main_cf, kind, domain, transports)
    for name, origin in local.items():
        if name != normal_domain(main_cf.get("myhostname")) and name not in routed:
            routed.add(name)
            _set_route(draft, main_cf, _LOCAL, Domain(name, origin), transports)
    _tell_mailboxes(draft, main_cf)
    set_aliases(draft, main_cf, tuple(local))
    return Transports(transports, frozenset(routed))


def _tell_mailboxes(draft: Draft, main_cf: MainCf) -> None:
    """Name the domains whose mail Postfix delivers on this host."""
    asked = [
        table[2]
        for table in draft.tables
        if table[:2] == ("routes", "domains")
        and "next_hop" in draft.tables[table]
        and draft.value(table, "next_hop") is None
    ]
    if asked:
        meaning = (
            "the relay has no mailboxes. Until [routes.domains] names a host for them, it takes mail for aliases of"
            " these domains alone."
        )
        draft.no_counterpart(Origin(f"mailboxes of {', '.join(asked)}", main_cf.source), meaning, matters=True)


def _set_local_domains(draft: Draft, main_cf: MainCf) -> dict[str, str]:
    """Our own domains: that of `myorigin`, to which a user without a domain belongs, then `mydestination`."""
    found, problems = domains(main_cf, "mydestination")
    origin = main_cf.get("myorigin")
    if origin.startswith("/"):
        try:
            name = read_text(main_cf.path(origin)).strip()
            found = [Domain(name, f"myorigin = {origin}"), *found]
        except ImportFailed as error:
            problems.append(f"{error}.")
    elif "myorigin" in main_cf:
        found = [Domain(origin, str(main_cf.origin("myorigin"))), *found]
    _tell(draft, main_cf, _LOCAL, problems)
    full = {domain.name: domain.origin for domain in _full(draft, main_cf, "mydestination", found)}
    for name, where in full.items():
        draft.add(("senders",), "local_domains", [name], where)
    return full


def _full(draft: Draft, main_cf: MainCf, parameter: str, found: list[Domain]) -> list[Domain]:
    """The full domain names of a list, in normal form; names for the host alone, like localhost, do not count."""
    full = list[Domain]()
    for domain in found:
        name = normal_domain(domain.name)
        is_short = parameter == _LOCAL.domains and "." not in name
        if is_short or f"{name}.".startswith("localhost."):
            continue
        if "." not in name or not is_domain(name) or not name.isascii():
            meaning = f"{domain.name} is no full domain name, so it is left out."
            draft.no_counterpart(Origin(parameter, domain.origin), meaning, matters=True)
            continue
        full.append(Domain(name, domain.origin))
    return full


def _tell(draft: Draft, main_cf: MainCf, kind: _Class, problems: list[str]) -> None:
    for problem in problems:
        meaning = f"{problem} Write a route for each of its domains ([routes.domains])."
        draft.no_counterpart(main_cf.origin(kind.domains), meaning, matters=True)


def _transports(draft: Draft, main_cf: MainCf) -> dict[str, TableEntry]:
    """The entries of transport_maps by what they are for; the first counts."""
    found: dict[str, TableEntry] = {}
    for table in tables(main_cf, "transport_maps"):
        try:
            for entry in entries(main_cf, table):
                found.setdefault(entry.key.lower(), entry)
        except ImportFailed as error:
            meaning = f"{error}. Write its next hops into [routes.domains], or [[delivery.destinations]]."
            draft.no_counterpart(main_cf.origin("transport_maps"), meaning, matters=True)
    return found


def _set_route(draft: Draft, main_cf: MainCf, kind: _Class, domain: Domain, transports: dict[str, TableEntry]) -> None:
    table = ("routes", "domains", domain.name)
    hop, origin = _next_hop(main_cf, kind, domain.name, transports)
    if hop.refuses:
        meaning = f"mail for {domain.name} is refused: it has no route, so nobody from outside may send there."
        draft.no_counterpart(origin, meaning)
        return
    if hop.problem:
        draft.no_counterpart(origin._replace(name=f"{origin.name} for {domain.name}"), f"{hop.problem}.", matters=True)
    if not hop.url and (hop.problem or hop.is_local or kind is not _RELAYED):
        _ask_for_host(draft, kind, domain)
        return
    draft.remark(table, f"From {domain.origin}.")
    if hop.url:
        draft.set(table, "next_hop", hop.url, origin)
    _set_users(draft, main_cf, kind, domain, has_hop=bool(hop.url))


def _ask_for_host(draft: Draft, kind: _Class, domain: Domain) -> None:
    """Postfix delivers on its own host, which the relay cannot."""
    table = ("routes", "domains", domain.name)
    text = (
        f"the mailbox host of {domain.name}, from {domain.origin}. Postfix delivers on this host; the relay has no"
        " mailboxes. Dovecot can listen for LMTP on a port, or on a Unix socket (lmtp:///run/dovecot/lmtp)."
    )
    # mydestination often has names that nobody has a mailbox at; the others are there for their mailboxes.
    wanted: Kind = "if wanted" if kind is _LOCAL else "fill in"
    draft.ask(table, "next_hop", _LMTP, text, wanted)
    draft.ask(table, "recipients", "callout", "ask that host which users exist.", wanted)


def _ask_for_domains(draft: Draft, main_cf: MainCf, kind: _Class) -> None:
    """A route as an example, where the domains stand in a table that cannot be read."""
    hop, origin = _next_hop(main_cf, kind, "", {})
    table = ("routes", "domains", f"{kind.domains.replace('_', '-')}.example")
    text = f"a table like this for each domain of {main_cf.origin(kind.domains)}; the next hop is that of {origin}."
    draft.ask(table, "next_hop", hop.url or _LMTP, text)
    draft.ask(table, "recipients", "callout", "ask that host which users exist.")


def _next_hop(main_cf: MainCf, kind: _Class, domain: str, transports: dict[str, TableEntry]) -> tuple[NextHop, Origin]:
    """The next hop of a domain: its entry in transport_maps, or the transport of its class."""
    if (entry := transports.get(domain)) is not None:
        return _hop(main_cf, entry.value), Origin("transport_maps", entry.where)
    parents = domain.split(".")[1:]
    above = next(
        (f".{'.'.join(parents[n:])}" for n in range(len(parents)) if f".{'.'.join(parents[n:])}" in transports), ""
    )
    if above:
        found = transports[above]
        return _hop(main_cf, found.value), Origin(f"transport_maps {above}", found.where)
    name = next((name for name in kind.transports if main_cf.get(name)), kind.transports[-1])
    return _hop(main_cf, main_cf.get(name)), main_cf.origin(name)


def _hop(main_cf: MainCf, value: str) -> NextHop:
    wrapped = main_cf.is_on("smtp_tls_wrappermode")
    return next_hops.transport(value, main_cf.programs(), wrapped=wrapped, queue=main_cf.get("queue_directory"))


def _set_users(draft: Draft, main_cf: MainCf, kind: _Class, domain: Domain, *, has_hop: bool) -> None:
    """`recipients`: the file of the users, or who is asked for them."""
    table, origin = ("routes", "domains", domain.name), main_cf.origin(kind.users)
    maps = tables(main_cf, kind.users)
    texts = [found for found in maps if found.is_text]
    if maps and len(texts) == len(maps):
        paths = [main_cf.path(found.name) for found in texts]
        if len(paths) == 1:
            comment = "The first word of each line is an address; those of other domains do not count."
            draft.their_file(table, "recipients", paths[0], f"{domain.name}.users", origin, comment)
        else:
            text = _joined(draft, paths, origin)
            draft.new_file(table, "recipients", f"{domain.name}.users", text, origin)
        return
    if maps:
        what = 'recipients = "callout" asks the mailbox host instead' if has_hop else "every user is accepted"
        unread = ", ".join(str(found) for found in maps if not found.is_text)
        draft.no_counterpart(origin, f"{unread} cannot be read; {what} ({domain.name}).", matters=True)
        draft.set(table, "recipients", "callout" if has_hop else "any", origin)
    elif has_hop and (kind is not _RELAYED or "reject_unverified_recipient" in _restrictions(main_cf)):
        draft.set(table, "recipients", "callout", "reject_unverified_recipient" if kind is _RELAYED else origin)
    else:
        comment = 'Postfix accepts every user, and bounces follow. "callout" asks the next hop which users exist.'
        draft.set(table, "recipients", "any", origin, comment if has_hop else "Postfix accepts every user.")


def _joined(draft: Draft, paths: list[Path], origin: Origin) -> str:
    parts = []
    for path in paths:
        try:
            parts.append(f"# {path}\n{read_text(path)}")
        except ImportFailed as error:
            draft.no_counterpart(origin, f"{error}.", matters=True)
    return "\n".join(parts)


def _restrictions(main_cf: MainCf) -> str:
    names = ("smtpd_recipient_restrictions", "smtpd_relay_restrictions", "smtpd_data_restrictions")
    return " ".join(main_cf.get(name) for name in names)
