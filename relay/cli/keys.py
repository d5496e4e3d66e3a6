"""`srs-relay keys …`: makes, lists, publishes and rotates DKIM keys."""

from __future__ import annotations

import asyncio
import json
import math
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from relay.authenticate import public_key
from relay.cli import config_edit, key_files, keys_view
from relay.cli.errors import CommandFailed
from relay.cli.options import ConfigFile
from relay.cli.present_keys import MissingKey, missing_keys, read_present
from relay.config.file import load
from relay.config.model import Config
from relay.config.sections import DkimSection
from relay.config.values import duration
from relay.dns import CachingResolver
from relay.mail.address import DOMAIN, normal_domain
from relay.process.files import read_signer
from relay.sign import keys
from relay.sign.keys import KeyType, SigningKey, zone_line
from relay.sign.published_key import Published, compare
from relay.sign.rotation import kind_after
from relay.sign.signing_table import AUTHORS_DOMAIN

app = typer.Typer(no_args_is_help=True, help="DKIM keys: make them, list them, publish them, change them.")

_LONGEST_WAIT = 366 * 86400.0  # seconds until a new key signs
Json = Annotated[bool, typer.Option("--json", help="Machine-readable output.")]


def _name(value: str | None) -> str | None:
    if value is None:
        return None
    name = normal_domain(value)
    if not name.isascii() or not DOMAIN.match(name):
        raise typer.BadParameter(f"{value!r} is not a domain name")
    return name


@app.command()
def new(
    config: ConfigFile = None,
    domain: Annotated[
        str | None, typer.Option(metavar="DOMAIN", callback=_name, help="Whom it signs as (default: srs.domain).")
    ] = None,
    selector: Annotated[
        str | None, typer.Option(metavar="NAME", callback=_name, help="Its name in DNS (default: the next free one).")
    ] = None,
    algorithm: Annotated[KeyType, typer.Option(help="RSA with 2048 bits is what everybody verifies.")] = "rsa2048",
    out: Annotated[
        Path | None,
        typer.Option(metavar="FILE", dir_okay=False, help="Default: dkim/DOMAIN.SELECTOR.pem beside the config."),
    ] = None,
) -> None:
    """Make a key; print its record and its lines for the config.

    If the configuration names keys whose files are missing, it makes these, in the files that are named.
    """
    loaded = load(config, require_files=False)
    missing = [
        key
        for key in missing_keys(loaded)
        if domain in (None, key.domain) and selector in (None, key.selector) and out is None
    ]
    if missing:
        _make_missing(missing, algorithm)
        return
    domain = domain or loaded.srs.domain
    taken = _selectors(loaded, read_present(loaded).keys, domain)
    if selector in taken:
        raise CommandFailed(f"{selector}._domainkey.{domain} is configured already; take another --selector")
    selector = selector or key_files.free_selector(config, domain, taken)
    path = out or key_files.default_path(config, domain, selector)
    key = key_files.make_key(path, algorithm, domain, selector)
    print("; Publish this record, wait until DNS has it, then add the lines below to the configuration, and reload.")
    print(zone_line(key.record_name, key.public_record()))
    print()
    print(config_edit.toml_entry(key_files.entry(key, path, config)), end="")
    print(f"wrote {path}", file=sys.stderr)


def _make_missing(missing: Sequence[MissingKey], algorithm: KeyType) -> None:
    """Make the keys whose files the configuration names; those that share a file share the key."""
    if algorithm == "ed25519" and any(key.seals for key in missing):
        raise typer.BadParameter(
            "ARC takes RSA keys only, and the key of [arc] is missing, too", param_hint="--algorithm"
        )
    made = dict[Path, SigningKey]()
    for key in missing:
        if key.path not in made:
            made[key.path] = key_files.make_key(key.path, algorithm, key.domain, key.selector)
    print("; The configuration has the keys of these records already: publish them.")
    for key in missing:
        print(zone_line(key.record_name, made[key.path].public_record()))
    print(f"wrote {', '.join(map(str, made))}", file=sys.stderr)


@app.command("list")
def list_(config: ConfigFile = None, as_json: Json = False) -> None:
    """Every key: when it signs, what it signs, and whether DNS has it."""
    loaded, now = load(config, require_files=False), time.time()
    signer = read_present(loaded)
    published = asyncio.run(_published(loaded, signer.keys))
    sealing = signer.sealing_key(now) if loaded.arc.seal else None
    rows = [keys_view.row(signer, key, sealing, now, published.get(key.record_name)) for key in signer.keys]
    rows += map(keys_view.missing_row, missing_keys(loaded))
    if as_json:
        print(json.dumps(rows, indent=2))
    else:
        print("\n".join(map(keys_view.lines, rows)) or "no keys")


