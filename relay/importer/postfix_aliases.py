"""Postfix's virtual aliases as our alias table: the same format, so a text file can be used as it is."""

from __future__ import annotations

import re
from pathlib import Path

from relay.importer.draft import Draft, ImportFailed, Origin
from relay.importer.lookup_tables import Table, domains, entries, origin_of, tables
from relay.importer.main_cf import MainCf
from relay.importer.source_file import read_text
from relay.mail.address import domain_of, lookup_key, normal_domain, split
from relay.route.alias_entries import AliasError
from relay.route.alias_file import parse_virtual
from relay.route.alias_table import AliasTable
from relay.table_files.logical_lines import logical_lines

_ROUTES = ("routes",)
_NAME = "aliases"
_SHOWN = 5  # addresses that a note names
_LOCAL_ALIAS = re.compile(r'"?([^":\s]+)"?\s*:(.*)')  # an entry of aliases(5)
_FULL_ADDRESS = re.compile(r"[^\s@|/:\"]+@[^\s@]+")  # neither a command nor a file, nor a list in a file


def set_aliases(draft: Draft, main_cf: MainCf, local_domains: tuple[str, ...]) -> None:
    """Set `routes.aliases`.

    Args:
        local_domains: the first is that of a user without a domain.
    """
    name = "virtual_alias_maps" if "virtual_alias_maps" in main_cf else "virtual_maps"
    readable = list[tuple[Table, str, str]]()  # each with its content, and where that is
    for table in tables(main_cf, name):
        try:
            path = str(main_cf.path(table.name)) if table.is_text else str(table)
            content = read_text(Path(path)) if table.is_text else _lines(main_cf, table)
        except ImportFailed as error:
            draft.no_counterpart(main_cf.origin(name), f"{error}.{_advice(table)}", matters=True)
            continue
        readable.append((table, path, content))
    if not readable:
        return
    origin = main_cf.origin(name)
    if len(readable) == 1 and readable[0][0].is_text:
        comment = "The format is the same. Read again when it changes; postmap is not needed."
        draft.their_file(_ROUTES, "aliases", Path(readable[0][1]), _NAME, origin, comment)
    else:
        text = "\n".join(f"# {path}\n{content}" for _, path, content in readable)
        comment = (
            f"All of it: {', '.join(path for _, path, _ in readable)}. Of two lines for one address the first counts."
        )
        draft.new_file(_ROUTES, "aliases", _NAME, text, origin, comment)
    _tell_of_content(draft, origin, readable, local_domains)
    _tell_of_foreign_domains(draft, main_cf, origin, [content for _, _, content in readable], local_domains)


def _lines(main_cf: MainCf, table: Table) -> str:
    return "".join(f"{entry.key}    {entry.value}\n" for entry in entries(main_cf, table))


def _advice(table: Table) -> str:
    """What to do about a table that cannot be read."""
    if table.kind in ("regexp", "pcre"):
        return " There are no patterns of addresses here: write an alias for each, or a catch-all (@example.org)."
    if table.kind in ("tcp", "socketmap"):
        return " If PostSRSd answers there: SRS is built in."
    if table.is_text:
        return f" `postmap -s {table}` prints what is in the index."
    return f" Write its aliases into a file, and name it in routes.aliases: `postmap -s {table}` may print them."


def _tell_of_content(
    draft: Draft, origin: Origin, readable: list[tuple[Table, str, str]], local_domains: tuple[str, ...]
) -> None:
    """Name what will not work: lines that cannot be read, and aliases that end at users of this host."""
    local_users = list[str]()
    for _, path, content in readable:
        try:
            table = parse_virtual(content, path, local_domains)
        except AliasError as error:
            draft.no_counterpart(origin, f"{error}: no line of the file can be used.", matters=True)
            continue
        for line in table.bad.lines[:_SHOWN]:
            draft.no_counterpart(Origin(_NAME, line.where), f"{line.problem}; {line.effect}.", matters=True)
        if len(table.bad.lines) > _SHOWN:
            meaning = f"{len(table.bad.lines)} lines cannot be used; the log names them at the start."
            draft.no_counterpart(Origin(path, ""), meaning, matters=True)
        local_users += _local_users(draft, table)
    if local_users:
        named = ", ".join(local_users[:_SHOWN]) + (" …" if len(local_users) > _SHOWN else "")
        meaning = (
            f"{len(local_users)} aliases lead to users of this host ({named}). The relay has no mailboxes: give their"
            " domain a next hop in [routes.domains], or write other addresses."
        )
        draft.no_counterpart(origin, meaning, matters=True)


