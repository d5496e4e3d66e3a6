"""What workers count together: places that are never one too many, and rates that hold."""

from __future__ import annotations

import os
import signal
import time
import warnings

import pytest

from relay.deliver.shared_limits import TABLES, SharedLimits, messages_left, next_message

NOW = 1_000_000.0


def limits(*names: str, rows: int = 2) -> SharedLimits:
    shared = SharedLimits(rows)
    shared.adopt(names or ("d.test",))
    return shared


def in_a_minute(shared: SharedLimits, rate: int, step: float, start: float = NOW) -> int:
    """How many messages two workers get through in a minute, each asking every `step` seconds."""
    taken, now = 0, start
    while now < start + 60:
        for row in (0, 1):
            if shared.take("d.test", row, None, rate, now):
                taken += 1
                shared.give_back("d.test", row)
        now += step
    return taken


def test_all_workers_together_have_no_more_places_than_there_are() -> None:
    shared = limits()
    assert [shared.take("d.test", row, 3, None, NOW) for row in (0, 1, 0, 1)] == [True, True, True, False]
    shared.give_back("d.test", 1)
    assert shared.active("d.test") == 2 and shared.take("d.test", 1, 3, None, NOW)


def test_tables_do_not_count_together() -> None:
    shared = limits("a.test", "b.test")
    assert shared.take("a.test", 0, 1, 1, NOW) and shared.take("b.test", 0, 1, 1, NOW)
    assert not shared.take("a.test", 1, 1, None, NOW)


def test_the_places_of_a_dead_worker_come_back_and_no_others() -> None:
    shared = limits()
    for row in (0, 0, 1):
        assert shared.take("d.test", row, 3, None, NOW)
    shared.clear(0)
    assert shared.active("d.test") == 1


@pytest.mark.parametrize("rate", [1, 6, 10, 60, 90, 600, 6000])
def test_a_rate_holds_over_a_minute_for_two_workers(rate: int) -> None:
    first = in_a_minute(limits(), rate, 0.005)
    assert rate <= first <= rate + max(1, rate / 60)
    shared = limits()
    in_a_minute(shared, rate, 0.005)
    assert in_a_minute(shared, rate, 0.005, NOW + 60) == pytest.approx(rate, rel=0.02, abs=1)


def test_after_a_pause_a_second_of_messages_leaves_at_once_but_always_one() -> None:
    for rate, burst in ((1, 1), (59, 1), (120, 2), (6000, 100)):
        shared = limits()
        assert [shared.take("d.test", 0, None, rate, NOW) for _ in range(burst + 1)] == [True] * burst + [False]


def test_it_is_known_when_the_next_message_may_leave() -> None:
    shared = limits()
    assert next_message(10, shared.paid_until("d.test", 10, NOW), NOW) == NOW
    assert shared.take("d.test", 0, None, 10, NOW)
    when = next_message(10, shared.paid_until("d.test", 10, NOW), NOW)
    assert when == NOW + 6 and messages_left(10, shared.paid_until("d.test", 10, NOW), when) == 1
    assert not shared.take("d.test", 0, None, 10, when - 0.1) and shared.take("d.test", 0, None, 10, when)


def test_what_was_paid_for_nothing_is_given_back() -> None:
    shared = limits()
    assert shared.take("d.test", 0, None, 10, NOW)
    shared.refund("d.test", 10)
    assert shared.take("d.test", 1, None, 10, NOW)


def test_nothing_is_paid_where_there_is_no_place() -> None:
    shared = limits()
    assert shared.take("d.test", 0, 1, 10, NOW) and not shared.take("d.test", 1, 1, 10, NOW + 30)
    shared.give_back("d.test", 0)
    assert shared.take("d.test", 1, 1, 10, NOW + 30)


def test_a_clock_that_was_put_back_or_a_higher_rate_stops_nothing_for_long() -> None:
    shared = limits()
    assert shared.take("d.test", 0, None, 1, NOW)
    assert not shared.take("d.test", 0, None, 60, NOW + 1) and shared.take("d.test", 0, None, 60, NOW + 2)
    past = NOW - 86400
    assert not shared.take("d.test", 0, None, 60, past) and shared.take("d.test", 0, None, 60, past + 1)


def test_a_reload_keeps_the_numbers_of_the_tables_that_stay() -> None:
    shared = limits("a.test", "b.test")
    assert shared.take("b.test", 0, 1, 1, NOW)
    shared.adopt(["new.test", "b.test", "a.test"])
    assert not shared.take("b.test", 1, 1, None, NOW) and shared.take("new.test", 1, 1, 1, NOW)
    shared.adopt(["b.test"])
    shared.adopt(["b.test", "new.test"])
    shared.clear(1)
    assert shared.take("new.test", 1, 1, 1, NOW), "a table that comes back begins anew"


def test_there_is_a_largest_number_of_tables() -> None:
    with pytest.raises(ValueError, match=f"{TABLES + 1} with concurrency or rate, at most {TABLES}"):
        limits(*(f"d{n}.test" for n in range(TABLES + 1)))


def test_processes_never_share_a_place_and_a_killed_one_leaves_no_lock() -> None:
    """Two processes fight for one place as fast as they can; each marks the time during which it has it."""
    warnings.simplefilter("ignore", DeprecationWarning)  # of fork beside threads: the children use none
    shared, rounds = limits(rows=3), 3000
    read, write = os.pipe()
    children = []
    for row in (0, 1):
        pid = os.fork()
        if pid == 0:
            try:
                had = 0
                while had < rounds:
                    if shared.take("d.test", row, 1, None, NOW):
                        if shared.active("d.test") != 1:
                            os.write(write, b"!")
                        had += 1
                        shared.give_back("d.test", row)
            finally:
                os._exit(0)
        children.append(pid)
    for pid in children:
        assert os.waitpid(pid, 0)[1] == 0
    os.set_blocking(read, False)
    with pytest.raises(BlockingIOError):
        os.read(read, 1)
    pid = os.fork()
    if pid == 0:
        with shared._locked(0):
            os.write(write, b"l")
            time.sleep(60)
        os._exit(0)
    os.set_blocking(read, True)
    assert os.read(read, 1) == b"l"
    began = time.monotonic()
    assert not shared.take("d.test", 2, 1, None, NOW), "a lock that is held is no reason to wait"
    assert time.monotonic() - began < 1
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    assert shared.take("d.test", 2, 1, None, NOW)
    os.close(read)
    os.close(write)
