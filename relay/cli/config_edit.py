"""Changes to the configuration file that leave everything else in it as the administrator wrote it.

Besides this file only `route.alias_toml_text` uses tomlkit. Here it gets only the changed entry, since tomlkit moves
tables that are not adjacent, and the result is compared with the intended values before it is used.
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
    """The file's text with the `[[dkim]]` entry of one key changed, and another entry after it.

    Args:
        domain, selector: those of the key, in normal form.
        changes: the values to set in its entry.
        successor: the new entry.

    Raises:
        CommandFailed: there is no such entry in the file, or it is not written as `[[dkim]]`.
    """
    headers = list(_DKIM.finditer(text))
    intended = tomllib.loads(text)
    keys = ((normal_domain(entry["domain"]), normal_domain(entry["selector"])) for entry in intended.get("dkim", ()))
    position = next((index for index, key in enumerate(keys) if key == (domain, selector)), len(headers))
    if position >= len(headers):
        raise CommandFailed(f"the file has no entry [[dkim]] for {selector}._domainkey.{domain} that could be changed")
    start = headers[position].start()
    following = _HEADER.search(text, headers[position].end())
    end = following.start() if following else len(text)
    intended["dkim"][position].update(changes)
    intended["dkim"].insert(position + 1, dict(successor))
    try:
        changed = text[:start] + _edited(text[start:end], changes, successor) + text[end:]
        if tomllib.loads(changed) == intended:
            return changed
    except (TOMLKitError, tomllib.TOMLDecodeError):
        pass  # a line that looks like a header is part of a value
    raise CommandFailed("the [[dkim]] entries of the file are written in a way that a command cannot change")


def toml_entry(values: Mapping[str, Any]) -> str:
    """The text of a `[[dkim]]` entry."""
    return tomlkit.dumps({"dkim": [dict(values)]})


def replace_config(path: Path, before: str, text: str) -> None:
    """Replace the configuration file at once, keeping its owner and mode.

    Args:
        before: the old text on which the change is based.

    Raises:
        ConfigError: the new configuration cannot be loaded; the old file stays.
        CommandFailed: somebody else has changed the old file meanwhile; it stays as they left it.
        OSError: the new file cannot be written; the old one stays.
    """
    parse(text, path)
    path = path.resolve()  # a link to the file stays a link
    old = path.stat()
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=".new-", suffix=path.suffix)
    try:
        with os.fdopen(handle, "w", encoding="utf-8", newline="") as file:
            file.write(text)
            os.fchmod(handle, old.st_mode & 0o7777)
            if (old.st_uid, old.st_gid) != (os.geteuid(), os.getegid()):
                os.fchown(handle, old.st_uid, old.st_gid)
            file.flush()
            os.fsync(handle)
        if path.read_bytes().decode("utf-8", errors="replace") != before:
            raise CommandFailed(f"{path} was changed meanwhile, and stays as it is; try again")
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink()
        raise


def _edited(section: str, changes: Mapping[str, Any], successor: Mapping[str, Any]) -> str:
    """The text of one entry with the changes, then the successor, then what follows the entry after a blank line."""
    document = tomlkit.parse(section)
    entries = document["dkim"]
    assert isinstance(entries, AoT)
    old = entries[0]
    body = old.value.body
    last = max((index for index, (key, _) in enumerate(body) if key is not None), default=-1)
    blank_lines = (index for index in range(last + 1, len(body)) if isinstance(body[index][1], Whitespace))
    end = next(blank_lines, len(body))
    below = [item for _, item in body[end:]]
    del body[end:]
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
