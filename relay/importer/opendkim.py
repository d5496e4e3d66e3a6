"""`import opendkim`: opendkim.conf, or the folder of OpenDKIM's tables.

Keys and tables are read where they are (`signing.opendkim`), so that both programs sign with the same ones.
"""

from __future__ import annotations

import ipaddress
from pathlib import Path

from relay.config.opendkim import Installation
from relay.config.opendkim_syntax import ConfSetting
from relay.importer import milter_conf, opendkim_copy
from relay.importer.asked import ask_for_host, ask_for_srs, tell_routes
from relay.importer.draft import Draft, ImportFailed, Origin
from relay.importer.opendkim_meanings import MEANINGS
from relay.sign.opendkim_keys import read_rules

_SIGNING = ("signing",)
_READ = (
    "KeyTable",
    "SigningTable",
    "Domain",
    "Selector",
    "KeyFile",
    "SubDomains",
    "MultipleSignatures",
    "InternalHosts",
)
_KEYS = {"keytable", "keyfile"}
_MAPPED = ("AuthservID", "BaseDirectory", "DNSTimeout", "Include", "MaximumHeaders", "Mode", "Nameservers")
KNOWN = (*MEANINGS, *_READ, *_MAPPED)
_TABLES = ("KeyTable", "key.table", "keytable", "SigningTable", "signing.table", "signingtable")


def read(path: Path) -> Draft:
    """The configuration in opendkim.conf, or in a folder that has one, or has the tables alone.

    Raises:
        ImportFailed: it is none of OpenDKIM, or cannot be read.
    """
    installation = _installation(path)
    settings = installation.settings
    draft = Draft("OpenDKIM", str(path))
    milter_conf.set_authserv_id(draft, settings)
    milter_conf.set_dns_timeout(draft, settings)
    _set_nameservers(draft, settings)
    _set_header_size(draft, settings)
    if _signs(draft, settings):
        _set_signing(draft, installation, path)
    milter_conf.tell_unmapped(draft, settings, MEANINGS)
    milter_conf.tell_unknown(draft, settings, KNOWN)
    ask_for_host(draft)
    ask_for_srs(draft)
    tell_routes(draft)
    return draft


def _installation(path: Path) -> Installation:
    """The files that a path stands for."""
    if path.is_dir():
        conf = next((file for file in (path / "opendkim.conf", path.parent / "opendkim.conf") if file.is_file()), None)
        if conf is None and not any((path / name).exists() for name in _TABLES):
            raise ImportFailed(f"{path}: there is no opendkim.conf in this folder, and no KeyTable or SigningTable")
    else:
        conf = path
    settings = milter_conf.read(conf) if conf is not None else {}
    if conf is not None:
        milter_conf.check(conf, settings, KNOWN, "OpenDKIM")
    folder = path if path.is_dir() else path.parent
    base = Path(settings["basedirectory"].value) if "basedirectory" in settings else folder
    return Installation(conf, settings, folder, base)


def _signs(draft: Draft, settings: dict[str, ConfSetting]) -> bool:
    """Whether it signs; says so where it does one thing alone."""
    mode = settings.get("mode")
    if mode is None or not mode.value:
        return True
    origin, value = Origin("Mode", mode.where), mode.value.lower()
    if "s" not in value:
        draft.no_counterpart(
            origin, f"{mode.value}: OpenDKIM does not sign, so signing.opendkim is left out.", matters=True
        )
        return False
    if "v" not in value:
        meaning = (
            f"{mode.value}: the relay verifies as well, all mail of strangers; what that leads to is in [spf] and"
            " [dmarc]."
        )
        draft.no_counterpart(origin, meaning, matters=True)
    return True


def _set_signing(draft: Draft, installation: Installation, path: Path) -> None:
    """`signing.opendkim`, and what the administrator should know of what it reads."""
    settings = installation.settings
    if installation.conf is not None and not _KEYS.intersection(settings):
        meaning = (
            "OpenDKIM has no key here (neither KeyTable nor KeyFile), so signing.opendkim is left out. `srs-relay keys"
            " new` makes one."
        )
        draft.no_counterpart(Origin("KeyFile", ""), meaning, matters=True)
        return
    read = [f"{name} ({settings[name.lower()].where})" for name in _READ if name.lower() in settings]
    comment = (
        f"Read from there at each start: {', '.join(read)}."
        if read
        else "Its tables are read from there at each start."
    )
    if "internalhosts" in settings:
        comment += " The addresses in InternalHosts are trusted clients: they may send to any recipient."
    draft.set(_SIGNING, "opendkim", str(path.absolute()), Origin("OpenDKIM", str(path)), comment)
    try:
        problem = _problem(installation, path)
        hosts = installation.internal_hosts()
    except PermissionError as error:
        meaning = f"{error.filename}: {error.strerror}. The relay has to be able to read it."
        draft.no_counterpart(Origin("signing.opendkim", ""), meaning, matters=True)
        return
    except (OSError, ValueError) as error:
        problem = f"{error.filename}: {error.strerror}" if isinstance(error, OSError) else str(error)
    if problem:
        key = draft.tables[_SIGNING]["opendkim"]
        key.kind, key.comment = "fill in", f"See the end for what to mend before. {comment}"
        meaning = f"{problem}. The relay does not start with it, so this key is a comment, and nothing is signed."
        draft.no_counterpart(Origin("signing.opendkim", ""), meaning, matters=True)
        return
    for entry in hosts.names:
        meaning = (
            f"{entry.key}: OpenDKIM does not match a network with bits behind its prefix, so it is not trusted either."
            if "/" in entry.key
            else f"{entry.key} is a name: only a name server could say who that is, so it is not trusted."
        )
        draft.no_counterpart(Origin("InternalHosts", entry.where), meaning, matters=True)
    opendkim_copy.offer(draft, installation)


def _problem(installation: Installation, path: Path) -> str:
    """Why the relay would not start with these tables and keys; empty if it would.

    Raises:
        OSError, ValueError: it would not either.
    """
    installation.key_table()
    installation.signing_table()
    for key in installation.key_files():
        if not key.exists():
            return f"{key}: this key is not there"
        key.open("rb").close()
    read_rules(path)
    return ""


def _set_nameservers(draft: Draft, settings: dict[str, ConfSetting]) -> None:
    setting = settings.get("nameservers")
    if setting is None:
        return
    origin, servers = Origin("Nameservers", setting.where), list[str]()
    for server in filter(None, map(str.strip, setting.value.split(","))):
        try:
            servers.append(str(ipaddress.ip_address(server)))
        except ValueError:
            draft.no_counterpart(origin, f"{server!r} is no address, so it is left out.", matters=True)
    draft.add(("dns",), "nameservers", servers, origin)


def _set_header_size(draft: Draft, settings: dict[str, ConfSetting]) -> None:
    setting = settings.get("maximumheaders")
    if setting is None:
        return
    origin = Origin("MaximumHeaders", setting.where)
    if setting.value.isdecimal() and int(setting.value):
        draft.set(("receive",), "max_header_size", int(setting.value), origin)
    else:
        draft.no_counterpart(origin, "the header always has a limit (receive.max_header_size).")
