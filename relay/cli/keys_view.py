"""The output of `srs-relay keys`: for a person, as JSON, and as lines for a zone file."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from typing import Any

from relay.cli.present_keys import MissingKey
from relay.mail.visible import visible
from relay.sign.keys import SigningKey, zone_line
from relay.sign.published_key import Published
from relay.sign.rotation import record_needed_until
from relay.sign.signer import Signer
from relay.sign.signing_table import AUTHORS_DOMAIN

IN_USE = "In use."  # what `standing` says of a key of which there is no more to say
_LAST = datetime.max.replace(microsecond=0, tzinfo=UTC).timestamp()


def row(
    signer: Signer, key: SigningKey, sealing: SigningKey | None, now: float, published: Published | None
) -> dict[str, Any]:
    """One key for `keys list`.

    Args:
        sealing: the key for ARC.
        published: None for a key whose record is in the domain of each author.
    """
    return {
        "domain": key.domain,
        "selector": key.selector,
        "algorithm": key.algorithm,
        "bits": key.bits,
        "state": key.state(now),
        "active_from": _iso(key.active_from),
        "active_until": _iso(key.active_until),
        "signs": [rule.pattern.removeprefix("*@") for rule in signer.table.rules if _has(rule.keys, key)],
        "everyone_else": _has(signer.table.forwarder, key),
        "arc": sealing is not None and _has((sealing,), key),
        "record": key.record_name,
        "dns": published.state if published is not None else None,
        "problem": published.problem if published is not None else "",
    }


def missing_row(key: MissingKey) -> dict[str, Any]:
    """A key whose file is missing, for `keys list`."""
    return {
        "domain": key.domain,
        "selector": key.selector,
        "algorithm": None,
        "bits": None,
        "state": "missing",
        "active_from": None,
        "active_until": None,
        "signs": list(key.signs),
        "everyone_else": False,
        "arc": key.seals,
        "record": key.record_name,
        "dns": None,
        "problem": f"{key.path} is missing; `srs-relay keys new` makes it",
    }


def lines(row: dict[str, Any]) -> str:
    """A row of `keys list` for a person."""
    if row["state"] == "missing":
        return "\n".join(map(visible, (row["record"], f"  no key: {row['problem']}")))
    dns = "not asked" if row["dns"] is None else row["dns"]
    problem = f" ({row['problem']})" if row["problem"] else ""
    signs = [*row["signs"], *(["everyone else"] if row["everyone_else"] else [])]
    purpose = [f"signs {', '.join(signs)}"] if signs else []
    purpose += ["seals ARC"] if row["arc"] else []
    return "\n".join(
        visible(line)
        for line in (
            row["record"],
            f"  {row['algorithm']}, {row['bits']} bits; {_times(row)}; DNS: {dns}{problem}",
            f"  {'; '.join(purpose) or 'signs nothing'}",
        )
    )


def record(key: SigningKey, now: float, retry_for: float) -> dict[str, Any]:
    """One record for `keys dns`."""
    needed_until = record_needed_until(key, retry_for)
    return {
        "name": key.record_name,
        "type": "TXT",
        "text": key.public_record(),
        "state": key.state(now),
        "needed": now < needed_until,
        "needed_until": _iso(needed_until),
    }


def zone_entry(key: SigningKey, now: float, retry_for: float) -> str:
    """One record as lines of a zone file; for a record that is not needed any more, only a comment."""
    comment = standing(key, now, retry_for)
    if now >= record_needed_until(key, retry_for):
        return f"; {comment}"
    line = zone_line(key.record_name, key.public_record())
    return f"; {comment}\n; {line}" if key.domain == AUTHORS_DOMAIN else f"; {comment}\n{line}"


def standing(key: SigningKey, now: float, retry_for: float) -> str:
    """What is to be known about the record of a key, in one line: whether it is in use, and until when it is needed."""
    needed_until = record_needed_until(key, retry_for)
    if now >= needed_until:
        return f"{key.record_name} may go: its key is retired since {date(key.active_until)}."
    if now < key.active_from:
        comment = f"To be published now: the key signs from {date(key.active_from)} on."
    else:
        comment = IN_USE if now < key.active_until else "Not in use any more."
    if math.isfinite(needed_until):
        comment += f" The key signs until {date(key.active_until)}, the record has to stay until {date(needed_until)}."
    return f"{comment} Its record is in the domain of each author, for %:" if key.domain == AUTHORS_DOMAIN else comment


def date(seconds: float) -> str:
    """A date for a person, in UTC as in the configuration."""
    return f"{_moment(seconds):%Y-%m-%d %H:%M} UTC"


def _times(row: dict[str, Any]) -> str:
    since, until = row["active_from"], row["active_until"]
    return f"{row['state']}{f' from {since}' if since else ''}{f' until {until}' if until else ''}"


def _has(signing_keys: tuple[SigningKey, ...], key: SigningKey) -> bool:
    return any(signing_key.record_name == key.record_name for signing_key in signing_keys)


def _iso(seconds: float) -> str | None:
    """The date in ISO 8601; None where there is no limit."""
    if not math.isfinite(seconds):
        return None
    return f"{_moment(seconds):%Y-%m-%dT%H:%M:%SZ}"


def _moment(seconds: float) -> datetime:
    """The date, or the last one that Python knows: a key may last longer, and its record even longer than the key."""
    return datetime.fromtimestamp(min(seconds, _LAST), UTC)
