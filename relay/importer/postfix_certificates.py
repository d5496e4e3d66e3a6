"""`[tls]`: the certificates that Postfix shows (`smtpd_tls_…`, `tls_server_sni_maps`)."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from relay.importer.draft import Draft, ImportFailed, Key, Origin
from relay.importer.lookup_tables import entries, origin_of, tables
from relay.importer.main_cf import MainCf, split_list
from relay.importer.postfix_smtpd import Smtpd
from relay.importer.source_file import read_text
from relay.mail.address import is_domain, normal_domain

_LEGACY = (("smtpd_tls_cert_file", "smtpd_tls_key_file"), ("smtpd_tls_eccert_file", "smtpd_tls_eckey_file"))
_RENEWED = "Read again when it changes."


class _Pair(NamedTuple):
    """A certificate and its key, each with its origin; `host` is for which name it is shown, empty for all its own."""

    certificate: Path
    private_key: Path
    origins: tuple[Origin, Origin]
    host: str = ""


def set_certificates(draft: Draft, ports: Sequence[Smtpd]) -> None:
    """Set the certificates of all ports that have TLS; the first is shown to clients that name no host."""
    found: dict[tuple[Path, Path, str], _Pair] = {}
    for smtpd in ports:
        if smtpd.tls != "none" or smtpd.login != "none":
            for pair in (*_chains(draft, smtpd.main_cf), *_by_name(draft, smtpd.main_cf)):
                found.setdefault((pair.certificate, pair.private_key, pair.host), pair)
    for number, pair in enumerate(found.values(), 1):
        _set(draft, pair, number)
    users = next((smtpd for smtpd in ports if smtpd.login != "none"), None)
    if users is not None and not found:
        text = f"clients log in inside TLS only ({users.main_cf.origin('smtpd_sasl_auth_enable')})."
        draft.ask(("tls",), "certificate", "fullchain.pem", text)
        draft.ask(("tls",), "private_key", "privkey.pem", "the key of the certificate.")


def _set(draft: Draft, pair: _Pair, number: int) -> None:
    """The first without a name has the table `[tls]`, all others have tables of their own."""
    names = (("certificate", "fullchain", pair.certificate), ("private_key", "privkey", pair.private_key))
    if number == 1 and not pair.host:
        for (key, copy, file), origin in zip(names, pair.origins, strict=True):
            comment = _RENEWED if key == "certificate" else ""
            draft.their_file(("tls",), key, file, f"{copy}.pem", origin, comment)
        return
    keys: dict[str, Key] = {}
    for (name, copy, file), origin in zip(names, pair.origins, strict=True):
        keys[name] = Key(str(file), str(origin))
        draft.may_copy(f"tls.certificates.{name}", keys[name], file, f"{copy}-{number}.pem")
    if pair.host:
        keys["hosts"] = Key((pair.host,), str(pair.origins[0]))
    draft.entry("tls.certificates", keys)


def _chains(draft: Draft, main_cf: MainCf) -> Iterator[_Pair]:
    """The certificates for every name. `smtpd_tls_chain_files` goes before the older parameters."""
    files = split_list(main_cf.get("smtpd_tls_chain_files"))
    if files:
        yield from _pairs(draft, main_cf, files, main_cf.origin("smtpd_tls_chain_files"))
        return
    for certificate, key in _LEGACY:
        path = main_cf.get(certificate)
        if path and path.lower() != "none":
            origins = (main_cf.origin(certificate), main_cf.origin(key))
            yield _Pair(main_cf.path(path), main_cf.path(main_cf.get(key)), origins)


def _by_name(draft: Draft, main_cf: MainCf) -> Iterator[_Pair]:
    """The certificates for clients that name a host."""
    for table in tables(main_cf, "tls_server_sni_maps"):
        origin = origin_of(main_cf, "tls_server_sni_maps", table)
        try:
            rows = entries(main_cf, table)
        except ImportFailed as error:
            meaning = f"{error}. Write a table [[tls.certificates]] for each of its names."
            draft.no_counterpart(origin, meaning, matters=True)
            continue
        for row in rows:
            where = Origin(f"tls_server_sni_maps {row.key}", row.where)
            name = normal_domain(row.key.removeprefix("."))
            if not is_domain(name):
                draft.no_counterpart(where, f"{row.key} is no name of a host, so it is left out.", matters=True)
                continue
            if row.key.startswith("."):
                draft.no_counterpart(where, f"*.{name} stands for one more label, not for several.", matters=True)
            host = f"*.{name}" if row.key.startswith(".") else name
            for pair in _pairs(draft, main_cf, split_list(row.value), where):
                yield pair._replace(host=host)


def _pairs(draft: Draft, main_cf: MainCf, files: Sequence[str], origin: Origin) -> Iterator[_Pair]:
    """The certificates in a list of chain files: each has its key in front of it, or in the file before."""
    waiting: Path | None = None
    for path in map(main_cf.path, files):
        keys, certificates = _content(path)
        if keys > 1:
            meaning = f"{path} has several certificates; the relay takes a file for each, so the first alone is shown."
            draft.no_counterpart(origin, meaning, matters=True)
        if keys and not certificates:
            waiting = path
        else:
            key = path if keys or waiting is None else waiting
            waiting = None
            yield _Pair(path, key, (origin, origin))


def _content(path: Path) -> tuple[int, int]:
    """How many keys and certificates a file has; one of each in a file that cannot be read, as Postfix advises."""
    try:
        text = read_text(path)
    except ImportFailed:
        return 1, 1
    return len(re.findall("-----BEGIN [A-Z ]*PRIVATE KEY-----", text)), text.count("-----BEGIN CERTIFICATE-----")
