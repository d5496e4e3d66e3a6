"""A table that is served in this process, and clients of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import uvloop

from relay.config.sections import TablesSection
from relay.metrics import Metrics
from relay.postfix_tables.lookups import Lookups, Tokens
from relay.postfix_tables.server import TableServer
from relay.postfix_tables.sockets import close_table, open_table
from relay.rate import Rates
from relay.srs.address import Scheme
from tests.peers import free_port
from tests.postfix_tables.served import PATIENCE, Client, config_of


def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Connections are served on uvloop, which `serve` uses, and on asyncio's own event loop."""
    loops: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {"uvloop": uvloop.new_event_loop}
    if item.path.name == "test_server.py":
        loops["asyncio"] = asyncio.new_event_loop
    return loops


Serve = Callable[..., Awaitable["Served"]]


@dataclass
class Served:
    """One table.

    Attributes:
        server: answers on the table's socket.
        table: says where that is.
    """

    server: TableServer
    table: TablesSection
    stack: AsyncExitStack
    stopped: bool = field(default=False)

    async def client(self) -> Client:
        """A client that is connected."""
        client = await Client.connect(self.table)
        self.stack.push_async_callback(client.close)
        return client

    async def stop(self, patience: float = PATIENCE) -> None:
        if not self.stopped:
            self.stopped = True
            async with asyncio.timeout(PATIENCE):
                await self.server.stop(patience)


@pytest.fixture
async def serve(tmp_path: Path) -> AsyncIterator[Serve]:
    """Serves a table with these keys: by default a socketmap."""
    async with AsyncExitStack() as stack:

        async def serve(
            *, connections: int = 50, tokens: Tokens | None = None, senders: Any = None, **keys: Any
        ) -> Served:
            config = config_of(tmp_path, {"address": f"127.0.0.1:{free_port()}", **keys}, senders=senders or {})
            [table] = config.tables
            lookups = Lookups(config, Scheme("example.com", (b"tops3cr3t",)), Rates(config.srs), Metrics(), tokens)
            sock = open_table(table)
            stack.callback(close_table, sock)
            served = Served(TableServer(sock.dup(), table, lookups, connections), table, stack)
            served.server.start()
            stack.push_async_callback(served.stop)
            return served

        yield serve
