"""Makes the files that a configuration names and that are missing: SRS secret, DKIM keys, alias file.

This is the way from an example of config/examples to a host that can be started. Nothing that is there changes.
"""

from __future__ import annotations

import secrets
from pathlib import Path

from relay.cli import key_files
from relay.cli.errors import CommandFailed
from relay.cli.init_files import aliases_text
from relay.cli.new_files import write_files
from relay.cli.present_keys import missing_keys
from relay.config.file import load
from relay.config.model import Config, ConfigError

_SECRET_OCTETS = 32


def new_secret() -> str:
    """The text of a file with a new SRS secret."""
    return secrets.token_urlsafe(_SECRET_OCTETS) + "\n"


def complete(path: Path) -> tuple[Config, list[Path]]:
    """Makes the missing files of a configuration.

    Returns:
        The configuration, and the files that were made.

    Raises:
        CommandFailed: the configuration cannot be used, or nothing is missing.
        OSError: a file cannot be written.
    """
    try:
        config = load(path, require_files=False)
    except ConfigError as error:
        problems = "; ".join(str(error).splitlines())
        raise CommandFailed(
            f"{path} is there already and cannot be used ({problems}); nothing was written"
            " (--force replaces relay.toml alone)"
        ) from None
    texts = dict[Path, str]()
    if not config.srs.secrets_file.exists():
        texts[config.srs.secrets_file] = new_secret()
    if config.routes.alias_file is not None and not config.routes.alias_file.exists():
        texts[config.routes.alias_file] = aliases_text(next(iter(config.senders.local_domains), config.srs.domain))
    write_files(texts)
    made = list(texts)
    for key in missing_keys(config):
        if key.path not in made:
            key_files.make_key(key.path, "rsa2048", key.domain, key.selector)
            made.append(key.path)
    if not made:
        raise CommandFailed(
            f"{path} is there already, and so is every file that can be made for it; nothing was written"
            " (--force replaces relay.toml alone, `srs-relay dns` prints the records)"
        )
    return config, made
