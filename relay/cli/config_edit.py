"""Changes to the configuration file that leave everything else in it as the administrator wrote it.

This is the one place that knows tomlkit. It gets no more than the entry that changes, since it moves tables that do not
stand together; and what comes out is compared with what was meant before anybody sees it.
"""

from __future__ import annotations

import os
import re
import tempfile
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tomlkit
from tomlkit.exceptions import TOMLKitError
from tomlkit.items import AoT, Table, Whitespace

from relay.cli.errors import CommandFailed
from relay.config.file import parse
from relay.mail.address import normal_domain

_DKIM = re.compile(r"^[ \t]*\[\[[ \t]*dkim[ \t]*\]\]", re.MULTILINE)
_HEADER = re.compile(r"^[ \t]*\[", re.MULTILINE)


def with_successor(
    text: str, domain: str, selector: str, changes: Mapping[str, Any], successor: Mapping[str, Any]
) -> str:
    """The file's text with the `[[dkim]]` entry of one key changed, and another entry behind it.

    Args:
        domain, selector: of the key, normal.
        changes: what to set in its entry.
        successor: the new entry.

    Raises:
        CommandFailed: there is no such entry in the file, or it is not written as `[[dkim]]`.
    """
    headers = list(_DKIM.finditer(text))
    meant = tomllib.loads(text)
    named = ((normal_domain(entry["domain"]), normal_domain(entry["selector"])) for entry in meant.get("dkim", ()))
    position = next((place for place, names in enumerate(named) if names == (domain, selector)), len(headers))
    if position >= len(headers):
        raise CommandFailed(f"the file has no entry [[dkim]] for {selector}._domainkey.{domain} that could be changed")
    start = headers[position].start()
    following = _HEADER.search(text, headers[position].end())
    end = following.start() if following else len(text)
    meant["dkim"][position].update(changes)
    meant["dkim"].insert(position + 1, dict(successor))
    try:
        changed = text[:start] + _edited(text[start:end], changes, successor) + text[end:]
        if tomllib.loads(changed) == meant:
            return changed
    except (TOMLKitError, tomllib.TOMLDecodeError):
        pass  # what looks like a header stands within a value
    raise CommandFailed("the [[dkim]] entries of the file are written in a way that a command cannot change")


def toml_entry(values: Mapping[str, Any]) -> str:
    """A `[[dkim]]` entry."""
    return tomlkit.dumps({"dkim": [dict(values)]})


def replace_config(path: Path, before: str, text: str) -> None:
    """Put a new configuration in the place of the old one, at once and with its owner and mode.

    Args:
        before: what the old one has to be for the change to make sense.

    Raises:
        ConfigError: the new one cannot be loaded; the old one stays.
        CommandFailed: somebody else has changed the old one meanwhile; it stays as they left it.
        OSError: it cannot be written; the old one stays.
    """
    parse(text, path)
    path = path.resolve()  # a link to the file stays one
    there = path.stat()
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=".new-", suffix=path.suffix)
    try:
        with os.fdopen(handle, "w", encoding="utf-8", newline="") as file:
            file.write(text)
            os.fchmod(handle, there.st_mode & 0o7777)
            if (there.st_uid, there.st_gid) != (os.geteuid(), os.getegid()):
                os.fchown(handle, there.st_uid, there.st_gid)
            file.flush()
            os.fsync(handle)
        if path.read_bytes().decode("utf-8", errors="replace") != before:
            raise CommandFailed(f"{path} was changed meanwhile, and stays as it is; try again")
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink()
        raise


def _edited(section: str, changes: Mapping[str, Any], successor: Mapping[str, Any]) -> str:
    """The text of one entry with the changes, then the successor, then what stood apart below the entry."""
    document = tomlkit.parse(section)
    entries = document["dkim"]
    assert isinstance(entries, AoT)
    old = entries[0]
    body = old.value.body
    last = max((place for place, (key, _) in enumerate(body) if key is not None), default=-1)
    blank = (place for place in range(last + 1, len(body)) if isinstance(body[place][1], Whitespace))
    apart = next(blank, len(body))
    below = [item for _, item in body[apart:]]
    del body[apart:]
    old.update(changes)
    old.add(tomlkit.nl())
    entries.append(_table(successor, below))
    return tomlkit.dumps(document)


def _table(values: Mapping[str, Any], below: list[Any]) -> Table:
    table = tomlkit.table()
    table.update(values)
    for item in below:
        table.add(item)
    return table
