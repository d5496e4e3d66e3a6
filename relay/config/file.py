"""Reads the configuration: one TOML file and `RELAY_…` environment variables, validated before anything starts.

Errors name the key or the variable, and say what it takes.
"""

from __future__ import annotations

import json
import os
import socket
import stat
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from pydantic import ValidationError

from relay.config import problems, toml_error
from relay.config.keys import ENV_PREFIX, in_environment
from relay.config.missing_files import missing_file_mend
from relay.config.model import Config, ConfigError
from relay.config.opendkim import find
from relay.config.opendkim_syntax import InternalHosts, TableEntry
from relay.config.search import UNREADABLE, require_keys
from relay.config.sections import CertificateSection
from relay.config.table_sources import password_files, source_files
from relay.config.values import host_name

NO_NAME = "hostname.invalid"  # where a configuration has tables alone, and the system's name will not do
NOT_READABLE = "let the user of the relay read it, and run the command as that user"


def load(path: Path | None, environ: dict[str, str] | None = None, *, require_files: bool = True) -> Config:
    """Loads a configuration file, with the environment on top; without a file, the environment alone.

    Args:
        require_files: whether every file that the configuration names has to be there.

    Raises:
        NoConfig: there is no file, and no key in the environment.
        ConfigError: an unreadable file, bad TOML, an unknown key or variable, a bad value, or a file that it names is
            missing.
    """
    if path is None:
        require_keys(os.environ if environ is None else environ)
        return parse("", None, environ, require_files=require_files)
    try:
        return parse(path.read_text(encoding="utf-8"), path, environ, require_files=require_files)
    except PermissionError as error:
        raise ConfigError(f"{path}: {error.strerror}: {UNREADABLE}") from None
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from None
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise ConfigError(f"{path}: line {line}: not UTF-8: save the file in that encoding") from None


def parse(text: str, path: Path | None, environ: dict[str, str] | None = None, *, require_files: bool = True) -> Config:
    """The configuration of a file with this text. Raises ConfigError, as `load`."""
    environ = dict(os.environ) if environ is None else environ
    text = text.removeprefix("\ufeff")  # the byte order mark that some editors write
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path}: {toml_error.explain(text, error)}") from None
    data = _merge(data, _from_environment(environ))
    no_name = _set_host_name(data)
    data.setdefault("queue", {})  # its default url is a relative path, which validation resolves
    base = path.absolute().parent if path is not None else Path.cwd()
    try:
        config = Config.model_validate(data, context={"base": base})
    except ValidationError as error:
        raise ConfigError("\n".join(problems.lines(error, path, environ))) from None
    if no_name and config.takes_mail:
        reason = f"this key is required, because the name of the system will not do: {no_name}"
        raise ConfigError(f"{path or 'environment'}: hostname: {reason}")
    if require_files:
        _require_files(config, path)
    return _with_trusted_hosts(config)


def _set_host_name(data: dict[str, Any]) -> str:
    """Set `hostname` where it is missing; returns why the name of the system cannot be used, or nothing."""
    if "hostname" in data:
        return ""
    data["hostname"] = own = socket.getfqdn()
    try:
        host_name(own)
    except ValueError as error:
        data["hostname"] = NO_NAME
        return str(error)
    return ""


