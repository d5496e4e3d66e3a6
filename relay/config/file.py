"""Reading the configuration: one TOML file and `RELAY_…` environment variables, validated whole before anything starts.

Errors name the key, or the variable, and say what it takes. Nothing outside this file reads the environment.
"""

from __future__ import annotations

import json
import os
import socket
import stat
import tomllib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from pydantic import ValidationError

from relay.config.model import Config, ConfigError
from relay.config.opendkim import find
from relay.config.opendkim_syntax import Entry, Hosts

ENV_PREFIX = "RELAY_"


def load(path: Path | None, environ: dict[str, str] | None = None) -> Config:
    """The configuration of a file, with the environment on top; without a file, of the environment alone.

    Raises:
        ConfigError: unreadable file, bad TOML, an unknown key or variable, a bad value, a missing file it names.
    """
    if path is None:
        return parse("", None, environ)
    try:
        return parse(path.read_text(encoding="utf-8"), path, environ)
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: {error}") from None


def parse(text: str, path: Path | None, environ: dict[str, str] | None = None) -> Config:
    """The configuration that a file would be with this text. Raises ConfigError, as `load`."""
    environ = dict(os.environ) if environ is None else environ
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path}: {error}") from None
    data = _merge(data, _from_environment(environ))
    data.setdefault("hostname", socket.getfqdn())
    data.setdefault("queue", {})  # its default holds a relative path, which validation resolves
    base = path.absolute().parent if path is not None else Path.cwd()
    try:
        config = Config.model_validate(data, context={"base": base})
    except ValidationError as error:
        raise ConfigError("\n".join(_explain(path, environ, error))) from None
    _require_files(config)
    return _with_trusted_hosts(config)


_WORDS = {
    "extra_forbidden": "unknown key",
    "missing": "this key is required",
    "tuple_type": 'an array is needed, like ["…"]',
    "dict_type": "a table is needed, not one value",
    "model_type": "a table is needed, not one value",
    "too_short": "one at least is needed",
}


def _explain(path: Path | None, environ: Mapping[str, str], error: ValidationError) -> list[str]:
    lines = []
    problems = error.errors()
    for problem in problems:
        if problem["type"] == "too_short" and any(
            other["loc"][:1] == problem["loc"] != other["loc"] for other in problems
        ):
            continue  # what was wrong with the items is said, and why none are left
        parts = [str(part) for part in problem["loc"] if part != "[key]"]
        variables = (ENV_PREFIX + "__".join(parts[:n]).upper() for n in range(len(parts), 0, -1))
        source = next((name for name in variables if name in environ), path or "environment")
        said = problem["msg"].removeprefix("Value error, ").replace("Input should be", "must be")
        lines.append(f"{source}: {'.'.join(parts) or 'configuration'}: {_WORDS.get(problem['type'], said)}")
    return lines


