"""The room for the queue: the same numbers by which the relay accepts mail."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path

import pytest

from relay.check.disk import check, free_inside
from tests.check.local_site import local_site

MB = 10**6


def disk(monkeypatch: pytest.MonkeyPatch, *, free: int, files: int = 10**6, flags: int = 0) -> None:
    """A disk with this many octets, and inodes, free for users."""
    found = os.statvfs_result((4096, 1, 10**12, free, free, 10**6, files, files, flags, 255, 0))
    monkeypatch.setattr("relay.check.disk.os.statvfs", lambda folder: found)


@pytest.mark.parametrize(
    ("free", "level"), [(255 * MB, "error"), (257 * MB, "warning"), (511 * MB, "warning"), (513 * MB, "ok")]
)
async def test_queue_min_free_decides(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free: int, level: str) -> None:
    disk(monkeypatch, free=free)
    [finding] = await check(local_site(tmp_path, {}))
    assert (finding.subject, finding.level) == (str(tmp_path), level)
    assert ("452 4.3.1" in finding.text) == (level != "ok") and bool(finding.mend) == (level != "ok")


async def test_a_disk_without_inodes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    disk(monkeypatch, free=10**10, files=20)
    [finding] = await check(local_site(tmp_path, {}))
    assert finding.level == "warning" and "20 more files" in finding.text
    disk(monkeypatch, free=10**10, files=0)
    assert (await check(local_site(tmp_path, {})))[0].level == "error"


async def test_a_disk_that_is_mounted_for_reading(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    disk(monkeypatch, free=10**10, flags=os.ST_RDONLY)
    [finding] = await check(local_site(tmp_path, {}))
    assert finding.level == "error" and "read" in finding.text


async def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    [finding] = await check(local_site(tmp_path, {}, queue={"url": "sqlite:///nowhere/queue.db"}))
    assert finding.level == "error" and f"mkdir -p {tmp_path}/nowhere" in finding.mend


async def test_a_queue_on_a_server_has_no_disk_here_but_large_messages_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    site = local_site(tmp_path, {}, queue={"url": "postgresql://relay@db.example/queue"})
    disk(monkeypatch, free=10**10)
    assert [(f.subject, f.level) for f in await check(site)] == [(str(tmp_path), "ok")]
    disk(monkeypatch, free=1 * MB)
    [finding] = await check(site)
    assert finding.level == "warning" and "TMPDIR" in finding.mend


async def test_room_inside_the_file_counts_as_it_does_for_the_relay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    queue = sqlite3.connect(tmp_path / "queue.db")
    queue.execute("CREATE TABLE content (octets BLOB)")
    queue.execute("INSERT INTO content VALUES (zeroblob(4000000))")
    queue.execute("DELETE FROM content")
    queue.commit()
    [[pages]] = queue.execute("PRAGMA freelist_count")
    [[size]] = queue.execute("PRAGMA page_size")
    queue.close()
    assert free_inside(tmp_path / "queue.db") == pages * size > 3_900_000
    site = local_site(tmp_path, {}, queue={"min_free": "3MB"})
    disk(monkeypatch, free=2 * MB)
    assert [f.level for f in await check(site)] == ["ok"]
    disk(monkeypatch, free=1 * MB)  # less than the write-ahead log needs
    assert [f.level for f in await check(site)] == ["error"]


def test_a_file_that_is_no_database_has_no_room_inside(tmp_path: Path) -> None:
    (tmp_path / "queue.db").write_bytes(b"x" * 200)
    assert free_inside(tmp_path / "queue.db") == free_inside(tmp_path / "absent") == 0


async def test_a_host_with_lookup_tables_alone_has_no_queue(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    disk(monkeypatch, free=0)
    tables = [{"address": "127.0.0.1:10003", "protocol": "socketmap"}]
    [finding] = await check(local_site(tmp_path, {}, listen=None, tables=tables))
    assert finding.level == "ok"
