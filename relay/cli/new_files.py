"""Puts new files in place: all or none, each for its owner alone."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from pathlib import Path

from relay.cli.key_files import give_to_owner, make_folder


def write_files(files: Mapping[Path, str]) -> None:
    """Put all files in place, or none. Where root writes them, they belong to the owner of the folder.

    Raises:
        OSError: one cannot be written.
    """
    ready: dict[Path, str] = {}
    try:
        for path, text in files.items():
            folder = path.absolute().parent
            make_folder(folder)
            handle, ready[path] = tempfile.mkstemp(dir=folder, prefix=".new-")
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                file.write(text)
                file.flush()
                give_to_owner(handle, folder)
                os.fsync(handle)
    except BaseException:
        for temporary in ready.values():
            Path(temporary).unlink()
        raise
    for path, temporary in ready.items():
        Path(temporary).replace(path)