def _tell_of_foreign_domains(
    draft: Draft, main_cf: MainCf, origin: Origin, contents: list[str], local_domains: tuple[str, ...]
) -> None:
    """Name the domains on the left that Postfix takes no mail for: with an alias here, they would be ours."""
    ours, problems = set(local_domains), list[str]()
    for name in ("virtual_alias_domains", "mydestination", "relay_domains", "virtual_mailbox_domains"):
        found, unread = domains(main_cf, name)
        ours |= {normal_domain(domain.name) for domain in found}
        problems += unread
    if problems:
        return  # any of them may be in a table that cannot be read
    if "virtual_alias_domains" not in main_cf:  # it is the table itself: its keys without a user are domains
        keys = (line.text.split()[0] for content in contents for line in logical_lines(content))
        ours |= {normal_domain(key) for key in keys if "@" not in key}
    served = set[str]()
    for content in contents:
        try:
            served |= parse_virtual(content, "", local_domains).domains
        except AliasError:
            continue
    foreign = sorted(name for name in served if not any(f".{name}".endswith(f".{own}") for own in ours))
    if foreign:
        named = ", ".join(foreign[:_SHOWN]) + (" …" if len(foreign) > _SHOWN else "")
        meaning = (
            f"{named}: Postfix takes no mail from strangers for this. Here an alias makes its domain ours: anybody may"
            " write to the alias, and other users of the domain are unknown. Take the aliases out, if it is not yours."
        )
        draft.no_counterpart(origin, meaning, matters=True)


def tell_of_local_aliases(draft: Draft, main_cf: MainCf) -> None:
    """Name the entries of aliases(5) that lead to other hosts: that table is for users of the host alone."""
    for table in tables(main_cf, "alias_maps"):
        try:
            text = read_text(main_cf.path(table.name)) if table.is_text else ""
        except ImportFailed:
            continue
        entries_there = (match for line in logical_lines(text) if (match := _LOCAL_ALIAS.match(line.text)))
        leading = [
            match[1]
            for match in entries_there
            if any(_FULL_ADDRESS.fullmatch(target.strip()) for target in match[2].split(","))
        ]
        if leading:
            named = ", ".join(leading[:_SHOWN]) + (" …" if len(leading) > _SHOWN else "")
            meaning = (
                f"{len(leading)} of its entries lead to other hosts ({named}). aliases(5) is not read: write them into"
                " the alias table, with the domain on the left (`user@example.org target@mailbox.example`)."
            )
            draft.no_counterpart(origin_of(main_cf, "alias_maps", table), meaning, matters=True)


def _local_users(draft: Draft, table: AliasTable) -> list[str]:
    """The patterns with a target at a domain of ours that neither another alias nor a route takes further.

    An address that is its own target ends there, too: that is how Postfix keeps a copy in a mailbox.
    """
    routes = {name for _, _, *rest in (t for t in draft.tables if t[:2] == ("routes", "domains")) for name in rest}
    unrouted = {
        domain
        for domain in table.local_domains
        if domain not in routes or draft.value(("routes", "domains", domain), "next_hop") is None
    }

    def ends_here(pattern: str, target: str) -> bool:
        itself = lookup_key(target) == pattern or split(target).local == pattern
        return domain_of(target) in unrouted and (itself or not table.matches(target))

    return [
        pattern
        for pattern, targets in table.entries.items()
        if pattern not in table.domains
        and any(not target.startswith("@") and ends_here(pattern, target) for target in targets)
    ]
