"""Finds OpenDKIM's files on a host that moves over, and reads them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from relay.config import opendkim_syntax as opendkim
from relay.config.opendkim_syntax import (
    ConfSetting,
    InternalHosts,
    KeyTableEntry,
    SigningTableEntry,
    TableEntry,
    TableKind,
)

NESTING = 5  # how deep Include may go, as in opendkim.conf(5)
# The usual names of the tables, in tutorials and packages, where no opendkim.conf names them.
_KEY_TABLES = ("KeyTable", "key.table", "keytable")
_SIGNING_TABLES = ("SigningTable", "signing.table", "signingtable")
_HOSTS = ("TrustedHosts", "trusted.hosts", "trustedhosts")


@dataclass(frozen=True, slots=True)
class Installation:
    """A folder of OpenDKIM, and its opendkim.conf if there is one.

    Attributes:
        conf: None where there is no opendkim.conf.
        folder: None where opendkim.conf itself was named: then only its settings count.
        base: the folder that relative paths start at.
    """

    conf: Path | None
    settings: dict[str, ConfSetting]
    folder: Path | None
    base: Path

    @property
    def place(self) -> Path | None:
        """The folder or the file that was named, for errors."""
        return self.folder or self.conf

    def is_on(self, name: str) -> bool:
        """Tells whether a switch is on, by its name in lower case. Switches are off by default."""
        return name in self.settings and self.settings[name].value[:1].lower() in ("t", "y", "1")

    def key_table(self) -> dict[str, KeyTableEntry] | None:
        """The KeyTable; None if there is none. Raises OSError, ValueError."""
        table = self._table("keytable", _KEY_TABLES)
        return opendkim.key_table(table[1]) if table is not None else None

    def key_files(self) -> list[Path]:
        """The files of keys, without those that have the author's domain in their path. Raises OSError, ValueError."""
        table = self.key_table() or {}
        paths = [key.private for key in table.values() if key.private.startswith(("/", "./", "../"))]
        if "keyfile" in self.settings:
            paths.append(self.settings["keyfile"].value)
        return [self.base / path for path in paths if opendkim.ITSELF not in path]

    def signing_table(self) -> list[SigningTableEntry] | None:
        """The SigningTable; None if there is none. Raises OSError, ValueError."""
        table = self._table("signingtable", _SIGNING_TABLES)
        if table is None:
            return None
        kind, lines = table
        if "signingtable" not in self.settings and opendkim.looks_like_patterns(lines):
            kind = "refile"
        return opendkim.signing_table(kind, lines)

    def internal_hosts(self) -> InternalHosts:
        """InternalHosts: the hosts whose mail is signed.

        If there is an opendkim.conf, it must set InternalHosts: the usual file may be meant for ExternalIgnoreList,
        which trusts nobody but only keeps the log quiet.

        Raises:
            OSError, ValueError: as `opendkim_syntax.internal_hosts`.
        """
        table = self._table("internalhosts", _HOSTS if self.conf is None else ())
        return opendkim.internal_hosts(table[1]) if table is not None else InternalHosts((), ())

    def domains(self) -> list[str]:
        """The domains of the setting Domain, for a host with one key. Raises OSError, ValueError."""
        table = self._table("domain", ())
        return [entry.key for entry in table[1]] if table is not None else []

    def _table(self, name: str, usual_files: tuple[str, ...]) -> tuple[TableKind, list[TableEntry]] | None:
        """The table that a setting names; without the setting, the first of the usual files that exists."""
        setting = self.settings.get(name)
        if setting is None:
            places = map(self.folder.joinpath, usual_files) if self.folder is not None else ()
            path = next((path for path in places if path.exists()), None)
            return None if path is None else ("file", list(opendkim.entries("file", _text(path), str(path))))
        kind, rest = opendkim.dataset(setting)
        if kind == "csl":
            return kind, list(opendkim.entries(kind, rest, setting.where))
        path = self.base / rest
        return kind, list(opendkim.entries(kind, _text(path), str(path)))


def find(place: Path) -> Installation:
    """The installation in a folder like /etc/opendkim, with an opendkim.conf in the folder or beside it; or that of an
    opendkim.conf, like /etc/opendkim.conf.

    Raises:
        OSError: a file cannot be read.
        ValueError: there is no such folder or file, or a file is wrong; the text names file and line.
    """
    if place.is_file():
        return _installation(place, None, place.parent)
    folder = place
    conf = next((path for path in (folder / "opendkim.conf", folder.parent / "opendkim.conf") if path.exists()), None)
    if not folder.is_dir():
        raise ValueError(f"{folder}: no such folder" if folder.suffix != ".conf" else f"{folder}: no such file")
    return _installation(conf, folder, folder)


def _installation(conf: Path | None, folder: Path | None, base: Path) -> Installation:
    settings = dict(_settings(conf, 0)) if conf is not None else {}
    if "basedirectory" in settings:
        base = Path(settings["basedirectory"].value)
    return Installation(conf, settings, folder, base)


def _settings(conf: Path, depth: int) -> Iterator[tuple[str, ConfSetting]]:
    """The settings of an opendkim.conf, with those of the files that it includes."""
    for name, setting in opendkim.settings(_text(conf), str(conf)):
        if name != "include":
            yield name, setting
        elif depth < NESTING:
            yield from _settings(conf.parent / setting.value, depth + 1)
        else:
            raise ValueError(f"{setting.where}: more than {NESTING} files that include each other")


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise ValueError(f"{path}: not UTF-8") from None
