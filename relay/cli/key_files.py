"""New keys on disk: where they go, who owns them, and how the configuration names them."""

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
    """Where a key goes if nobody says otherwise: `dkim` beside the configuration, or here where there is none."""
    return (config.parent if config is not None else Path()) / "dkim" / f"{domain}.{selector}.pem"


def free_selector(config: Path | None, domain: str, taken: Sequence[str]) -> str:
    """The next selector of a domain, of which no key has been made yet either."""
    selector = next_selector(taken)
    while default_path(config, domain, selector).exists():
        taken = [*taken, selector]
        selector = next_selector(taken)
    return selector


def make_key(path: Path, kind: KeyType, domain: str, selector: str) -> SigningKey:
    """A new key in a new file, for its owner alone: where root makes it, the owner of the folder that it is made in.

    Raises:
        CommandFailed: the file is there already, and stays as it is.
        OSError: it cannot be written; nothing is left of it.
    """
    pem = keys.generate(kind)
    folder = path.absolute().parent
    _make_folder(folder)
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        raise CommandFailed(f"{path} is there already, and stays as it is") from None
    try:
        with os.fdopen(handle, "wb") as file:
            _give(handle, folder)
            file.write(pem)
            file.flush()
            os.fsync(handle)
    except BaseException:
        path.unlink()
        raise
    return SigningKey(domain, selector, keys.parse(pem))


def entry(key: SigningKey, path: Path, config: Path | None) -> dict[str, Any]:
    """What `[[dkim]]` says of a key; a path below the configuration's folder is relative to it."""
    path = path.absolute()
    base = config.absolute().parent if config is not None else None
    named = path.relative_to(base) if base is not None and path.is_relative_to(base) else path
    return {"domain": key.domain, "selector": key.selector, "private_key": str(named)}


def moment(seconds: float) -> datetime:
    """Seconds since 1970 as TOML writes them."""
    return datetime.fromtimestamp(seconds, UTC)


def _make_folder(folder: Path) -> None:
    if folder.is_dir():
        return
    _make_folder(folder.parent)
    folder.mkdir(mode=0o700)
    _give(folder, folder.parent)


def _give(made: int | Path, folder: Path) -> None:
    """Root makes keys for the user that the relay runs as."""
    if os.geteuid() == 0:
        owner = folder.stat()
        os.chown(made, owner.st_uid, owner.st_gid)
