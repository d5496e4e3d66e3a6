"""The TXT record that says that a domain has an MTA-STS policy (RFC 8461 section 3.1), and which version of it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from relay.mail.reply import printable

BEGIN = "v=STSv1;"

_WSP = " \t"
_ID = re.compile(r"[A-Za-z0-9]{1,32}\Z")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,31}\Z")


class BadRecord(ValueError):
    """Senders treat the domain as one without a policy; the text says why."""


def texts_of(records: Iterable[Sequence[bytes]]) -> list[str]:
    """The TXT records of a name as text, the strings of each joined; octets outside ASCII as Latin-1."""
    return [b"".join(strings).decode("latin-1") for strings in records]


def policy_id(texts: Iterable[str]) -> str:
    """The id of the policy; empty where none of the TXT records of `_mta-sts.DOMAIN` is about MTA-STS.

    Fields that are not known are ignored, and of several ids the first counts.

    Raises:
        BadRecord: there is more than one record, or it cannot be read.
    """
    records = [text for text in texts if text.startswith(BEGIN)]
    if not records:
        return ""
    if len(records) > 1:
        raise BadRecord(f"there are {len(records)} MTA-STS records, and more than one count as none")
    ids = []
    for field in records[0].removeprefix(BEGIN).rstrip(_WSP).removesuffix(";").split(";"):
        name, equals, value = field.strip(_WSP).partition("=")
        if not (equals and _NAME.match(name)):
            raise BadRecord(f"the MTA-STS record cannot be read: {printable(field.strip(_WSP), 40)} is no name=value")
        if name == "id":
            ids.append(value)
    if not (ids and _ID.match(ids[0])):
        raise BadRecord("the MTA-STS record has no id= of 1 to 32 letters and digits")
    return ids[0]
