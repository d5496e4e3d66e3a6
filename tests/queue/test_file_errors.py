"""What is told of a queue whose file or folder cannot be used."""

from __future__ import annotations

import asyncio
import errno
import os
import sqlite3
import stat
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.exc import OperationalError

from relay.queue import file_errors
from relay.queue.connect import connect
from relay.queue.database import QueueUnavailable
from relay.queue.file_errors import mend
from tests.peers import needs


def sqlite_error(code: int) -> sqlite3.OperationalError:
    error = sqlite3.OperationalError("no")
    error.sqlite_errorcode = code
    return error


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (sqlite_error(sqlite3.SQLITE_FULL), ": make room on the disk of {folder}"),
        (OSError(errno.ENOSPC, "No space left on device"), ": make room on the disk of {folder}"),
        (sqlite_error(sqlite3.SQLITE_BUSY), ""),
        (ValueError("another"), ""),
    ],
)  # fmt: skip
def test_each_has_its_mend(tmp_path: Path, error: Exception, said: str) -> None:
    assert mend(tmp_path / "queue.db", error).startswith(said.format(folder=tmp_path))
    wrapped = OperationalError("statement", None, error)
    assert mend(tmp_path / "queue.db", wrapped).startswith(
        said.format(folder=tmp_path) if isinstance(error, sqlite3.Error) else ""
    )


def test_a_read_only_file_system_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "statvfs", lambda _: SimpleNamespace(f_flag=os.ST_RDONLY))
    for error in (sqlite_error(sqlite3.SQLITE_READONLY), OSError(errno.EROFS, "Read-only file system")):
        assert "mounted read-only here" in mend(tmp_path / "queue.db", error)


def test_a_disk_without_room_for_the_log_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    error = sqlite_error(sqlite3.SQLITE_IOERR_SHMSIZE)
    assert mend(tmp_path / "queue.db", error) == ""
    monkeypatch.setattr(os, "statvfs", lambda _: SimpleNamespace(f_bavail=1, f_frsize=4096, f_flag=0))
    assert mend(tmp_path / "queue.db", error) == f": make room on the disk of {tmp_path}"


def test_what_is_no_queue_is_told(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("no database\n" * 10)
    (tmp_path / "folder").mkdir()
    for name, said in (("text", "is not a database: move it away"), ("folder", "it is a folder: move it away")):
        with pytest.raises(QueueUnavailable, match=said):
            asyncio.run(connect(f"sqlite:///{tmp_path / name}"))
    error = OSError(errno.ENOTDIR, "Not a directory")
    assert mend(tmp_path / "text" / "queue.db.lock", error).startswith(f": {tmp_path}/text is a file: name one in")


NOBODY = 65534


@needs(root=True)
@pytest.mark.slow
@pytest.mark.parametrize(
    ("file_mode", "folder_mode", "said"),
    [
        (0o600, 0o755, "{file} belongs to root, and nobody may not write there: run this as the owner"),
        (0o444, 0o755, "{file} belongs to root, and nobody may not write there: run this as the owner"),
        (0o666, 0o755, "{folder} belongs to root, and nobody may not write there: run this as the owner"),
        (0o600, 0o700, "{folder} belongs to root, and nobody may not write there: run this as the owner"),
    ],
)
def test_another_user_is_told_whose_queue_it_is(tmp_path: Path, file_mode: int, folder_mode: int, said: str) -> None:
    file = tmp_path / "folder" / "queue.db"
    file.parent.mkdir()
    asyncio.run(_make(f"sqlite:///{file}"))
    for folder in tmp_path.parents:
        if folder.is_relative_to("/tmp") and folder != Path("/tmp"):
            folder.chmod(stat.S_IMODE(folder.stat().st_mode) | 0o711)
    tmp_path.chmod(0o755)
    file.chmod(file_mode)
    file.parent.chmod(folder_mode)
    code = (
        "import asyncio, sys\nfrom relay.queue.connect import connect\nfrom relay.queue.database import *\n"
        "try: asyncio.run(connect(sys.argv[1]))\nexcept QueueUnavailable as error: print(error)\n"
    )
    command = ["setpriv", "--reuid", str(NOBODY), "--clear-groups", sys.executable, "-c", code, f"sqlite:///{file}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30)
    assert said.format(file=file, folder=file.parent) in done.stdout, done.stdout + done.stderr


def test_an_owner_who_may_not_write_is_told_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "queue.db"
    file.touch()
    monkeypatch.setattr(os, "access", lambda *_, **__: False)
    assert mend(file, sqlite_error(sqlite3.SQLITE_READONLY)).endswith(f"may not write to {file}: chmod u+rw {file}")
    assert mend(tmp_path / "x" / "queue.db", sqlite_error(sqlite3.SQLITE_CANTOPEN)) == ""


async def _make(url: str) -> None:
    await (await connect(url)).close()


def test_the_engine_of_sqlalchemy_hands_the_code_on(tmp_path: Path) -> None:
    engine = create_engine(f"sqlite:///{tmp_path}/absent/queue.db")
    with pytest.raises(OperationalError) as caught, engine.connect() as connection:
        connection.execute(text("SELECT 1"))
    assert file_errors._sqlite_code(caught.value) == sqlite3.SQLITE_CANTOPEN
