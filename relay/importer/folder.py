"""Puts an imported configuration into a folder, so that it loads: relay.toml, and the files that it needs.

A file of the other program is named where it is, so that both programs read the same one. One that our user may not
read is copied, for its owner alone.
"""

from __future__ import annotations

import os
import stat
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from relay.importer.draft import Draft, ImportFailed, Origin, TheirFiles
from relay.importer.text import config_text

CONFIG = "relay.toml"


class Written(NamedTuple):
    """What was written.

    Attributes:
        copies: the files of the other program that were copied, each with its copy.
    """

    files: list[Path]
    copies: list[tuple[Path, Path]]


def ask_for_missing(draft: Draft) -> None:
    """Turn each key whose file is not on this host into one to fill in."""
    for files in draft.their_files:
        if len(files.paths) == 1 and _is_missing(files.paths[0]):
            files.key.kind = "fill in"
            files.key.comment = f"This file is not on this host. {files.key.comment}".strip()
    draft.their_files = [files for files in draft.their_files if files.key.kind == "set"]


def _is_missing(path: Path) -> bool:
    try:
        path.stat()
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return False


class _User(NamedTuple):
    """The user that the relay will run as: the owner of the folder, or whoever makes it."""

    uid: int
    gid: int


def write(draft: Draft, folder: Path, *, force: bool) -> Written:
    """Write the configuration and its files. The files belong to the owner of the folder, and to nobody else.

    Args:
        force: replace relay.toml; every other file that is there stays.

    Raises:
        ImportFailed: a file is there already; nothing was written.
        OSError: a file cannot be written; nothing was written.
    """
    user = _user(folder)
    contents = {folder / file.name: file.content.encode() for file in draft.new_files}
    copies: list[tuple[Path, Path]] = []
    for files in draft.their_files:
        if all(_may_read(path, user) for path in files.paths):
            continue
        try:
            copied = files.contents()
        except OSError as error:
            _tell_unreadable(draft, files, error)
            continue
        contents |= {folder / name: octets for name, octets in copied.items()}
        copies.append((files.paths[0], folder / files.copy))
        files.key.value = files.copy
        files.key.comment = f"A copy of {files.paths[0]}, which our user may not read. {files.key.comment}".strip()
    existing = {path for path in (folder / CONFIG, *contents) if path.exists()}
    if existing and not force:
        raise ImportFailed(f"{min(existing)} is there already; nothing was written (--force replaces {CONFIG} alone)")
    contents = {path: octets for path, octets in contents.items() if path not in existing}
    contents[folder / CONFIG] = config_text(draft).encode()
    _put(contents, user)
    return Written(sorted(contents), copies)


def _tell_unreadable(draft: Draft, files: TheirFiles, error: OSError) -> None:
    meaning = f"{error.strerror}. The relay does not start without it ({files.name})."
    draft.no_counterpart(Origin(str(error.filename), ""), meaning, matters=True)


def _user(folder: Path) -> _User:
    if folder.is_dir():
        status = folder.stat()
        return _User(status.st_uid, status.st_gid)
    return _User(os.geteuid(), os.getegid())


def _may_read(path: Path, user: _User) -> bool:
    """Whether a user may read a file, by the modes of the file and of the folders above."""
    if user.uid == os.geteuid():
        return os.access(path, os.R_OK)
    try:
        folders = [(parent.stat(), stat.S_IXOTH) for parent in path.resolve().parents]
        modes = [(path.stat(), stat.S_IROTH), *folders]
    except OSError:
        return False
    return all(_allows(status, bit, user) for status, bit in modes)


def _allows(status: os.stat_result, bit: int, user: _User) -> bool:
    if user.uid == 0:
        return True
    if status.st_uid == user.uid:
        return bool(status.st_mode & bit << 6)
    if status.st_gid == user.gid:
        return bool(status.st_mode & bit << 3)
    return bool(status.st_mode & bit)


def _put(contents: Mapping[Path, bytes], user: _User) -> None:
    """Put all files in place, or none; they and new folders are for their owner alone."""
    ready: dict[Path, Path] = {}
    try:
        for path, octets in contents.items():
            for folder in reversed([path.parent, *path.parent.parents]):
                if not folder.exists():
                    folder.mkdir(mode=0o700)
                    _give(folder, user)
            handle, name = tempfile.mkstemp(dir=path.parent, prefix=".new-")
            ready[path] = Path(name)
            with os.fdopen(handle, "wb") as file:
                file.write(octets)
            _give(ready[path], user)
    except BaseException:
        for temporary in ready.values():
            temporary.unlink()
        raise
    for path, temporary in ready.items():
        temporary.replace(path)


def _give(path: Path, user: _User) -> None:
    if os.geteuid() == 0:
        os.chown(path, user.uid, user.gid)
