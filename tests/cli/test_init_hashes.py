"""The lines on hashes that `init` writes; `test_init` has addresses that outlive a new configuration."""

from __future__ import annotations

import tomllib
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from relay.cli.init_hashes import hash_lines

TOMORROW = datetime.now(UTC).date() + timedelta(days=1)


def hashes(folder: Path) -> dict[str, object]:
    return tomllib.loads(hash_lines(folder))


def test_a_new_folder_has_long_framed_hashes_from_the_first_day(tmp_path: Path) -> None:
    assert hashes(tmp_path) == {"hash": "framed", "hash_length": 8, "hash_min": 8}


@pytest.mark.parametrize(
    ("old", "since", "shortest"),
    [
        ("", TOMORROW, 4),
        ("no TOML", TOMORROW, 4),
        ("[srs]\n", TOMORROW, 4),
        ("[srs]\nhash_min = 6\n", TOMORROW, 6),
        ("[srs]\nhash_min = 'x'\n", TOMORROW, 4),
        ("[srs]\nhash = 'framed'\nhash_min = 12\n", None, 8),
        ("[srs]\nhash = 'framed'\nframed_since = 2025-02-03\nhash_min = 5\n", datetime(2025, 2, 3).date(), 5),
    ],
)
def test_where_the_secret_stays_its_addresses_stay_valid(
    tmp_path: Path, old: str, since: object, shortest: int
) -> None:
    (tmp_path / "srs.secret").write_text("secret\n")
    (tmp_path / "relay.toml").write_text(old)
    expected = {"hash": "framed", "hash_length": 8, "hash_min": shortest}
    assert hashes(tmp_path) == (expected | {"framed_since": since} if since else expected)
