"""Where OpenDKIM's files are on a host that moves over, and what stands in them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from relay.config import opendkim_syntax as opendkim
from relay.config.opendkim_syntax import Entry, Hosts, Kind, Setting

NESTING = 5  # of Include, as opendkim.conf(5) has it
# What the tables are called where no opendkim.conf says it, in tutorials and packages.
_KEY_TABLES = ("KeyTable", "key.table", "keytable")
_SIGNING_TABLES = ("SigningTable", "signing.table", "signingtable")
_HOSTS = ("TrustedHosts", "trusted.hosts", "trustedhosts")


@dataclass(frozen=True, slots=True)
class Installation:
    """A folder of OpenDKIM, with its opendkim.conf where there is one.

    Attributes:
        conf: None where there is no opendkim.conf.
        base: the folder that relative paths start at.
    """

    conf: Path | None
    settings: dict[str, Setting]
    folder: Path
    base: Path

    def is_on(self, name: str) -> bool:
        """A switch, by its name in lower case; they are off by default."""
        return name in self.settings and self.settings[name].value[:1].lower() in ("t", "y", "1")

    def key_table(self) -> dict[str, opendkim.Key] | None:
        """None where there is no such table. Raises OSError, ValueError."""
        table = self._table("keytable", _KEY_TABLES)
        return opendkim.key_table(table[1]) if table is not None else None

    def key_files(self) -> list[Path]:
        """The files of keys, but for those that have the author's domain in their name. Raises OSError, ValueError."""
        table = self.key_table() or {}
        named = [key.private for key in table.values() if key.private.startswith(("/", "./", "../"))]
        if "keyfile" in self.settings:
            named.append(self.settings["keyfile"].value)
        return [self.base / name for name in named if opendkim.ITSELF not in name]

    def signing_table(self) -> list[opendkim.Signing] | None:
        """None where there is no such table. Raises OSError, ValueError."""
        table = self._table("signingtable", _SIGNING_TABLES)
        if table is None:
            return None
        kind, lines = table
        if "signingtable" not in self.settings and opendkim.looks_like_patterns(lines):
            kind = "refile"
        return opendkim.signing_table(kind, lines)

    def hosts(self) -> Hosts:
        """InternalHosts: whose mail is signed. ExternalIgnoreList trusts nobody, it only keeps the log quiet, and often
        names the file that is usual for both; so an opendkim.conf has to say that it means InternalHosts.

        Raises:
            OSError, ValueError: as `opendkim.hosts`.
        """
        table = self._table("internalhosts", _HOSTS if self.conf is None else ())
        return opendkim.hosts(table[1]) if table is not None else Hosts((), ())

    def domains(self) -> list[str]:
        """The setting Domain, for a host with one key. Raises OSError, ValueError."""
        table = self._table("domain", ())
        return [entry.key for entry in table[1]] if table is not None else []

    def _table(self, name: str, usual: tuple[str, ...]) -> tuple[Kind, list[Entry]] | None:
        setting = self.settings.get(name)
        if setting is None:
            path = next((self.folder / one for one in usual if (self.folder / one).exists()), None)
            return None if path is None else ("file", list(opendkim.entries("file", _text(path), str(path))))
        kind, rest = opendkim.dataset(setting)
        if kind == "csl":
            return kind, list(opendkim.entries(kind, rest, setting.where))
        path = self.base / rest
        return kind, list(opendkim.entries(kind, _text(path), str(path)))


def find(folder: Path) -> Installation:
    """The installation in a folder like /etc/opendkim, or below it. Its opendkim.conf is in it, or beside it.

    Raises:
        OSError: no folder, or a file that cannot be read.
        ValueError: the text names file and line.
    """
    conf = next((path for path in (folder / "opendkim.conf", folder.parent / "opendkim.conf") if path.exists()), None)
    if not folder.is_dir():
        raise ValueError(f"{folder}: no such folder")
    settings = dict(_settings(conf, 0)) if conf is not None else {}
    base = Path(settings["basedirectory"].value) if "basedirectory" in settings else folder
    return Installation(conf, settings, folder, base)


def _settings(conf: Path, depth: int) -> Iterator[tuple[str, Setting]]:
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
