"""The room for the queue, and for large messages on their way into it."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

from relay.check.finding import Finding, Level
from relay.check.site import Site
from relay.queue.disk_space import LOG_ROOM
from relay.receive.spool import temporary_folder

FILES = 1000  # that a file system should have room for; the queue and a spooled message need one each
_MB = 10**6
_HEADER = 100  # octets of an SQLite file, see https://www.sqlite.org/fileformat.html#the_database_header


async def check(site: Site) -> list[Finding]:
    """A finding for the disk of the queue, or of spooled messages where the queue is on a server."""
    if not site.config.takes_mail:
        return [Finding("disk", site.machine, "ok", "there is no queue: without a listener no mail comes in")]
    return [await asyncio.to_thread(_look, site)]


def _look(site: Site) -> Finding:
    queue = site.config.queue
    folder = queue.folder or temporary_folder()
    subject = str(folder)
    try:
        disk = os.statvfs(folder)
    except OSError as error:
        text = f"the folder cannot be used: {error.strerror}"
        return Finding("disk", subject, "error", text, f"make it: `mkdir -p {folder}`, with the relay's user as owner")
    if disk.f_flag & os.ST_RDONLY:
        text = "the file system can only be read, so no mail is accepted"
        return Finding("disk", subject, "error", text, "mount it for writing")
    on_disk = disk.f_bavail * disk.f_frsize
    inside = 0 if queue.folder is None else free_inside(Path(queue.url.removeprefix("sqlite:///")))
    free = on_disk + inside
    shown = f"{free // _MB:,} MB are free, queue.min_free is {queue.min_free // _MB:,} MB"
    mend = "make room on this disk, move the queue to a larger one, or lower queue.min_free"
    if free < queue.min_free or on_disk < min(queue.min_free // 2, LOG_ROOM):
        if queue.folder is None:
            text = f"{shown}: large messages wait in memory, not on this disk"
            return Finding("disk", subject, "warning", text, "make room there, or set TMPDIR to another folder")
        return Finding("disk", subject, "error", f"{shown}: all mail gets 452 4.3.1", mend)
    if disk.f_files and disk.f_favail < FILES:
        level: Level = "error" if disk.f_favail < 2 else "warning"
        text = f"the file system has room for {disk.f_favail} more files only (inodes)"
        return Finding("disk", subject, level, text, "delete files there, or move the queue to another file system")
    if free < 2 * queue.min_free:
        return Finding("disk", subject, "warning", f"{shown}: with less, all mail gets 452 4.3.1", mend)
    return Finding("disk", subject, "ok", shown)


def free_inside(file: Path) -> int:
    """The octets inside an SQLite file that are used again before it grows, as its header has them; 0 without one."""
    try:
        with file.open("rb") as opened:
            header = opened.read(_HEADER)
    except OSError:
        return 0
    if len(header) < _HEADER or not header.startswith(b"SQLite format 3\0"):
        return 0
    page_size = int.from_bytes(header[16:18])
    return (65536 if page_size == 1 else page_size) * int.from_bytes(header[36:40])
