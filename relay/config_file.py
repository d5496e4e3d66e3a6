"""Reading the configuration: one TOML file and `RELAY_…` environment variables, validated whole before anything starts.

Errors name the key, or the variable, and say what it takes. Nothing outside this file reads the environment.
"""

from __future__ import annotations

import json
import os
import socket
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from relay.config import Config, ConfigError
from relay.sign.opendkim import Entry, Hosts
from relay.sign.opendkim_files import find

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
    try:
        return find(folder).hosts()
    except OSError as error:
        raise ConfigError(f"signing.opendkim: {error.filename}: {error.strerror}") from None
    except ValueError as error:
        raise ConfigError(f"signing.opendkim: {error}") from None


def _require_files(config: Config) -> None:
    """Every file that the configuration names must be there and readable, secrets by us alone."""
    secrets = [("srs.secrets_file", config.srs.secrets_file)]
    secrets += [(f"dkim.{n}.private_key", key.private_key) for n, key in enumerate(config.dkim)]
    if config.arc.private_key is not None:
        secrets.append(("arc.private_key", config.arc.private_key))
    files = [] if config.tls is None else [("tls.certificate", config.tls.certificate)]
    if config.tls is not None:
        secrets.append(("tls.private_key", config.tls.private_key))
    if config.delivery.smarthost is not None and config.delivery.smarthost.password_file is not None:
        secrets.append(("delivery.smarthost.password_file", config.delivery.smarthost.password_file))
    if config.routes.aliases is not None:
        files.append(("routes.aliases", config.routes.aliases))
    for domain, route in config.routes.domains.items():
        if route.recipients not in ("callout", "any"):
            files.append((f"routes.domains.{domain}.recipients", Path(route.recipients)))
    problems = []
    for key, path in [*secrets, *files]:
        try:
            path.read_bytes()
        except OSError as error:
            problems.append(f"{key}: {path}: {error.strerror}")
    if problems:
        raise ConfigError("\n".join(problems))


def loosely_guarded(config: Config) -> list[Path]:
    """Secret files that others than their owner may read; worth a warning, not a refusal (containers mount them so)."""
    secrets = [config.srs.secrets_file, *(key.private_key for key in config.dkim)]
    if config.arc.private_key is not None:
        secrets.append(config.arc.private_key)
    if config.delivery.smarthost is not None and config.delivery.smarthost.password_file is not None:
        secrets.append(config.delivery.smarthost.password_file)
    return [path for path in secrets if path.stat().st_mode & 0o077]
