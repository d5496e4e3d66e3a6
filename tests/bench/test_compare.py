"""The order of the bursts, and what is made of their figures."""

from __future__ import annotations

from typing import Any, cast

import pytest

from bench.compare import Bursts, in_turns
from bench.load import Load
from bench.running_relay import RunningRelay


class FakeRelay:
    """Uses a second of processor time whenever it is asked how much it has used."""

    used = 0.0

    def cpu(self) -> float:
        self.used += 1
        return self.used


async def _order(pairs: int) -> tuple[str, Bursts]:
    order = ""

    def send(side: str) -> Any:
        async def burst() -> Load:
            nonlocal order
            order += side
            return Load(rate=100.0 if side == "A" else 125.0, cpu=4.0 if side == "A" else 3.0, memory=0)

        return burst

    relays = cast(tuple[RunningRelay, RunningRelay], (FakeRelay(), FakeRelay()))
    found = await in_turns((send("A"), send("B")), relays, pairs)
    return order, found


async def test_neither_side_always_goes_first() -> None:
    order, found = await _order(4)
    assert order == "ABBAABBA"
    assert (len(found.a), len(found.b), len(found.idle)) == (4, 4, 8)


async def test_the_table_says_how_b_differs() -> None:
    _, found = await _order(6)
    found.idle = [0.004, 0.001]
    cpu, rate, idle = found.table().splitlines()[1:]
    assert cpu.split()[:6] == ["CPU", "ms", "a", "message", "4.00", "3.00"] and "-25.0 %" in cpu
    assert rate.split()[:5] == ["messages", "a", "second", "100.00", "125.00"] and "+25.0 %" in rate
    assert idle.endswith("0.4 % of a core")


async def test_five_pairs_are_no_comparison() -> None:
    _, found = await _order(5)
    with pytest.raises(ValueError):
        found.table()
