"""Hashing beside the event loop: in threads, a few at once, and a bounded number of others that wait."""

from __future__ import annotations

import asyncio
import os
import threading

import pytest

from relay.accounts.hashing import AT_ONCE, WAITING, Hashing
from relay.mail.reply import Refused


class Slow:
    """Compares in as many threads as it is called in, until it may go on."""

    def __init__(self) -> None:
        self.go = threading.Event()
        self.threads = set[int]()
        self.priorities = set[int]()
        self.running = self.most = 0
        self._lock = threading.Lock()

    def __call__(self, hashed: str, password: str) -> bool:
        with self._lock:
            self.running += 1
            self.most = max(self.most, self.running)
            self.threads.add(threading.get_ident())
            self.priorities.add(os.getpriority(os.PRIO_PROCESS, threading.get_native_id()))
        assert self.go.wait(10)
        with self._lock:
            self.running -= 1
        return hashed == password


async def test_the_loop_goes_on_while_passwords_are_compared() -> None:
    slow = Slow()
    hashing = Hashing(slow)
    comparisons = [asyncio.create_task(hashing.is_password("x", str(number))) for number in range(AT_ONCE + WAITING)]
    while slow.running < AT_ONCE:
        await asyncio.sleep(0.001)  # the loop runs, although no comparison comes to its end
    with pytest.raises(Refused, match=r"454 4\.7\.0"):
        await hashing.is_password("x", "x")
    slow.go.set()
    assert not any(await asyncio.gather(*comparisons)) and await hashing.is_password("x", "x")
    assert slow.most == AT_ONCE == len(slow.threads) and threading.get_ident() not in slow.threads
    assert all(priority > os.getpriority(os.PRIO_PROCESS, 0) for priority in slow.priorities)


async def test_who_leaves_makes_room_only_when_the_thread_is_free() -> None:
    slow = Slow()
    hashing = Hashing(slow)
    comparisons = [asyncio.create_task(hashing.is_password("x", "x")) for _ in range(AT_ONCE + WAITING)]
    while slow.running < AT_ONCE:
        await asyncio.sleep(0.001)
    for comparison in comparisons:
        comparison.cancel()
    await asyncio.gather(*comparisons, return_exceptions=True)
    again = [asyncio.create_task(hashing.is_password("x", "x")) for _ in range(WAITING)]
    await asyncio.sleep(0)
    slow.go.set()
    assert all(await asyncio.gather(*again)) and slow.most == AT_ONCE
