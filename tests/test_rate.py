"""Token buckets: a burst, then a steady rate, for each name, over all processes, in bounded memory."""

from __future__ import annotations

import os

from hypothesis import given
from hypothesis import strategies as st

from relay.rate import CLIENTS, PersonBuckets, TokenBuckets

NOW = 1577836860.0


def taken(buckets: TokenBuckets, name: str, now: float, tries: int = 100) -> int:
    return sum(buckets.take(name, now) for _ in range(tries))


def test_a_burst_then_the_rate() -> None:
    buckets = TokenBuckets(per_minute=6, burst=10)
    assert taken(buckets, "joe", NOW) == 10
    assert taken(buckets, "joe", NOW + 9) == 0
    assert taken(buckets, "joe", NOW + 10) == 1
    assert taken(buckets, "ann", NOW + 10) == 10
    assert taken(buckets, "joe", NOW + 70) == 6
    assert taken(buckets, "joe", NOW + 1000) == 10


def test_looking_takes_nothing() -> None:
    buckets = TokenBuckets(per_minute=6, burst=1)
    assert all(buckets.has("joe", NOW) for _ in range(3))
    assert taken(buckets, "joe", NOW) == 1
    assert not buckets.has("joe", NOW + 9)
    assert buckets.has("joe", NOW + 10)


def test_a_clock_that_jumps_back_gives_nothing_away_and_locks_nobody_out() -> None:
    buckets = TokenBuckets(per_minute=6, burst=6)
    assert taken(buckets, "joe", NOW) == 6
    assert not buckets.has("joe", NOW - 3600)
    assert taken(buckets, "joe", NOW - 3600 + 10) == 1


def test_what_another_process_takes_is_gone() -> None:
    buckets = TokenBuckets(per_minute=6, burst=5)
    child = os.fork()
    if child == 0:
        os._exit(taken(buckets, "joe", NOW, tries=3))
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 3
    assert taken(buckets, "joe", NOW) == 2


def test_each_client_has_a_rate_towards_a_person_and_all_have_one_together() -> None:
    buckets = PersonBuckets(per_minute=5)

    def brought(client: str, person: str = "joe", tries: int = 10) -> int:
        tokens = 0
        for _ in range(tries):
            tokens += buckets.has(person, client, NOW)
            buckets.take(person, client, NOW)
        return tokens

    assert [brought(f"192.0.2.{number}") for number in range(CLIENTS)] == [5] * CLIENTS
    assert brought("192.0.2.99") == brought("") == 0, "together they have used it up"
    assert brought("192.0.2.1", "ann") == 5
    assert brought("", "bob", 100) == 5 * CLIENTS, "a client without a name draws on all"


@given(st.lists(st.tuples(st.integers(0, 30), st.floats(0, 600)), max_size=200))
def test_nobody_ever_gets_more_than_burst_and_rate(draws: list[tuple[int, float]]) -> None:
    buckets = TokenBuckets(per_minute=0.6, burst=2)
    now, given_out = 0.0, dict[int, int]()
    for name, pause in draws:
        now += pause
        if buckets.take(f"d{name}.example", now):
            given_out[name] = given_out.get(name, 0) + 1
    assert all(count <= 2 + now / 100 + 1e-3 for count in given_out.values())
