"""A worker that has tables alone: it answers lookups, and says what it is."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path

from relay.metrics import Metrics
from relay.postfix_tables.sockets import close_table, open_table
from relay.process.files import read_files
from relay.process.tables_worker import TablesWorker
from relay.rate import Rates
from tests.peers import free_port
from tests.postfix_tables.served import PATIENCE, Client, config_of


async def test_it_answers_until_it_is_stopped(tmp_path: Path) -> None:
    (tmp_path / "srs.secret").write_text("tops3cr3t\n")
    config = config_of(tmp_path, {"address": f"127.0.0.1:{free_port()}"}, {"address": "unix:tables"})
    worker = TablesWorker(config, Metrics(), read_files(config), Rates(config.srs))
    with contextlib.ExitStack() as stack:
        sockets = [open_table(table) for table in config.tables]
        for sock in sockets:
            stack.callback(close_table, sock)
        worker.start([], [(table, sock.dup()) for table, sock in zip(config.tables, sockets, strict=True)])
        assert (await worker.problem(), await worker.queue_sizes(), worker.bad_lines()) == ("", None, {})
        clients = [await Client.connect(table) for table in config.tables]
        for client in clients:
            assert (await client.ask("forward", "joe@origin.test")).startswith("OK SRS0=")
        async with asyncio.timeout(PATIENCE):
            await worker.stop(PATIENCE)
        assert await worker.problem() == "stopping"
        for client in clients:
            assert await client.closed()
            await client.close()
    assert not (tmp_path / "queue.db").exists() and not (tmp_path / "tables").exists()
