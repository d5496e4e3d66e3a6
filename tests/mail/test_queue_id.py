"""Queue ids grow with time, never repeat, and are read back from their text."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.mail.queue_id import QueueIds, first_at, given_at, id_from_text, id_text

NOW = 1_790_000_000.25


def test_ids_grow_even_where_the_clock_goes_back() -> None:
    times = iter([NOW, NOW, NOW - 3600, NOW + 1])
    ids = QueueIds(lambda: next(times))
    new = [ids.new() for _ in range(4)]
    assert new == sorted(set(new))
    assert [id_text(queue_id) for queue_id in new] == sorted(map(id_text, new))


def test_processes_differ(monkeypatch: pytest.MonkeyPatch) -> None:
    first = QueueIds(lambda: NOW).new()
    monkeypatch.setattr("relay.mail.queue_id.os.getpid", lambda: 1 << 30 | 77)
    assert QueueIds(lambda: NOW).new() != first


def test_an_id_tells_its_time() -> None:
    queue_id = QueueIds(lambda: NOW).new()
    assert given_at(queue_id) == pytest.approx(NOW, abs=1e-6)
    assert first_at(NOW) <= queue_id < first_at(NOW + 1e-5)


@given(st.integers(0, (1 << 60) - 1))
def test_a_text_is_read_back_in_either_case(queue_id: int) -> None:
    written = id_text(queue_id)
    assert len(written) == 12 and not set("ILOU") & set(written)
    assert id_from_text(written) == id_from_text(written.lower()) == queue_id


@pytest.mark.parametrize(
    "bad", ["", "0" * 11, "0" * 13, "00000000000I", "00000000000U", "00000000000-", "0000000000\u0660\u0660"]
)
def test_other_text_is_no_id(bad: str) -> None:
    with pytest.raises(ValueError, match="is not a queue id"):
        id_from_text(bad)
