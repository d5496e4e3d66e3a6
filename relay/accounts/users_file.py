"""The file of users (`auth.users`): lines `name:$argon2id$…`, which `srs-relay users` writes.

`#` opens a comment line.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from relay.accounts.names import check_name, name_key
from relay.accounts.password_hash import OURS, costs_of, nobodys_hash
from relay.table_files.bad_lines import NONE, BadLine, BadLines, shown


@dataclass(frozen=True, slots=True)
class User:
    """A user: the name as the file has it, and the hash of the password."""

    name: str
    hashed: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Users:
    """The users of a file.

    Attributes:
        by_key: by the keys of their names.
        nobody: the hash to compare with where there is no such user: it takes as long as those of most users do, so
            that nobody learns from the time who is one.
    """

    by_key: Mapping[str, User]
    bad: BadLines = NONE
    nobody: str = field(default_factory=nobodys_hash, repr=False)

    def find(self, name: str) -> User | None:
        """The user of that name."""
        return self.by_key.get(name_key(name))


def parse_users(text: str, source: str) -> Users:
    """The users of a file. The lines that cannot be used are in `Users.bad`, and the log names them.

    Raises:
        ValueError: not one line can be used; the text names the first.
    """
    users, bad, costs = dict[str, User](), list[BadLine](), Counter({OURS: 0})
    for number, line in enumerate(text.split("\n"), 1):
        if not is_user_line(line):
            continue
        name, _, hashed = line.strip().partition(":")
        try:
            if not hashed:
                raise ValueError("a line is name:$argon2id$…, and this one has no hash")
            check_name(name)
            if name_key(name) in users:
                raise ValueError("this name stands above already")
            costs[costs_of(hashed)] += 1
        except ValueError as error:  # the line itself may be a password: only the name is shown, where it is one
            problem = f"{shown(name)}: {error}" if hashed else str(error)
            bad.append(BadLine(f"{source}:{number}", problem, "this user cannot log in with it"))
        else:
            users[name_key(name)] = User(name, hashed)
    if bad and not users:
        raise ValueError(f"{bad[0].where}: {bad[0].problem}")
    lines = BadLines(tuple(bad))
    lines.report(source)
    return Users(users, lines, nobodys_hash(costs.most_common(1)[0][0]))


def is_user_line(line: str) -> bool:
    """Whether a line of the file is for a user: it is neither blank nor a comment."""
    return bool(line.strip()) and not line.lstrip().startswith("#")
