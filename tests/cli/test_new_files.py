"""New files: all or none, and whose they are."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from relay.cli.new_files import write_files


def test_files_and_folders_are_for_their_owner_alone(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        write_files({tmp_path / "new" / "deep" / "a": "A", tmp_path / "new" / "b": "B"})
    finally:
        os.umask(before)
    assert (tmp_path / "new" / "deep" / "a").read_text() == "A"
    modes = [stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("new", "new/deep", "new/deep/a", "new/b")]
    assert modes == [0o700, 0o700, 0o600, 0o600]


def test_a_failure_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("theirs")
    with pytest.raises(OSError):
        write_files({tmp_path / "a": "A", tmp_path / "file" / "b": "B"})
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make files for others")
def test_root_makes_files_for_the_owner_of_the_folder(tmp_path: Path) -> None:
    os.chown(tmp_path, 2525, 2526)
    write_files({tmp_path / "a": "A", tmp_path / "deep" / "b": "B"})
    for made in ("a", "deep", "deep/b"):
        assert ((tmp_path / made).stat().st_uid, (tmp_path / made).stat().st_gid) == (2525, 2526)
