"""The files of `[auth]`: users and senders, read before any worker starts, and read again when they change."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from relay.accounts.user_senders import SenderTable, parse_senders
from relay.accounts.users_file import Users, parse_users
from relay.config.sections import AuthSection
from relay.table_files.reloaded_file import ReloadedFile


@dataclass(frozen=True, slots=True)
class AccountFiles:
    """The content of the files; None for one that the configuration does not name."""

    users: ReloadedFile[Users] | None = None
    senders: ReloadedFile[SenderTable] | None = None

    @property
    def files(self) -> tuple[ReloadedFile[Any], ...]:
        """All of them, for `relay.table_files.reloaded_file.follow`."""
        return tuple(file for file in (self.users, self.senders) if file is not None)

    @property
    def bad_lines(self) -> Mapping[str, int]:
        """How many lines of each file cannot be used, by its path."""
        return {str(file.path): len(file.value.bad.lines) for file in self.files}


def read_account_files(auth: AuthSection | None) -> AccountFiles:
    """Read the files.

    Raises:
        OSError: a file cannot be read.
        ValueError: not one line of a file can be used; the text names file and line.
    """
    if auth is None:
        return AccountFiles()
    return AccountFiles(
        users=ReloadedFile(auth.users, parse_users) if auth.users is not None else None,
        senders=ReloadedFile(auth.senders, parse_senders) if auth.senders is not None else None,
    )