def _merge(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    """The tables with the values of `over` in place of those of `base`."""
    merged = dict(base)
    for key, value in over.items():
        old = merged.get(key)
        merged[key] = _merge(old, value) if isinstance(old, dict) and isinstance(value, dict) else value
    return merged


def _from_environment(environ: dict[str, str]) -> dict[str, Any]:
    """The variables as tables: `RELAY_SRS__DOMAIN=…` is `{"srs": {"domain": …}}`. What begins like JSON is JSON."""
    data: dict[str, Any] = {}
    for name, text in sorted(environ.items()):
        if not name.startswith(ENV_PREFIX):
            continue
        path = name.removeprefix(ENV_PREFIX).lower().split("__")
        *tables, key = path
        value: Any = text
        if text[:1] in ("[", "{"):
            try:
                value = json.loads(text)
            except json.JSONDecodeError as error:
                written = in_environment(path)
                mend = f"; it is written {written}" if written else ""
                raise ConfigError(f"environment: {name}: not valid JSON: {error}{mend}") from None
        table = data
        for part in tables:
            table = table.setdefault(part, {})
            if not isinstance(table, dict):
                raise ConfigError(f"environment: {name}: {part} is already set as a whole")
        table[key] = value
    return data


def untrusted_host_names(config: Config) -> tuple[TableEntry, ...]:
    """The hosts that OpenDKIM trusts by name, which we do not trust. Raises ConfigError."""
    return () if config.signing.opendkim is None else _opendkim_hosts(config.signing.opendkim).names


def _with_trusted_hosts(config: Config) -> Config:
    """The configuration with the clients that OpenDKIM trusts as trusted clients. Raises ConfigError."""
    if config.signing.opendkim is None:
        return config
    networks = (*config.clients.trusted, *_opendkim_hosts(config.signing.opendkim).networks)
    return config.model_copy(update={"clients": config.clients.model_copy(update={"trusted": networks})})


def _opendkim_hosts(place: Path) -> InternalHosts:
    with _opendkim_errors():
        return find(place).internal_hosts()


@contextmanager
def _opendkim_errors() -> Iterator[None]:
    """Turns errors in OpenDKIM's files into a ConfigError that names the key `signing.opendkim`."""
    try:
        yield
    except OSError as error:
        mend = f": {NOT_READABLE}" if isinstance(error, PermissionError) else ""
        raise ConfigError(f"signing.opendkim: {error.filename}: {error.strerror}{mend}") from None
    except ValueError as error:
        raise ConfigError(f"signing.opendkim: {error}") from None


def _named_files(config: Config) -> list[tuple[str, Path]]:
    """The files that it names, each with its key; without those of OpenDKIM."""
    files = [(f"{key}.certificate", pair.certificate) for key, pair in _certificates(config)]
    files += [(f"auth.{key}", path) for key, path in _auth_files(config) if key != "users"]
    files += [(key, path) for key, sources in config.table_sources.items() for path in source_files(sources)]
    return [*_secrets(config), *files]


def _require_files(config: Config, source: Path | None) -> None:
    """Checks that every file of the configuration can be read. Raises ConfigError."""
    problems = []
    for key, path in _named_files(config):
        try:
            if path.is_fifo():  # reading it waits for a writer, and every file is read more than once
                problems.append(f"{key}: {path}: a named pipe is no file that can be read again")
            else:
                path.read_bytes()
        except OSError as error:
            mend = missing_file_mend(key, path, source) if isinstance(error, FileNotFoundError) else ""
            if isinstance(error, PermissionError):
                mend = f": {NOT_READABLE}"
            problems.append(f"{key}: {path}: {error.strerror}{mend}")
    if problems:
        raise ConfigError("\n".join(problems))


def _secrets(config: Config) -> list[tuple[str, Path]]:
    """The files of secrets, each with its key in the configuration."""
    files = [("srs.secrets_file", config.srs.secrets_file)]
    files += [(f"dkim.{n}.private_key", key.private_key) for n, key in enumerate(config.dkim)]
    if config.arc.private_key is not None:
        files.append(("arc.private_key", config.arc.private_key))
    files += [(f"{key}.private_key", pair.private_key) for key, pair in _certificates(config)]
    files += [(f"auth.{key}", path) for key, path in _auth_files(config) if key == "users"]
    files += [
        (f"delivery.{table}.password_file", smarthost.password_file)
        for table, smarthost in config.delivery.smarthost_tables.items()
        if smarthost.password_file is not None
    ]
    tables = config.table_sources.items()
    files += [(f"{key}.password_file", path) for key, sources in tables for path in password_files(sources)]
    return files


def _certificates(config: Config) -> list[tuple[str, CertificateSection]]:
    """The certificates of the listeners, each with the name of its table."""
    return config.tls.named_pairs if config.tls is not None else []


def _auth_files(config: Config) -> list[tuple[str, Path]]:
    if config.auth is None:
        return []
    files = (("users", config.auth.users), ("senders", config.auth.senders))
    return [(key, path) for key, path in files if path is not None]


def named_files(config: Config) -> list[Path]:
    """Every file that the configuration names, and those that OpenDKIM's name; each once. Raises ConfigError."""
    files = [path for _, path in _named_files(config)]
    if config.signing.opendkim is not None:
        with _opendkim_errors():
            files += find(config.signing.opendkim).key_files()
    return list(dict.fromkeys(files))


def files_open_to_others(config: Config, path: Path | None = None, user: int | None = None) -> list[Path]:
    """The files of secrets and mail that others than their owner may read or write.

    A file of another user than the relay's may be readable for its group, which is how the relay reads it then. They
    are worth a warning, but no error: containers mount files like that.

    Args:
        path: the configuration file. It is a secret if `queue.url` has a password.
        user: the id of the user who runs the relay; that of this process where it is None.
    """
    reader = os.geteuid() if user is None else user
    files = [path for _, path in _secrets(config)]
    if config.signing.opendkim is not None:
        with _opendkim_errors():
            files += find(config.signing.opendkim).key_files()
    if path is not None and "@" in config.queue.url and urlsplit(config.queue.url).password:
        files.append(path)
    files += queue_files(config)
    return [file for file in dict.fromkeys(files) if (mode := _mode(file) & 0o077) and mode & ~mode_for(file, reader)]


def mode_for(file: Path, user: int) -> int:
    """The mode that closes a file to others than the user who runs the relay."""
    return 0o600 if file.stat().st_uid == user else 0o640


def folders_open_to_others(config: Config) -> list[Path]:
    """The folders of secrets and of the queue in which everybody may replace a file."""
    folders = [path.parent for path in (*(path for _, path in _secrets(config)), *queue_files(config))]
    exposed = 0o002 | stat.S_ISVTX  # with the sticky bit, as on /tmp, nobody may replace the files of others
    return [path for path in dict.fromkeys(folders) if _mode(path) & exposed == 0o002]


def _mode(path: Path) -> int:
    """The mode of a file or folder; 0 where we may not see it, or it is not there."""
    try:
        return path.stat().st_mode
    except OSError:
        return 0


def queue_files(config: Config) -> list[Path]:
    """The files of an SQLite queue; a PostgreSQL queue has none here, and without a listener there is no queue."""
    if not config.takes_mail or not config.queue.url.startswith("sqlite:///"):
        return []
    path = config.queue.url.removeprefix("sqlite:///")
    return [Path(path + ending) for ending in ("", "-wal", "-shm")]
