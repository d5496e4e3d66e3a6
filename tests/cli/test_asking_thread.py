"""Work in a thread that asks DNS through the event loop, and its end when nobody waits for it any more."""

from __future__ import annotations

import asyncio
import threading

import pytest

from relay.cli.asking_thread import Ask, in_thread
from relay.dns import Answer, DnsFailure, StaticResolver


async def test_answers_and_failures_come_into_the_thread() -> None:
    resolver = StaticResolver({("a.test", "A"): ["192.0.2.1"], ("silent.test", "A"): DnsFailure("timeout")})
    main = threading.get_ident()

    def work(ask: Ask) -> tuple[Answer, str]:
        assert threading.get_ident() != main
        with pytest.raises(DnsFailure, match="timeout"):
            ask("silent.test", "A")
        return ask("a.test", "A"), "done"

    assert await in_thread(resolver, work) == (Answer(("192.0.2.1",)), "done")


async def test_an_error_of_the_work_is_raised() -> None:
    def work(ask: Ask) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await in_thread(StaticResolver({}), work)


async def test_work_that_is_cancelled_gets_no_more_answers() -> None:
    asked, ended = asyncio.Event(), threading.Event()
    failures: list[str] = []

    class Silent:
        async def query(self, name: str, rdtype: str) -> Answer:
            asked.set()
            return await asyncio.Future()

    def work(ask: Ask) -> None:
        for name in ("first.test", "second.test"):
            try:
                ask(name, "TXT")
            except DnsFailure as failure:
                failures.append(str(failure))
        ended.set()

    task = asyncio.create_task(in_thread(Silent(), work))
    await asyncio.wait_for(asked.wait(), 5)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await asyncio.to_thread(ended.wait, 5)
    assert failures == [f"{name}.test TXT: nobody waits for the answer" for name in ("first", "second")]
