"""`srs-relay aliases …`: lists, adds and removes the entries of the alias file, and shows the way of an address.

A running relay reads the file again within two seconds.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from relay import log as logging
from relay.cli import alias_way_view
from relay.cli.alias_way import Way, way_of
from relay.cli.errors import CommandFailed
from relay.cli.options import ConfigFile
from relay.config.file import load
from relay.config.missing_files import missing_file_mend
from relay.config.model import Config
from relay.dns import CachingResolver
from relay.mail.address import BadAddress, parse
from relay.mail.visible import visible
from relay.queue.database import QueueUnavailable
from relay.route import alias_edit
from relay.route.alias_edit import AliasEditError, BadEntry, Change, alias_text, new_entry
from relay.route.alias_entries import AliasError
from relay.route.alias_listing import Entry, by_key, list_entries
from relay.route.tables import read_tables
from relay.srs.configured_scheme import scheme_from_config
from relay.table_files.edited_file import NotChanged, change_file, content_of

NEW_MODE = 0o640  # which addresses lead where is nobody's business outside of the relay and its group

app = typer.Typer(no_args_is_help=True, help="Aliases: list, add and remove them, and show the way of an address.")

Address = Annotated[str, typer.Argument(metavar="ADDRESS", help="The left side: an address, @domain, or a local part.")]
Json = Annotated[bool, typer.Option("--json", help="Machine-readable output.")]


@app.command("list")
def list_(
    pattern: Annotated[
        str, typer.Argument(metavar="PATTERN", help="Only entries with such an address or target; * is any text.")
    ] = "*",
    config: ConfigFile = None,
    as_json: Json = False,
) -> None:
    """Every entry of the alias file, in its order.

    Lines that cannot be used, wholly or in part, are named on the standard error; then the exit status is 1.
    """
    loaded = load(config, require_files=False)
    path = _alias_file(loaded)
    entries = _entries(path, loaded, config)
    counting = by_key(entries)
    shown = [entry for entry in entries if counting[entry.key] is entry and entry.counts and _fits(entry, pattern)]
    if as_json:
        print(json.dumps([_as_dict(entry) for entry in shown], indent=2))
    else:
        width = max((len(visible(entry.address)) for entry in shown), default=0)
        print(
            "\n".join(f"{visible(entry.address):<{width}}  {visible(entry.right_side)}" for entry in shown)
            or "no aliases"
        )
    for entry in entries:
        if (first := counting[entry.key]) is not entry and entry.counts:
            _say(f"{entry.where}: {entry.address} is ignored, for it stands at {first.where} already")
        for problem in entry.problems:
            _say(f"{entry.where}: {problem}")
    if any(entry.problems for entry in entries):
        raise typer.Exit(1)


@app.command()
def add(
    address: Address,
    targets: Annotated[
        list[str] | None, typer.Argument(metavar="TARGET", help="The addresses that get its mail.")
    ] = None,
    config: ConfigFile = None,
    reject: Annotated[
        str | None, typer.Option("--reject", metavar="TEXT", help="Close the address; the sender reads the text.")
    ] = None,
    replace: Annotated[bool, typer.Option("--replace", help="Replace the entry that is there.")] = False,
) -> None:
    """Add an entry at the end of the alias file, which is made where there is none.

    Everything else in the file stays as it is. A running relay knows the entry within two seconds.
    """
    loaded = load(config, require_files=False)
    path, local_domains = _alias_file(loaded), _local_domains(loaded)
    if bool(targets) == (reject is not None):
        raise typer.BadParameter("name the targets, or --reject with a text")
    try:
        entry = new_entry(address, targets or (), reject, local_domains)
    except BadEntry as error:
        raise typer.BadParameter(str(error)) from None
    change = _changed(
        path,
        lambda octets: alias_edit.added(octets, path, entry, local_domains, replace=replace),
        new_mode=NEW_MODE,
    )
    _say(f"{'replaced' if change.gone else 'added'} {address} {'in' if change.gone else 'to'} {path}")
    _say_domains(change, loaded, takes_all=address.startswith("@"))


@app.command()
def remove(address: Address, config: ConfigFile = None) -> None:
    """Remove an entry from the alias file, with all its lines. Everything else in the file stays as it is."""
    loaded = load(config, require_files=False)
    path, local_domains = _alias_file(loaded), _local_domains(loaded)
    if not path.exists():
        raise _no_file(path, config)
    change = _changed(path, lambda octets: alias_edit.removed(octets, path, address, local_domains))
    _say(f"removed {address} from {path}")
    _say_domains(change, loaded)


@app.command()
def test(
    address: Annotated[str, typer.Argument(metavar="ADDRESS", help="A whole address, or postmaster.")],
    config: ConfigFile = None,
    callout: Annotated[
        bool, typer.Option("--callout", help="Ask the mailbox host about the user, where the relay would.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Show the way of an address: what a stranger hears at RCPT, each entry on the way, and each next hop.

    Nothing is sent, and no relay has to run. An SRS or reply address of ours is tried as for a bounce. The exit status
    is 1 where the address is refused or deferred.
    """
    loaded = load(config, require_files=False)
    if not loaded.takes_mail:
        raise CommandFailed("no mail comes in, because the configuration has no [[listen]]")
    try:
        normal = address if address.lower() == "postmaster" else str(parse(address))
    except BadAddress as error:
        raise typer.BadParameter(f"{address!r}: {error}") from None
    logging.configure("json", "critical", sys.stderr)  # what the router warns of is in the way
    way = asyncio.run(_way(loaded, config, normal, callout=callout))
    if as_json:
        print(json.dumps(alias_way_view.as_dict(way), indent=2))
    else:
        alias_way_view.show(way, Console(markup=False, emoji=False, highlight=False))
    if not way.accepted:
        raise typer.Exit(1)