def _merge(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in over.items():
        old = merged.get(key)
        merged[key] = _merge(old, value) if isinstance(old, dict) and isinstance(value, dict) else value
    return merged


def _from_environment(environ: dict[str, str]) -> dict[str, Any]:
    """`RELAY_SRS__DOMAIN=…` as `{"srs": {"domain": …}}`; values that open like JSON are read as JSON."""
    data: dict[str, Any] = {}
    for name, text in sorted(environ.items()):
        if not name.startswith(ENV_PREFIX):
            continue
        value: Any = text
        if text[:1] in ("[", "{"):
            try:
                value = json.loads(text)
            except json.JSONDecodeError as error:
                raise ConfigError(f"environment: {name}: not valid JSON: {error}") from None
        *tables, key = name.removeprefix(ENV_PREFIX).lower().split("__")
        table = data
        for part in tables:
            table = table.setdefault(part, {})
            if not isinstance(table, dict):
                raise ConfigError(f"environment: {name}: {part} is already set as a whole")
        table[key] = value
    return data


def unread_hosts(config: Config) -> tuple[Entry, ...]:
    """The hosts that OpenDKIM trusts by their names, which we do not. Raises ConfigError."""
    return () if config.signing.opendkim is None else _opendkim_hosts(config.signing.opendkim).names


def _with_trusted_hosts(config: Config) -> Config:
    """The configuration with the clients that OpenDKIM trusts: they sent through it, and now send through us."""
    if config.signing.opendkim is None:
        return config
    networks = (*config.clients.trusted, *_opendkim_hosts(config.signing.opendkim).networks)
    return config.model_copy(update={"clients": config.clients.model_copy(update={"trusted": networks})})


def _opendkim_hosts(folder: Path) -> Hosts:
    with _in_opendkim():
        return find(folder).hosts()


@contextmanager
def _in_opendkim() -> Iterator[None]:
    """Names the key of the configuration whose files cannot be used. Raises ConfigError."""
    try:
        yield
    except OSError as error:
        raise ConfigError(f"signing.opendkim: {error.filename}: {error.strerror}") from None
    except ValueError as error:
        raise ConfigError(f"signing.opendkim: {error}") from None


def _require_files(config: Config) -> None:
    """Every file that the configuration names must be there and readable, secrets by us alone."""
    files = [] if config.tls is None else [("tls.certificate", config.tls.certificate)]
    if config.routes.aliases is not None:
        files.append(("routes.aliases", config.routes.aliases))
    for domain, route in config.routes.domains.items():
        if route.recipients not in ("callout", "any"):
            files.append((f"routes.domains.{domain}.recipients", Path(route.recipients)))
    problems = []
    for key, path in [*_secrets(config), *files]:
        try:
            if path.is_fifo():  # it would wait for a writer, and every file is read more than once
                problems.append(f"{key}: {path}: a named pipe is no file that can be read again")
            else:
                path.read_bytes()
        except OSError as error:
            problems.append(f"{key}: {path}: {error.strerror}")
    if problems:
        raise ConfigError("\n".join(problems))


def _secrets(config: Config) -> list[tuple[str, Path]]:
    """The files of secrets that the configuration names, each with its key."""
    found = [("srs.secrets_file", config.srs.secrets_file)]
    found += [(f"dkim.{n}.private_key", key.private_key) for n, key in enumerate(config.dkim)]
    if config.arc.private_key is not None:
        found.append(("arc.private_key", config.arc.private_key))
    if config.tls is not None:
        found.append(("tls.private_key", config.tls.private_key))
    if config.delivery.smarthost is not None and config.delivery.smarthost.password_file is not None:
        found.append(("delivery.smarthost.password_file", config.delivery.smarthost.password_file))
    return found


def loosely_guarded(config: Config, path: Path | None = None) -> list[Path]:
    """Files of secrets and mail that others than their owner may read or write; worth a warning, not a refusal
    (containers mount them so).

    Args:
        path: the file of the configuration, a secret where a password stands in `queue.url`.
    """
    found = [path for _, path in _secrets(config)]
    if config.signing.opendkim is not None:
        with _in_opendkim():
            found += find(config.signing.opendkim).key_files()
    if path is not None and "@" in config.queue.url and urlsplit(config.queue.url).password:
        found.append(path)
    found += _queue_files(config)
    return [path for path in dict.fromkeys(found) if path.exists() and path.stat().st_mode & 0o077]


def open_folders(config: Config) -> list[Path]:
    """The folders of secrets and of the queue in which everybody may put a file in the place of another."""
    folders = [path.parent for path in (*(path for _, path in _secrets(config)), *_queue_files(config))]
    exposed = 0o002 | stat.S_ISVTX  # with the sticky bit, as on /tmp, nobody may touch the files of others
    return [path for path in dict.fromkeys(folders) if path.exists() and path.stat().st_mode & exposed == 0o002]


def _queue_files(config: Config) -> list[Path]:
    """An SQLite queue and what lies beside it; PostgreSQL has none here."""
    if not config.queue.url.startswith("sqlite:///"):
        return []
    path = config.queue.url.removeprefix("sqlite:///")
    return [Path(path + ending) for ending in ("", "-wal", "-shm")]
