"""The files of OpenDKIM and OpenDMARC: a name, blanks and a value on each line, and other files by `Include`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from relay.config.opendkim import NESTING
from relay.config.opendkim_syntax import ConfSetting
from relay.config.opendkim_syntax import settings as syntax
from relay.config.values import authserv_id
from relay.importer.draft import Draft, ImportFailed, Origin
from relay.importer.source_file import read_text


class Meaning(NamedTuple):
    """What a setting without a counterpart means.

    Attributes:
        usual: values that make no difference, in lower case; for a switch those that turn it off.
    """

    text: str
    matters: bool = False
    usual: tuple[str, ...] = ()


_SHARED = {  # settings of both programs: they do not tell which one a file is for
    *("authservid", "authservidwithjobid", "autorestart", "autorestartcount", "autorestartrate", "background"),
    *("basedirectory", "changerootdirectory", "dnstimeout", "enablecoredumps", "include", "milterdebug", "pidfile"),
    *("requiredheaders", "socket", "softwareheader", "syslog", "syslogfacility", "umask", "userid"),
}

OFF = ("false", "no", "0", "f", "n")
"""The values that turn a switch off."""


def read(path: Path, depth: int = 0) -> dict[str, ConfSetting]:
    """The settings of a file, names in lower case, with those of the files that it includes.

    Raises:
        ImportFailed: a file cannot be read.
    """
    settings: dict[str, ConfSetting] = {}
    for name, setting in syntax(read_text(path), str(path)):
        if name != "include":
            settings[name] = setting._replace(value=_unquoted(setting.value))
        elif depth < NESTING:
            settings |= read(path.parent / setting.value, depth + 1)
        else:
            raise ImportFailed(f"{setting.where}: more than {NESTING} files that include each other")
    return settings


def check(path: Path, settings: Iterable[str], known: Iterable[str], program: str) -> None:
    """Check that a file is what it is said to be: most of its settings, and not just those of all such programs.

    Raises:
        ImportFailed: it is not.
    """
    names = {name.lower() for name in known}
    found = list(settings)
    unknown = [name for name in found if name not in names]
    is_other = unknown and names.difference(_SHARED).isdisjoint(found)
    if not found or is_other or 2 * len(unknown) >= len(found):
        what = f"{program} does not know {', '.join(unknown[:3])}" if unknown else "there is no setting in it"
        raise ImportFailed(f"{path}: this is no configuration of {program}: {what}")


def is_on(settings: Mapping[str, ConfSetting], name: str) -> bool:
    """Whether a switch is on; switches are off by default."""
    return name in settings and settings[name].value[:1].lower() in ("t", "y", "1")


def origin(names: Iterable[str], name: str, setting: ConfSetting) -> Origin:
    """The origin of a setting, whose name is written as the program's manual writes it."""
    written = next((known for known in names if known.lower() == name), name)
    return Origin(written, setting.where)


def tell_unmapped(draft: Draft, settings: Mapping[str, ConfSetting], meanings: Mapping[str, Meaning]) -> None:
    """Name the settings without a counterpart, where their value makes a difference."""
    for name, meaning in meanings.items():
        setting = settings.get(name.lower())
        if setting is None or setting.value.lower() in meaning.usual:
            continue
        draft.no_counterpart(Origin(name, setting.where), meaning.text, matters=meaning.matters)


def tell_unknown(draft: Draft, settings: Mapping[str, ConfSetting], known: Iterable[str]) -> None:
    """Name the settings that the program does not know either."""
    names = {name.lower() for name in known}
    for name, setting in settings.items():
        if name not in names:
            draft.no_counterpart(Origin(name, setting.where), f"{draft.program} does not know it.", matters=True)


def set_dns_timeout(draft: Draft, settings: Mapping[str, ConfSetting]) -> None:
    """DNSTimeout, in seconds."""
    setting = settings.get("dnstimeout")
    if setting is None:
        return
    place = Origin("DNSTimeout", setting.where)
    if setting.value.isdecimal() and int(setting.value):
        draft.set(("dns",), "timeout", f"{int(setting.value)}s", place)
    else:
        draft.no_counterpart(place, f"{setting.value!r}: a DNS question always has an end here; the default is used.")


def set_authserv_id(draft: Draft, settings: Mapping[str, ConfSetting]) -> None:
    """AuthservID: HOSTNAME stands for the name of the host, as our default does."""
    setting = settings.get("authservid")
    if setting is None:
        return
    place = Origin("AuthservID", setting.where)
    if setting.value.upper() == "HOSTNAME":
        draft.no_counterpart(place, "HOSTNAME: authserv_id is the host name by default, here as well.")
        return
    try:
        draft.set((), "authserv_id", authserv_id(setting.value), place)
    except ValueError as error:
        draft.no_counterpart(place, f"{error}; the host name is used.", matters=True)


def _unquoted(value: str) -> str:
    """The value without quotes: the programs take them for a part of the value, people do not mean them so."""
    return value[1:-1] if len(value) > 1 and value[0] == value[-1] == '"' else value