@app.command()
def dns(config: ConfigFile = None, as_json: Json = False) -> None:
    """The records of the keys.

    Those of retired keys are there, too, as long as their signatures may be verified.
    """
    loaded, now = load(config, require_files=False), time.time()
    signer = read_present(loaded)
    for absent in missing_keys(loaded):
        problem = keys_view.missing_row(absent)["problem"]
        print(f"{absent.record_name} has no key: {problem}", file=sys.stderr)
    if as_json:
        rows = [keys_view.record(key, now, loaded.queue.retry_for) for key in signer.keys]
        print(json.dumps([row for row in rows if row["needed"]], indent=2))
    for key in () if as_json else signer.keys:
        print(keys_view.zone_entry(key, now, loaded.queue.retry_for))


@app.command()
def rotate(
    config: ConfigFile = None,
    domain: Annotated[
        str | None, typer.Option(metavar="DOMAIN", callback=_name, help="Whose keys (default: the forwarder's).")
    ] = None,
    after: Annotated[
        str, typer.Option(metavar="TIME", help="How long DNS has until the new key signs, like 12h or 3d.")
    ] = "3d",
) -> None:
    """Make the next key; write into the config when it takes over."""
    if config is None:
        raise typer.BadParameter("it is the file that is changed", param_hint="--config")
    now = time.time()
    turn = math.ceil((now + _seconds(after)) / 60) * 60.0
    loaded = load(config)
    signer = read_signer(loaded)
    if domain is None:
        domain = signer.table.forwarder[0].domain if signer.table.forwarder else loaded.srs.domain
    taken = _selectors(loaded, signer.keys, domain)
    text = before = config.read_bytes().decode("utf-8")
    changed: list[SigningKey] = []
    written: list[Path] = []
    try:
        for entry, old in _to_rotate(loaded, domain, taken, now):
            selector, at = key_files.free_selector(config, domain, taken), min(turn, old.active_until)
            path = key_files.default_path(config, domain, selector)
            fresh = key_files.make_key(path, kind_after(old), domain, selector)
            written.append(path)
            taken.append(selector)
            changed += [replace(fresh, active_from=at), replace(old, active_until=at)]
            successor = key_files.entry(fresh, path, config)
            if entry.sign:
                successor["sign"] = list(entry.sign)
            successor["active_from"] = key_files.moment(at)
            text = config_edit.with_successor(
                text, domain, old.selector, {"active_until": key_files.moment(at)}, successor
            )
        config_edit.replace_config(config, before, text)
    except BaseException:
        for path in written:
            path.unlink()
        raise
    print("\n".join(keys_view.zone_entry(key, now, loaded.queue.retry_for) for key in changed))
    first = keys_view.date(min(key.active_from for key in changed[::2]))
    print(f"wrote {', '.join(map(str, [*written, config]))}; reload the relay before {first}", file=sys.stderr)


def _seconds(text: str) -> float:
    try:
        seconds = duration(text)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--after") from None
    if seconds > _LONGEST_WAIT:
        raise typer.BadParameter("a year at most", param_hint="--after")
    return seconds


def _selectors(config: Config, signing_keys: Iterable[SigningKey], domain: str) -> list[str]:
    """The selectors of a domain, also those of keys whose files are missing."""
    present = [key.selector for key in signing_keys if key.domain == domain]
    return [*present, *(key.selector for key in missing_keys(config) if key.domain == domain)]


def _to_rotate(config: Config, domain: str, taken: list[str], now: float) -> Iterator[tuple[DkimSection, SigningKey]]:
    """The active keys of a domain.

    Raises:
        CommandFailed: it has none, or the next key exists already and is not active yet.
    """
    entries = [(entry, keys.load(entry)) for entry in config.dkim if entry.domain == domain]
    if taken and not entries:
        raise CommandFailed(
            f"the keys of {domain} are not in [[dkim]], and only those are rotated;"
            f" one of `srs-relay keys new --domain {domain}` comes before OpenDKIM's"
        )
    for _, key in entries:
        if key.state(now) == "waiting":
            raise CommandFailed(f"{key.record_name} waits already, and signs from {keys_view.date(key.active_from)} on")
    active = [(entry, key) for entry, key in entries if key.state(now) == "active"]
    if not active:
        raise CommandFailed(f"{domain} has no active key in [[dkim]]; `srs-relay keys new` makes one")
    yield from active


async def _published(config: Config, signing_keys: Iterable[SigningKey]) -> dict[str, Published]:
    """What DNS has for each of the keys, by the name of the record."""
    resolver = CachingResolver(config.dns.nameservers, config.dns.timeout, config.dns.cache_entries)
    by_name = {key.record_name: key for key in signing_keys if key.domain != AUTHORS_DOMAIN}
    try:
        records = await public_key.look_up(resolver, by_name)
    finally:
        await resolver.close()
    return {name: compare(key, records[name]) for name, key in by_name.items()}
