"""PostSRSd 1: /etc/default/postsrsd, or a systemd unit with its variables or its command line."""

from __future__ import annotations

import getopt
import re
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from relay.config.values import domain_name
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
from relay.importer.shell_variables import Variable, Word, shell_variables, unit_lines, words
from relay.importer.source_file import read_text

# What the start scripts of the packages set before they source the file.
_DEFAULTS = {
    "SRS_FORWARD_PORT": "10001",
    "SRS_REVERSE_PORT": "10002",
    "SRS_SECRET": "/etc/postsrsd.secret",
    "SRS_LISTEN_ADDR": "127.0.0.1",
}
_OPTIONS = {  # of the command line, and the variables that mean the same
    "d": "SRS_DOMAIN",
    "a": "SRS_SEPARATOR",
    "l": "SRS_LISTEN_ADDR",
    "f": "SRS_FORWARD_PORT",
    "r": "SRS_REVERSE_PORT",
    "s": "SRS_SECRET",
    "n": "SRS_HASHLENGTH",
    "N": "SRS_HASHMIN",
    "u": "RUN_AS",
    "t": "SRS_TIMEOUT",
    "p": "SRS_PID_FILE",
    "c": "CHROOT",
    "X": "SRS_EXCLUDE_DOMAINS",
}
_MORE_EXCLUDED = "-X"  # of SRS_EXTRA_OPTIONS: it counts beside the variable
_HARMLESS = {
    "RUN_AS": "the relay runs as the user that its service names (systemd: User=).",
    "CHROOT": "the relay has no chroot; the unit in docs/operating.md confines it (systemd: ProtectSystem=).",
    "SRS_TIMEOUT": "the relay has its own limits for connections of Postfix.",
    "SRS_PID_FILE": "the relay writes no PID file.",
}


class _Setting(NamedTuple):
    value: str | None  # None: the output of a command
    origin: Origin


def draft(path: Path, text: str) -> Draft:
    """The configuration in a file with this text. Raises ImportFailed: it cannot be read."""
    result = Draft("PostSRSd 1", str(path))
    settings: dict[str, _Setting] = {}
    try:
        if re.search(r"^\s*\[Service\]\s*$", text, re.MULTILINE):
            _read_unit(result, settings, path, text)
        else:
            _read_variables(result, settings, path, text)
        _extra_options(result, settings)
    except ValueError as error:
        if isinstance(error, ImportFailed):
            raise
        raise ImportFailed(f"{path}: {error}") from None
    _fill(result, settings)
    return result


def _read_variables(result: Draft, settings: dict[str, _Setting], path: Path, text: str) -> None:
    known = {name: setting.value or "" for name, setting in settings.items()}
    for read in shell_variables(text, {**_DEFAULTS, **known}):
        where = f"{path}:{read.line}"
        if isinstance(read, Variable):
            settings[read.name] = _Setting(read.value, Origin(read.name, where))
        else:
            meaning = (
                "a blank ended the value before it, so the shell takes it for a command. If it belongs to the value,"
                " put quotes around the whole."
                if read.after_assignment
                else "this shell command is not run, and no condition is looked at: see whether the values are right."
            )
            result.no_counterpart(Origin(read.value, where), meaning, matters=True)


def _read_unit(result: Draft, settings: dict[str, _Setting], path: Path, text: str) -> None:
    for line in unit_lines(text):
        where = f"{path}:{line.line}"
        if line.name == "Environment":
            for word in words(line.value, {}):
                name, _, value = word.value.partition("=")
                settings[name] = _Setting(value, Origin(name, where))
        elif line.name == "EnvironmentFile" and line.value:
            file = Path(line.value.removeprefix("-"))
            if file.exists() or not line.value.startswith("-"):
                _read_variables(result, settings, file, read_text(file))
        elif line.name == "ExecStart" and line.value:
            values = {name: setting.value or "" for name, setting in settings.items()}
            _command_line(result, settings, list(words(line.value, values))[1:], where)


def _command_line(result: Draft, settings: dict[str, _Setting], arguments: list[Word], where: str) -> None:
    try:
        options, _ = getopt.getopt([word.value for word in arguments], "46d:a:l:f:r:s:n:N:u:t:p:c:X:ADhev")
    except getopt.GetoptError as error:
        raise ImportFailed(f"{where}: {error}") from None
    for option, value in options:
        name = _OPTIONS.get(option[1:])
        if name is not None:
            settings[name] = _Setting(value, Origin(option, where))
        elif option in ("-A", "-4", "-6"):
            _option_without_counterpart(result, Origin(option, where))


