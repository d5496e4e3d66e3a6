"""Whose turn it is among the next hops that wait."""

from __future__ import annotations

import math
from itertools import islice

from relay.deliver.waiting_hops import LOOKS, WaitingHops


def test_everyone_is_looked_at_in_turn_and_those_with_room_first() -> None:
    waiting = WaitingHops()
    for n in range(LOOKS + 2):
        waiting.add(f"d{n}.test")
    assert list(waiting.take_turns())[:2] == ["d0.test", "d1.test"]
    waiting.look_first("d7.test")
    waiting.look_first("unknown.test")
    assert list(waiting.take_turns())[:3] == ["d7.test", f"d{LOOKS}.test", f"d{LOOKS + 1}.test"]


def test_the_domains_of_a_table_take_turns() -> None:
    waiting = WaitingHops()
    for n in range(4):
        waiting.add(f"d{n}.test", "table")
    waiting.add("other.test")
    assert waiting.tables == ("table",) and waiting.count("table") == 4
    assert list(islice(waiting.turns("table"), 3)) == ["d0.test", "d1.test", "d2.test"]
    assert list(islice(waiting.turns("table"), 3)) == ["d2.test", "d3.test", "d0.test"], "d2.test had no turn after all"
    assert list(waiting.turns("table")) == ["d0.test", "d1.test", "d2.test", "d3.test"], "each of them once"
    waiting.remove("d0.test")
    assert "d0.test" not in waiting and waiting.count("table") == 3
    for n in range(1, 4):
        waiting.remove(f"d{n}.test")
    assert not waiting.tables and list(waiting.turns("table")) == []


def test_a_table_that_is_known_later_counts_from_then_on() -> None:
    waiting = WaitingHops()
    waiting.add("d.test")
    waiting.was_deferred("d.test", 5.0)
    waiting.add("d.test", "table")
    assert waiting.count("table") == 1 and waiting.deferred_up_to("d.test") == 5.0
    waiting.add("d.test")
    assert waiting.count("table") == 0 and "d.test" in waiting


def test_it_may_change_while_turns_are_taken() -> None:
    waiting = WaitingHops()
    for n in range(3):
        waiting.add(f"d{n}.test", "table")
    seen = []
    for hop in waiting.turns("table"):
        seen.append(hop)
        waiting.remove(hop)
    assert len(seen) == 3
    waiting.was_deferred("d0.test", 1.0)
    assert "d0.test" not in waiting
    waiting.add("d0.test")
    assert waiting.deferred_up_to("d0.test") == -math.inf