async def _way(config: Config, source: Path | None, address: str, *, callout: bool) -> Way:
    entries = dict[str, Entry]()
    for path in reversed([table for table in config.routes.aliases if isinstance(table, Path)]):
        entries.update(by_key(_entries(path, config, source)))
    try:
        tables = read_tables(config.routes, _local_domains(config))
        scheme = scheme_from_config(config)
    except ValueError as error:
        raise CommandFailed(str(error)) from None
    resolver = CachingResolver(config.dns.nameservers, config.dns.timeout, config.dns.cache_entries)
    try:
        return await way_of(address, config, scheme, tables, entries, resolver, callout=callout)
    except QueueUnavailable as error:
        raise CommandFailed(f"queue: {error}") from None
    finally:
        await resolver.close()
        await tables.opened.close()


def _alias_file(config: Config) -> Path:
    """The alias file. Raises CommandFailed: the configuration names none."""
    if config.routes.aliases and config.routes.alias_file is None:
        raise CommandFailed("routes.aliases names no file, and its other tables cannot be listed or edited here")
    if config.routes.alias_file is None:
        raise CommandFailed('the configuration has no routes.aliases: write aliases = "aliases" into [routes]')
    return config.routes.alias_file


def _local_domains(config: Config) -> Sequence[str]:
    return (*config.senders.local_domains, config.hostname)


def _entries(path: Path, config: Config, source: Path | None) -> list[Entry]:
    """The entries of the file. Raises CommandFailed: it is not there, or is no TOML; OSError: it cannot be read."""
    if not path.exists():
        raise _no_file(path, source)
    try:
        return list_entries(alias_text(content_of(path), path).written(str(path)), _local_domains(config))
    except AliasError as error:
        raise CommandFailed(str(error)) from None


def _no_file(path: Path, source: Path | None) -> CommandFailed:
    return CommandFailed(f"{path}: there is no such file{missing_file_mend('routes.aliases', path, source)}")


def _fits(entry: Entry, pattern: str) -> bool:
    return any(fnmatchcase(text.lower(), pattern.lower()) for text in (entry.address, *entry.targets))


def _as_dict(entry: Entry) -> dict[str, object]:
    return {
        "address": entry.address,
        "targets": list(entry.targets) if entry.reject is None else None,
        "reject": entry.reject,
        "line": entry.lines[0] if entry.lines else None,
    }


def _changed(path: Path, change: Callable[[bytes], Change], *, new_mode: int | None = None) -> Change:
    """Changes the file. Raises CommandFailed: it cannot be changed as asked; OSError: it cannot be written."""
    done: list[Change] = []

    def edit(octets: bytes) -> bytes:
        done.append(change(octets))
        return done[-1].octets

    try:
        change_file(path, edit, new_mode=new_mode)
    except (AliasEditError, NotChanged) as error:
        raise CommandFailed(str(error)) from None
    return done[-1]


def _say_domains(change: Change, config: Config, *, takes_all: bool = False) -> None:
    """Says which domains become ours by the change, or are no longer ours: that is about their other users, too."""
    others = (
        "mail for every address there is taken"
        if takes_all
        else ("every address there that no entry matches is refused as an unknown user (550 5.1.1)")
    )
    for domain in sorted(set(change.served) - config.routes.domains.keys()):
        _say(f"warning: the relay now serves {domain}: {others}")
    for domain in sorted(set(change.unserved) - config.routes.domains.keys()):
        _say(f"warning: the relay serves {domain} no longer: strangers cannot send there (550 5.7.1)")


def _say(text: str) -> None:
    print(visible(text), file=sys.stderr)
