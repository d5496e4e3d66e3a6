"""Finds the configuration file of a command: the one that is named, or one of two places."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from relay.config.keys import ENV_PREFIX
from relay.config.model import ConfigError

PLACES = (Path("/etc/srs-relay/relay.toml"), Path("/var/lib/srs-relay/relay.toml"))
UNREADABLE = "run the command as the user of the relay, or name another file with --config"
_HTTP = ("RELAY_HTTP", "RELAY_HTTP__")  # set by the image, whose health check asks there


class NoConfig(ConfigError):
    """There is no configuration: no file, and no key in the environment."""


def find_config(given: Path | None, environ: Mapping[str, str] | None = None) -> Path | None:
    """The configuration file.

    Without a name it is the first of `PLACES` that is there, unless the environment has keys of the configuration:
    then these are the whole configuration. Keys of `[http]` do not count, because the container image sets one.

    Args:
        given: the file that was named; it is returned as it is.
        environ: the environment, by default that of the process.

    Returns:
        The file; None where there is none, or the environment is the whole configuration.

    Raises:
        ConfigError: it is not certain which one it is, because a folder cannot be read.
    """
    if given is not None or _has_keys(os.environ if environ is None else environ):
        return given
    for place in PLACES:
        try:
            place.stat()
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as error:
            raise ConfigError(f"{place}: {error.strerror}: {UNREADABLE}") from None
        return place
    return None


def require_keys(environ: Mapping[str, str]) -> None:
    """Check that an environment, without a file, can be a configuration. Raises NoConfig: it has no keys of one."""
    if not _has_keys(environ):
        raise NoConfig(
            f"no configuration: name it with --config FILE or in SRS_RELAY_CONFIG; "
            f"there is neither {PLACES[0]} nor {PLACES[1]}, and no key in the environment (RELAY_…)"
        )


def _has_keys(environ: Mapping[str, str]) -> bool:
    """Tells whether there are keys of the configuration other than those of `[http]`."""
    names = (name for name in environ if name.startswith(ENV_PREFIX))
    return any(name != _HTTP[0] and not name.startswith(_HTTP[1]) for name in names)
