"""The lines on the hash of SRS addresses in a new configuration: addresses that an older one has sent stay valid."""

from __future__ import annotations

import tomllib
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

from relay.config.values import point_in_time

HASH = 8  # characters of the hash in SRS addresses: 2^40 to try, where the 4 of other forwarders are 2^20
NEW_SITE = f'hash = "framed"\nhash_length = {HASH}\nhash_min = {HASH}'


def hash_lines(folder: Path) -> str:
    """The lines on the hash of SRS addresses; where the secret stays, addresses that it has signed stay valid."""
    since, shortest = _hashes_before(folder) if (folder / "srs.secret").exists() else (None, HASH)
    if since is None and shortest == HASH:
        return NEW_SITE
    tomorrow = _tomorrow()
    gone = max(tomorrow, since or tomorrow) + timedelta(days=22)  # past the default of srs.max_age
    lines = ['hash = "framed"']
    if since is not None:
        lines += [
            f"# Addresses of earlier days have another hash. From {gone} on this line can go.",
            f"framed_since = {since}",
        ]
    lines.append(f"hash_length = {HASH}")
    if shortest < HASH:
        lines.append(f"# Addresses with a shorter hash have been sent. From {gone} on this can be {HASH}.")
    lines.append(f"hash_min = {shortest}")
    return "\n".join(lines)


def _hashes_before(folder: Path) -> tuple[date | None, int]:
    """From which day on addresses are framed (None: always), and the shortest valid hash, by the old configuration.

    One that cannot be read may have had the defaults.
    """
    try:
        srs = tomllib.loads((folder / "relay.toml").read_text(encoding="utf-8"))["srs"]
        shortest = min(HASH, int(srs.get("hash_min", 4)))
        if srs.get("hash") != "framed":
            return _tomorrow(), shortest
        return point_in_time(srs["framed_since"]).date() if "framed_since" in srs else None, shortest
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return _tomorrow(), 4


def _tomorrow() -> date:
    return datetime.now(UTC).date() + timedelta(days=1)
