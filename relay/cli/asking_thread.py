"""Runs a library that asks DNS in the midst of its work: the library in a thread, its questions in the event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeVar

from relay.dns import Answer, DnsFailure, Resolver

T = TypeVar("T")
Ask = Callable[[str, str], Answer]
"""Called in the thread with a name and a type; waits for the answer. Raises DnsFailure."""


async def in_thread(resolver: Resolver, work: Callable[[Ask], T]) -> T:
    """What `work` returns. If this is cancelled, questions that are under way or still come fail at once."""
    loop = asyncio.get_running_loop()
    asked: set[asyncio.Task[Answer]] = set()
    over = False

    async def answer(name: str, rdtype: str) -> Answer:
        if over:
            raise DnsFailure(f"{name} {rdtype}: nobody waits for the answer")
        task = loop.create_task(resolver.query(name, rdtype))
        asked.add(task)
        try:
            return await task
        except asyncio.CancelledError:
            raise DnsFailure(f"{name} {rdtype}: nobody waits for the answer") from None
        finally:
            asked.discard(task)

    def ask(name: str, rdtype: str) -> Answer:
        return asyncio.run_coroutine_threadsafe(answer(name, rdtype), loop).result()

    try:
        return await asyncio.to_thread(work, ask)
    finally:
        over = True
        for task in asked:
            task.cancel()
