"""The output of `srs-relay init` and `srs-relay dns`: records as lines for a zone file, and as JSON."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator
from typing import Any

from relay.cli.records import Group, Record
from relay.sign.keys import zone_line

TTL = 3600  # seconds
COLUMNS = 79  # of a comment, for a terminal with 80


def zone(groups: Iterable[Group]) -> Iterator[str]:
    """The lines of a zone file (RFC 1035 section 5.1), with comments that say why.

    Comments fit into a terminal; records are whole lines. Records of a zone that is not ours are comments, too, and so
    are lines to complete.
    """
    for group in groups:
        for comment in group.comments:
            yield from _comment(comment)
        for record in group.records:
            if record.comment:
                yield from _comment(record.comment)
            yield (";" if record.elsewhere else "") + _line(record)
        for problem in group.missing:
            yield from _comment(problem)
        for line in group.to_complete:
            yield f";{line}"


def _comment(text: str) -> Iterator[str]:
    yield from textwrap.wrap(text, COLUMNS, initial_indent="; ", subsequent_indent="; ", break_on_hyphens=False)


def objects(groups: Iterable[Group]) -> list[dict[str, Any]]:
    """Each record as an object; the text of a TXT record is whole."""
    return [
        {
            "name": record.name,
            "type": record.type,
            "value": record.value,
            "ttl": TTL,
            "purpose": group.purpose,
            "elsewhere": record.elsewhere,
            "comment": record.comment,
        }
        for group in groups
        for record in group.records
    ]


def _line(record: Record) -> str:
    if record.type == "TXT":
        return zone_line(record.name, record.value)
    return f"{record.name}. {TTL} IN {record.type} {record.value}"
