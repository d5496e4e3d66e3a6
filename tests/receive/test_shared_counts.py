"""Counters of several workers: each writes its own, all read the sum."""

from __future__ import annotations

import os

from relay.receive.shared_counts import ALL, CONNECTIONS, DISK, MEMORY, NETWORKS, SLOWEST, SharedCounts, bucket


def test_workers_add_up_and_a_dead_one_is_cleared() -> None:
    counts = SharedCounts(3)
    for worker in range(3):
        counts.row(worker)[CONNECTIONS + ALL] += worker + 1
    counts.row(1)[MEMORY + ALL] += 100
    assert counts.total(CONNECTIONS + ALL) == 6
    assert counts.others(1, CONNECTIONS + ALL) == [1, 3]
    counts.clear(1)
    assert (counts.total(CONNECTIONS + ALL), counts.total(MEMORY + ALL)) == (4, 0)


def test_a_counter_may_be_set() -> None:
    counts = SharedCounts(2)
    counts.row(0)[SLOWEST[MEMORY]] = 3
    assert counts.others(1, SLOWEST[MEMORY]) == [3]
    assert counts.total(SLOWEST[DISK]) == 0


def test_a_forked_worker_counts_for_all() -> None:
    counts = SharedCounts(2)
    child = os.fork()
    if child == 0:
        counts.row(1)[MEMORY + bucket("192.0.2.1")] += 7
        os._exit(0)
    os.waitpid(child, 0)
    assert counts.total(MEMORY + bucket("192.0.2.1")) == 7


def test_parts_do_not_overlap() -> None:
    parts = [CONNECTIONS, MEMORY, DISK, *NETWORKS]
    counters = [part + place for part in parts for place in (0, ALL)] + list(SLOWEST.values())
    assert len(set(counters)) == len(counters)
    counts = SharedCounts(1)
    for number, counter in enumerate(counters, 1):
        counts.row(0)[counter] += number
    assert [counts.total(counter) for counter in counters] == list(range(1, len(counters) + 1))