def _extra_options(result: Draft, settings: dict[str, _Setting]) -> None:
    """SRS_EXTRA_OPTIONS stand first on the command line, so the variables win over them."""
    extra = settings.pop("SRS_EXTRA_OPTIONS", None)
    if extra is None or not extra.value:
        return
    before: dict[str, _Setting] = {}
    _command_line(result, before, list(words(extra.value, {})), extra.origin.where)
    for name, setting in before.items():
        here = setting._replace(origin=Origin(f"SRS_EXTRA_OPTIONS {setting.origin.name}", extra.origin.where))
        if name == "SRS_EXCLUDE_DOMAINS":
            settings[_MORE_EXCLUDED] = here
        else:
            settings.setdefault(name, here)


def _option_without_counterpart(result: Draft, origin: Origin) -> None:
    if origin.name == "-A":
        meaning = "senders of the SRS domain itself, and SRS addresses of ours, stay as they are here."
        result.no_counterpart(origin, meaning, matters=True)
    else:
        result.no_counterpart(origin, "the address of each table says the family.")


def _fill(result: Draft, settings: Mapping[str, _Setting]) -> None:
    domain = settings.get("SRS_DOMAIN")
    if domain is not None and domain.value is None:
        result.no_counterpart(
            domain.origin, "it is the output of a command, so srs.domain is to fill in.", matters=True
        )
    elif domain is not None and domain.value:
        try:
            result.set(SRS, "domain", domain_name(domain.value), domain.origin)
        except ValueError:
            meaning = f"{domain.value!r} is no domain name, so srs.domain is to fill in."
            result.no_counterpart(domain.origin, meaning, matters=True)
    secret = _or_default(settings, "SRS_SECRET")
    set_secrets(result, Path("/", secret.value or _DEFAULTS["SRS_SECRET"]), secret.origin)
    separator = settings.get("SRS_SEPARATOR")
    set_scheme(result, (separator.value, separator.origin) if separator is not None and separator.value else None)
    lengths = (_number(result, settings, name) for name in ("SRS_HASHLENGTH", "SRS_HASHMIN"))
    set_hash_lengths(result, *lengths)
    for name in ("SRS_EXCLUDE_DOMAINS", _MORE_EXCLUDED):
        if (excluded := settings.get(name)) is None:
            continue
        set_local_domains(result, filter(None, re.split(r"[,;\s]+", excluded.value or "")), excluded.origin)
    for name, direction in (("SRS_FORWARD_PORT", "forward"), ("SRS_REVERSE_PORT", "reverse")):
        _table(result, settings, name, direction)
    for name, setting in settings.items():
        if setting.value is None and name != "SRS_DOMAIN" and (name in _OPTIONS.values() or name == _MORE_EXCLUDED):
            meaning = "it is the output of a command, which is not run: write the value yourself."
            result.no_counterpart(setting.origin, meaning, matters=name not in _HARMLESS)
        elif name in _HARMLESS and setting.value:
            result.no_counterpart(setting.origin, _HARMLESS[name])
        elif name.startswith("SRS_") and name not in _OPTIONS.values():
            result.no_counterpart(setting.origin, "PostSRSd 1 does not know this variable.")


def _table(result: Draft, settings: Mapping[str, _Setting], name: str, direction: str) -> None:
    port_setting, host_setting = _or_default(settings, name), _or_default(settings, "SRS_LISTEN_ADDR")
    port = port_number(port_setting.value or "")
    if port is None:
        meaning = f"{port_setting.value!r} is no port, so there is no table for {direction} lookups."
        result.no_counterpart(port_setting.origin, meaning, matters=True)
        return
    listening = address(host_setting.value or "", port)
    if not listening:
        meaning = f"{host_setting.value!r} is a name; the table listens on 127.0.0.1."
        result.no_counterpart(host_setting.origin, meaning, matters=True)
        listening = address("127.0.0.1", port)
    canonical = "sender_canonical_maps" if direction == "forward" else "recipient_canonical_maps"
    comment = f"Postfix asks here ({canonical} = tcp:…) in the place of PostSRSd. One of the two programs has the port."
    add_table(result, listening, "tcp", direction, port_setting.origin, comment)


def _or_default(settings: Mapping[str, _Setting], name: str) -> _Setting:
    setting = settings.get(name)
    if setting is not None and setting.value:
        return setting
    return _Setting(_DEFAULTS[name], Origin(f"PostSRSd's default of {name}", ""))


def _number(result: Draft, settings: Mapping[str, _Setting], name: str) -> tuple[int, Origin] | None:
    setting = settings.get(name)
    if setting is None or not setting.value:
        return None
    if not re.fullmatch(r"\d{1,4}", setting.value.strip()):
        result.no_counterpart(setting.origin, f"{setting.value!r} is no number; the default is used.", matters=True)
        return None
    return int(setting.value), setting.origin
