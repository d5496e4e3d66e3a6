"""PostSRSd 2: postsrsd.conf."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path

from relay.config.values import domain_name
from relay.importer import confuse
from relay.importer.draft import Draft, ImportFailed, Origin
from relay.importer.postsrsd_srs import (
    SRS,
    add_table,
    address,
    port_number,
    set_hash_lengths,
    set_local_domains,
    set_scheme,
    set_secrets,
)
from relay.importer.source_file import read_text

_INCLUDES = 5  # how deep include() may go
_TRUE = ("true", "on", "yes")  # of libconfuse
_SECRETS = "/etc/postsrsd.secret"
_SOCKETMAP = "unix:/var/spool/postfix/srs"
_NEW_TABLE = ("127.0.0.1:10003", "127.0.0.1:10004")  # while PostSRSd keeps its own socket
_KNOWN = {"domains", "domains-file", "srs-domain", "socketmap", "original-envelope", "envelope-database"} | {
    *("secrets-file", "separator", "hash-length", "hash-minimum", "milter", "always-rewrite")
}
_HARMLESS = {
    "chroot-dir": "the relay has no chroot; the unit in docs/operating.md confines it (systemd: ProtectSystem=).",
    "connection-limit": "the relay has its own limits for connections of Postfix.",
    "daemonize": "the relay stays in the foreground, under its service.",
    "debug": "the log's level is log.level.",
    "domains-file-watch": "senders.local_domains is in relay.toml; `systemctl reload srs-relay` reads it again.",
    "keep-alive": "the relay has its own limits for connections of Postfix.",
    "milter-recipient-limit": "the relay is no milter.",
    "milter-rewrite-local": "the relay is no milter.",
    "pid-file": "the relay writes no PID file.",
    "seccomp": "the unit in docs/operating.md confines the relay.",
    "syslog": "the log goes to stdout, so to the journal.",
    "unprivileged-user": "the relay runs as the user that its service names (systemd: User=).",
}

Options = dict[str, tuple[tuple[str, ...], Origin]]


def draft(path: Path, text: str) -> Draft:
    """The configuration in a file with this text. Raises ImportFailed: it cannot be read."""
    result = Draft("PostSRSd 2", str(path))
    options: Options = {}
    _read(options, path, text, 0)
    for name, (_, origin) in options.items():
        if name in _HARMLESS:
            result.no_counterpart(origin, _HARMLESS[name])
        elif name not in _KNOWN:
            result.no_counterpart(origin, "PostSRSd 2 does not know this option.", matters=True)
    _domains(result, options, path.parent)
    secrets = _one(options, "secrets-file")
    origin = secrets[1] if secrets is not None else Origin("PostSRSd's default of secrets-file", "")
    set_secrets(result, path.parent / ((secrets and secrets[0]) or _SECRETS), origin)
    set_scheme(result, _one(options, "separator"))
    set_hash_lengths(result, _number(result, options, "hash-length"), _number(result, options, "hash-minimum"))
    if (always := _one(options, "always-rewrite")) is not None and always[0].lower() in _TRUE:
        meaning = "senders of the SRS domain itself, and SRS addresses of ours, stay as they are here."
        result.no_counterpart(always[1], meaning, matters=True)
    _sockets(result, options)
    return result


def _read(options: Options, path: Path, text: str, depth: int) -> None:
    try:
        found = list(confuse.options(text, os.environ))
    except ValueError as error:
        raise ImportFailed(f"{path}: {error}") from None
    for option in found:
        origin = Origin(option.name, f"{path}:{option.line}")
        if option.name == "include":
            if depth == _INCLUDES:
                raise ImportFailed(f"{origin.where}: more than {_INCLUDES} files that include each other")
            for name in option.values:
                _read(options, path.parent / name, read_text(path.parent / name), depth + 1)
        elif option.appends and option.name in options:
            options[option.name] = ((*options[option.name][0], *option.values), origin)
        else:
            options[option.name] = (option.values, origin)


def _domains(result: Draft, options: Options, folder: Path) -> None:
    """The SRS domain: by default the first of the local domains; and the local domains."""
    first: tuple[str, Origin] | None = _one(options, "srs-domain")
    domains = options.get("domains")
    if domains is not None and domains[0]:
        set_local_domains(result, domains[0], domains[1])
        first = first or (domains[0][0], domains[1])
    file = _one(options, "domains-file")
    if file is not None:
        names = _domains_of_file(result, folder / file[0], file[1])
        set_local_domains(result, names, file[1])
        if names:
            first = first or (names[0], file[1])
            meaning = (
                "the domains are in relay.toml now: write a new one there, too, and reload the relay"
                " (`systemctl reload srs-relay`)."
            )
            result.no_counterpart(Origin(f"{file[1].name} = {file[0]}", file[1].where), meaning, matters=True)
    if first is None:
        return
    try:
        result.set(SRS, "domain", domain_name(first[0].removeprefix(".")), first[1])
    except ValueError:
        result.no_counterpart(first[1], f"{first[0]!r} is no domain name, so srs.domain is to fill in.", matters=True)


def _domains_of_file(result: Draft, path: Path, origin: Origin) -> list[str]:
    try:
        text = read_text(path)
    except ImportFailed as error:
        meaning = f"{error}. Write its domains into senders.local_domains."
        result.no_counterpart(origin, meaning, matters=True)
        return []
    lines = (re.split(r"[#\r]", line)[0].strip() for line in text.split("\n"))
    return [line for line in lines if line]


def _sockets(result: Draft, options: Options) -> None:
    given = options.get("socketmap")
    value, origin = (given[0][0] if given and given[0] else "", str(given[1])) if given else (_SOCKETMAP, "")
    origin = origin or "PostSRSd's default of socketmap"
    envelope = _one(options, "original-envelope")
    stored = envelope is not None and envelope[0].lower() == "database"
    if stored and envelope is not None:
        own = next(new for new in _NEW_TABLE if not value.endswith(new[-6:]))
        _database(result, options, envelope[1], value, own)
        comment = f"Beside PostSRSd, which keeps {value} for the senders in its database."
        if value:
            add_table(result, own, "socketmap", "", "", comment)
    elif value:
        _socketmap(result, value, origin)
    milter = _one(options, "milter")
    if milter is not None and milter[0]:
        meaning = (
            f"the relay is no milter. Remove {milter[0]} from smtpd_milters and ask the tables instead"
            " (sender_canonical_maps, recipient_canonical_maps): they rewrite the sender of all mail, also of mail that"
            " stays on the host."
        )
        result.no_counterpart(milter[1], meaning, matters=True)
        if not value:
            add_table(result, _NEW_TABLE[0], "socketmap", "", "", "In the place of PostSRSd's milter.")


def _socketmap(result: Draft, value: str, origin: str) -> None:
    comment = (
        "Postfix asks here (sender_canonical_maps = socketmap:…:forward, recipient_canonical_maps ="
        " socketmap:…:reverse) in the place of PostSRSd. One of the two programs has the socket."
    )
    kind, _, rest = value.partition(":")
    if kind in ("unix", "local"):
        comment += f" The user of the relay has to be able to make a socket in {Path(rest).parent}."
        add_table(result, f"unix:{rest}", "socketmap", "", origin, comment)
        return
    host, _, port = rest.rpartition(":")
    number = port_number(port) if kind in ("inet", "inet4", "inet6") else None
    name = "::1" if (kind, host) == ("inet6", "localhost") else host
    listening = "" if number is None else address(name, number)
    if not listening:
        meaning = f"{value} cannot be taken over; the table listens on {_NEW_TABLE[0]}."
        result.no_counterpart(Origin(origin, ""), meaning, matters=True)
        listening, origin = _NEW_TABLE[0], ""
    add_table(result, listening, "socketmap", "", origin, comment)


def _database(result: Draft, options: Options, origin: Origin, socketmap: str, own: str) -> None:
    """Senders in PostSRSd's database: their addresses say only where in the database they are."""
    database = _one(options, "envelope-database")
    store = database[0] if database is not None and database[0] else "its database"
    meaning = (
        f"the senders that PostSRSd has stored in {store} cannot be taken over. Their addresses (SRS0=…=1=…) only"
        " name an entry of it, so their bounces would be lost. Let PostSRSd run for 21 days after the change, and let"
        f" Postfix ask it first on the way back: recipient_canonical_maps = socketmap:{socketmap or '…'}:reverse,"
        f" socketmap:inet:{own}:reverse. New senders are written into the address itself; those that are too"
        " long for that stay as they are, unless the relay is the MTA."
    )
    result.no_counterpart(origin, meaning, matters=True)


def _one(options: Mapping[str, tuple[tuple[str, ...], Origin]], name: str) -> tuple[str, Origin] | None:
    """The value of an option; None if it is not set, or empty."""
    found = options.get(name)
    return (found[0][-1], found[1]) if found is not None and found[0] and found[0][-1] else None


def _number(result: Draft, options: Options, name: str) -> tuple[int, Origin] | None:
    found = _one(options, name)
    if found is None:
        return None
    if not re.fullmatch(r"\d{1,4}", found[0]):
        result.no_counterpart(found[1], f"{found[0]!r} is no number; the default is used.", matters=True)
        return None
    return int(found[0]), found[1]
