"""What both databases share: long work in parts, and errors in one line."""

from __future__ import annotations

import pytest
from sqlalchemy.exc import OperationalError

from relay.queue.database import error_line, repeat_until_done


async def test_long_work_is_repeated_until_a_part_finds_nothing() -> None:
    parts = [3, 3, 1, 0, 9]

    async def part() -> int:
        return parts.pop(0)

    assert await repeat_until_done(part) == 7
    assert parts == [9]


def caused(error: Exception, cause: Exception) -> Exception:
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (OSError(28, "No space left on device"), "No space left on device"),
        (ValueError("one\ntwo"), "one"),
        (TimeoutError(), "TimeoutError"),
        (OperationalError("SELECT 1", {}, Exception("database is locked")), "database is locked"),
        (OperationalError("SELECT 1", {}, caused(Exception("wrapped"), OSError(111, "refused"))), "refused"),
    ],
)
def test_an_error_is_told_in_one_line_and_in_the_words_of_its_cause(error: Exception, line: str) -> None:
    assert error_line(error) == line
