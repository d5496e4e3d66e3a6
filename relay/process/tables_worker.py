"""One worker of a configuration without listeners: it answers lookups, and has neither queue nor DNS."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Mapping, Sequence

from relay.config.model import Config
from relay.config.sections import ListenSection, TablesSection
from relay.metrics import Metrics
from relay.postfix_tables.lookups import Lookups
from relay.postfix_tables.server import TableServer
from relay.process.files import Files
from relay.rate import Rates


class TablesWorker:
    """One worker process; it is used as `Worker` is.

    Args:
        files: what the configuration names, read.
    """

    def __init__(self, config: Config, metrics: Metrics, files: Files, rates: Rates) -> None:
        self._lookups = Lookups(config, files.scheme, rates, metrics, tokens=None)
        self._servers: list[TableServer] = []
        self._stopping = False

    def start(
        self,
        sockets: Sequence[tuple[ListenSection, socket.socket]],
        tables: Sequence[tuple[TablesSection, socket.socket]],
    ) -> None:
        """Answer lookups. There are no `sockets` of listeners."""
        self._servers = [TableServer(sock, table, self._lookups) for table, sock in tables]
        for server in self._servers:
            server.start()

    async def problem(self) -> str:
        """Why this host should get no lookups for now; empty where it should."""
        return "stopping" if self._stopping else ""

    async def queue_sizes(self) -> Mapping[str, int] | None:
        """None: there is no queue."""
        return None

    def bad_lines(self) -> Mapping[str, int]:
        """Nothing: there are no alias tables."""
        return {}

    async def stop(self, patience: float) -> None:
        """Accept nothing more, answer what is under way within `patience` seconds, and close."""
        self._stopping = True
        await asyncio.gather(*(server.stop(patience) for server in self._servers))
