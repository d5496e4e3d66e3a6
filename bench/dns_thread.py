"""A DNS server in a thread of its own, so that its time does not count for the one who asks."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager

from relay.cli.zone import ZoneServer


@contextmanager
def dns_thread(records: Mapping[tuple[str, str], Sequence[str]]) -> Iterator[tuple[str, int]]:
    """The address and port of a server for these records, as `ZoneServer` takes them."""
    started: Future[tuple[str, int]] = Future()
    stop = threading.Event()

    async def serve() -> None:
        server = ZoneServer(records)
        started.set_result(await server.start())
        await asyncio.to_thread(stop.wait)
        await server.close()

    thread = threading.Thread(target=asyncio.run, args=(serve(),))
    thread.start()
    try:
        yield started.result(10)
    finally:
        stop.set()
        thread.join()
