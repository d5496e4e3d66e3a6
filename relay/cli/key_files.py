"""The files of new keys: their paths, their owners, and their entries in the configuration."""

from __future__ import annotations

import os
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from relay.cli.errors import CommandFailed
from relay.sign import keys
from relay.sign.keys import KeyType, SigningKey
from relay.sign.rotation import next_selector


def default_path(config: Path | None, domain: str, selector: str) -> Path:
    """The default file of a key: in `dkim` beside the configuration, or here where there is none."""
    return (config.parent if config is not None else Path()) / "dkim" / f"{domain}.{selector}.pem"


def free_selector(config: Path | None, domain: str, taken: Sequence[str]) -> str:
    """The next selector of a domain that is neither taken nor has a file."""
    selector = next_selector(taken)
    while default_path(config, domain, selector).exists():
        taken = [*taken, selector]
        selector = next_selector(taken)
    return selector


def make_key(path: Path, kind: KeyType, domain: str, selector: str) -> SigningKey:
    """Make a key in a new file, readable by its owner only. Where root makes it, the folder's owner gets it.

    Raises:
        CommandFailed: the file exists, and stays as it is.
        OSError: it cannot be written; no part of it is left.
    """
    pem = keys.generate(kind)
    folder = path.absolute().parent
    make_folder(folder)
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        raise CommandFailed(f"{path} is there already, and stays as it is") from None
    try:
        with os.fdopen(handle, "wb") as file:
            give_to_owner(handle, folder)
            file.write(pem)
            file.flush()
            os.fsync(handle)
    except BaseException:
        path.unlink()
        raise
    return SigningKey(domain, selector, keys.parse(pem))


def entry(key: SigningKey, path: Path, config: Path | None) -> dict[str, Any]:
    """The `[[dkim]]` entry of a key; a path below the configuration's folder is relative to it."""
    path = path.absolute()
    base = config.absolute().parent if config is not None else None
    shown = path.relative_to(base) if base is not None and path.is_relative_to(base) else path
    return {"domain": key.domain, "selector": key.selector, "private_key": str(shown)}


def moment(seconds: float) -> datetime:
    """Seconds since 1970 as a TOML date."""
    return datetime.fromtimestamp(seconds, UTC)


def make_folder(folder: Path) -> None:
    """Make a folder and those above it, for their owner alone. Where root makes it, it belongs to the owner of the one
    above.
    """
    if folder.is_dir():
        return
    make_folder(folder.parent)
    folder.mkdir(mode=0o700)
    give_to_owner(folder, folder.parent)


def give_to_owner(new: int | Path, folder: Path) -> None:
    """Where root makes a file or folder, give it to the owner of the folder, as whom the relay runs."""
    if os.geteuid() == 0:
        owner = folder.stat()
        os.chown(new, owner.st_uid, owner.st_gid)
