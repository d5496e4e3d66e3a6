"""A copy of OpenDKIM's tables and keys, for a user of ours that may not read the originals.

The copy has the tables as they are, but for the paths of keys: below `keys` each key has the path that it had. The
author's domain in a path (`%`) stays, so one rule still serves all domains.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from glob import escape
from pathlib import Path

from relay.config.opendkim import Installation
from relay.config.opendkim_syntax import ITSELF, dataset
from relay.importer.draft import Draft, TheirFiles
from relay.importer.source_file import read_text

COPY = "opendkim"  # the folder, beside relay.toml
_SWITCHES = ("Domain", "Selector", "SubDomains", "MultipleSignatures")  # settings that are copied as they are
_TABLES = {  # the usual names of the files, where no setting names them
    "SigningTable": ("SigningTable", "signing.table", "signingtable"),
    "InternalHosts": ("TrustedHosts", "trusted.hosts", "trustedhosts"),
}


def offer(draft: Draft, installation: Installation) -> None:
    """Let the keys and tables of `signing.opendkim` be copied, where our user may not read them."""
    conf = () if installation.conf is None else (installation.conf,)
    tables = (path for _, path in _table_files(installation))
    paths = (*conf, *tables, *(path for path, _ in _keys(installation)))
    key = draft.tables[("signing",)]["opendkim"]
    draft.their_files.append(TheirFiles("signing.opendkim", key, paths, COPY, lambda: _contents(installation)))


def _contents(installation: Installation) -> Mapping[str, bytes]:
    """The files of the copy, by their names."""
    files = {f"{COPY}/{name}": path.read_bytes() for path, name in _keys(installation)}
    lines = ["# Tables and keys of OpenDKIM, copied by `srs-relay import opendkim`."]
    settings = installation.settings
    lines += [f"{name} {settings[name.lower()].value}" for name in _SWITCHES if name.lower() in settings]
    table = installation.key_table()
    if table is not None:
        rows = (
            f"{name} {key.domain}:{key.selector}:{_moved(installation, key.private)}" for name, key in table.items()
        )
        files[f"{COPY}/KeyTable"] = "".join(f"{row}\n" for row in rows).encode()
        lines.append("KeyTable file:KeyTable")
    elif "keyfile" in settings:
        lines.append(f"KeyFile {_moved(installation, _as_file(settings['keyfile'].value))}")
    for name in _TABLES:
        setting = settings.get(name.lower())
        if setting is not None and dataset(setting)[0] == "csl":
            lines.append(f"{name} csl:{dataset(setting)[1]}")
    for name, path in _table_files(installation):
        kind = dataset(settings[name.lower()])[0] if name.lower() in settings else _usual_kind(read_text(path))
        files[f"{COPY}/{name}"] = read_text(path).encode()
        lines.append(f"{name} {kind}:{name}")
    files[f"{COPY}/opendkim.conf"] = "".join(f"{line}\n" for line in lines).encode()
    return files


def _table_files(installation: Installation) -> Iterator[tuple[str, Path]]:
    """The tables in files, but the KeyTable: each with the setting that names it."""
    for name, usual in _TABLES.items():
        setting = installation.settings.get(name.lower())
        if setting is not None:
            kind, rest = dataset(setting)
            if kind != "csl":
                yield name, installation.base / rest
        elif installation.folder is not None and (name == "SigningTable" or installation.conf is None):
            path = next((path for path in map(installation.folder.joinpath, usual) if path.exists()), None)
            if path is not None:
                yield name, path


def _usual_kind(text: str) -> str:
    return "refile" if "*" in text else "file"


def _keys(installation: Installation) -> Iterator[tuple[Path, str]]:
    """The files of keys, each with its name below the copy."""
    table = installation.key_table()
    written = [key.private for key in table.values()] if table is not None else []
    if table is None and "keyfile" in installation.settings:
        written.append(_as_file(installation.settings["keyfile"].value))
    for private in dict.fromkeys(written):
        if not private.startswith(("/", "./", "../")):
            continue  # the key itself
        path = (installation.base / private).absolute()
        pattern = "*".join(map(escape, str(path).split(ITSELF))).lstrip("/")
        for file in sorted(Path("/").glob(pattern)) if ITSELF in str(path) else [path]:
            yield file, f"keys{file}"


def _moved(installation: Installation, private: str) -> str:
    """The path of a key in the copy; a key that stands in the table itself stays as it is."""
    if not private.startswith(("/", "./", "../")):
        return private
    return f"./keys{(installation.base / private).absolute()}"


def _as_file(value: str) -> str:
    return value if value.startswith(("/", "./", "../")) else f"./{value}"
