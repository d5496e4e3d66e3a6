"""Makes the SRS scheme of the configuration: the section [srs] and the file with its secrets."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from relay.config.model import Config
from relay.srs.address import DAY, Scheme

SHORT = 16  # octets: what fewer hold can be found by trying; PostSRSd makes secrets of 24 characters


def short_secrets(secrets: Sequence[bytes]) -> dict[int, int]:
    """The octets of each secret that is too short, by its place in the file, from 1 on.

    A secret that was taken over has to stay, because addresses of other hosts are made with it; so this is a warning.
    """
    return {place: len(secret) for place, secret in enumerate(secrets, 1) if len(secret) < SHORT}


def read_secrets(path: Path) -> tuple[bytes, ...]:
    """Reads the secrets of a file, one a line as PostSRSd keeps them; blank lines do not count.

    Raises:
        OSError: the file cannot be read.
        ValueError: there is no secret in it.
    """
    secrets = tuple(line for line in path.read_bytes().splitlines() if line.strip())
    if not secrets:
        raise ValueError(f"{path}: no secret in it (one a line, the first signs)")
    return secrets


def scheme_from_config(config: Config) -> Scheme:
    """The scheme of the section [srs]. `max_age` is rounded up to whole days, because time stamps count days.

    Raises:
        OSError, ValueError: as `read_secrets`.
    """
    srs = config.srs
    return Scheme(
        domain=srs.domain,
        secrets=read_secrets(srs.secrets_file),
        separator=srs.separator,
        hash_length=srs.hash_length,
        hash_min=srs.hash_min,
        max_age=math.ceil(srs.max_age / DAY),
        alphabet=srs.alphabet,
        framed=srs.hash == "framed",
        framed_since=srs.framed_since.timestamp() // DAY if srs.framed_since is not None else -math.inf,
    )
