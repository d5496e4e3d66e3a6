"""The files of the configuration: who may read and write them, and lines of the tables that cannot be used."""

from __future__ import annotations

import asyncio
import os
import shlex
from collections.abc import Iterable
from pathlib import Path

from relay.check import databases, dovecot_socket
from relay.check.finding import Finding, Level
from relay.check.service_user import Access, ServiceUser, refused, service_user
from relay.check.site import Site
from relay.config.file import files_open_to_others, folders_open_to_others, mode_for, named_files, queue_files
from relay.table_files.bad_lines import BadLines

LINES = 3  # bad lines of one table that are named


async def check(site: Site) -> list[Finding]:
    """A finding for each file and folder with a fault; otherwise one for the folder of the configuration. Then one for
    the socket of Dovecot, where it checks logins, and for each database with a table."""
    return [*await asyncio.to_thread(_look, site), *await dovecot_socket.look(site), *await databases.look(site)]


def _look(site: Site) -> list[Finding]:
    user = service_user(site.config)
    findings = [*_open_to_others(site, user), *_closed_to_service(site, user), *_bad_lines(site), *_no_users(site)]
    if findings:
        return findings
    count = len(named_files(site.config))
    named = f"the {count} files that it names are" if count > 1 else "the file that it names is"
    whose = "this user" if user is None else user.name
    text = f"{named} there, {whose} may read {'them' if count > 1 else 'it'}, and secrets are closed to others"
    return [Finding("files", site.path or "environment", "ok", text)]


def _open_to_others(site: Site, user: ServiceUser | None) -> Iterable[Finding]:
    path = Path(site.path) if site.path else None
    reader = os.geteuid() if user is None else user.uid
    for file in files_open_to_others(site.config, path, reader):
        text = f"others than its owner may read or write it (mode {file.stat().st_mode & 0o777:03o})"
        mend = f"chmod {mode_for(file, reader):o} {shlex.quote(str(file))}"
        yield Finding("files", str(file), "warning", text, mend)
    tables = [file.path for file in site.files.followed]
    for file in dict.fromkeys([*([path] if path else []), *tables]):
        if file.stat().st_mode & 0o002:
            text = "everybody may change what the relay does with mail in this file"
            yield Finding("files", str(file), "warning", text, f"chmod o-w {shlex.quote(str(file))}")
    for folder in folders_open_to_others(site.config):
        text = "everybody may replace the secrets or the queue in this folder"
        yield Finding("files", str(folder), "warning", text, f"chmod o-w {shlex.quote(str(folder))}")


def _closed_to_service(site: Site, user: ServiceUser | None) -> Iterable[Finding]:
    """What the user who runs the relay cannot use, where that is another one than who runs the check."""
    if user is None or user.uid == os.geteuid():
        return
    config = site.config
    read = [*named_files(config), *([Path(site.path)] if site.path else [])]
    written = [path for path in queue_files(config) if path.exists()]
    written += [config.queue.folder] if config.queue.folder is not None else []
    needs: dict[Path, Access] = {**dict.fromkeys(read, "r"), **dict.fromkeys(written, "w")}
    closed = refused(user, needs)
    who = user.name if user.certain else f"{user.name}, who seems to run the relay (the owner of its folder),"
    level: Level = "error" if user.certain else "warning"
    folders = dict.fromkeys(folder for path, _ in closed for folder in reversed(path.parents))
    shut = [path for path, _ in refused(user, dict.fromkeys(folders, "x"))]
    for path, access in closed:
        above = next((folder for folder in shut if folder in path.parents), None)
        text = f"{who} may not {_VERBS[access]} it" + (f", because {above} is closed" if above else "")
        mend = f"chmod o+x {shlex.quote(str(above))}" if above else f"chown {user.name} {shlex.quote(str(path))}"
        yield Finding("files", str(path), level, text, mend)


_VERBS: dict[Access, str] = {"r": "read", "w": "write"}


def _bad_lines(site: Site) -> Iterable[Finding]:
    seen = set()
    accounts = [file.path for file in site.files.accounts.files]
    for file in site.files.followed:
        bad: BadLines = file.value.bad
        if not bad.lines or file.path in seen:  # domains may share a file
            continue
        seen.add(file.path)
        lines = [f"{line.where.removeprefix(f'{file.path}:')}: {line.problem}" for line in bad.lines[:LINES]]
        more = f", and {len(bad.lines) - LINES} more" if len(bad.lines) > LINES else ""
        text = f"lines that cannot be used: {'; '.join(lines)}{more}"
        mend = "correct these lines; until then their addresses get 451 4.3.5, and their mail waits"
        if file.path in accounts:
            mend = "correct these lines; until then they count for nobody"
        yield Finding("files", str(file.path), "warning", text, mend)


def _no_users(site: Site) -> Iterable[Finding]:
    """Listeners where clients could log in if there were a user."""
    users = site.files.accounts.users
    takers = [listener.address for listener in site.config.listen if listener.auth != "none"]
    if takers and users is not None and not users.value.by_key:
        text = f"clients can log in at {', '.join(takers)}, and there is no user"
        yield Finding("files", str(users.path), "warning", text, "srs-relay users add NAME")
