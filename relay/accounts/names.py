"""The names of accounts: what may be one, and which names are the same."""

from __future__ import annotations

import unicodedata

from relay.mail.address import BadAddress, lookup_key, parse
from relay.table_files.bad_lines import is_utf8

LONGEST = 255  # characters


def name_key(name: str) -> str:
    """The form of a name for comparison: the case does not matter (RFC 8265 section 3.3), nor how a domain is written.

    A name that is too long for an account stays as it is: to read it would take its time.
    """
    if len(name) > LONGEST:
        return name
    return lookup_key(name) if "@" in name else unicodedata.normalize("NFC", name.casefold())


def check_name(name: str) -> None:
    """Checks a name for a new account.

    Raises:
        ValueError: it cannot stand in the file of users, or it has an `@` and is no address.
    """
    if not name:
        raise ValueError("the name is empty")
    if len(name) > LONGEST:
        raise ValueError(f"the name is longer than {LONGEST} characters")
    if not is_utf8(name):
        raise ValueError("the name is not UTF-8")
    if ":" in name or name.startswith("#") or any(_is_unseen(character) for character in name):
        raise ValueError("a name has no colon, no white space, no control characters, and no # in front")
    if "@" in name:
        try:
            parse(name)
        except BadAddress as error:
            raise ValueError(f"a name with @ is an address, and this is none: {error}") from None


def _is_unseen(character: str) -> bool:
    return character.isspace() or unicodedata.category(character) in ("Cc", "Cf", "Cs", "Zl", "Zp", "Zs")
