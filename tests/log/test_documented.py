"""docs/log.md names every event of the log with its levels and fields, and none that there is not."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

import pytest

from tests.log.events import Event, logged_events

PAGE = Path(__file__).parents[2] / "docs" / "log.md"
ROW = re.compile(r"\| `(\w+)` \| ([a-z, ]+) \| ([^|]*)\| [^|]+ \|")


@cache
def documented_events() -> dict[str, Event]:
    """The rows of the page; `the same` repeats the fields of the row above."""
    events: dict[str, Event] = {}
    last = Event()
    for name, levels, fields in ROW.findall(PAGE.read_text(encoding="utf-8")):
        named = last.fields if fields.strip() == "the same" else set(re.findall(r"`(\w+)`", fields))
        last = events[name] = Event(set(levels.split(", ")), named)
    return events


@pytest.mark.parametrize("name", sorted(logged_events().keys() | documented_events().keys()))
def test_an_event_is_documented_as_it_is_logged(name: str) -> None:
    logged, documented = logged_events().get(name), documented_events().get(name)
    assert logged is not None, f"docs/log.md has `{name}`, and nothing logs it"
    assert documented is not None, f"docs/log.md needs a row: `{name}`, {logged.levels}, {sorted(logged.fields)}"
    assert documented == logged
