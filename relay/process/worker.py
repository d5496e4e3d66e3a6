"""One worker: it listens, answers clients, delivers from the queue, and stops in order."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Mapping, Sequence
from functools import partial

import structlog

from relay.accounts.authenticators import authenticator
from relay.accounts.failures import LoginFailures
from relay.config.model import Config
from relay.config.sections import ListenSection, TablesSection
from relay.deliver.shared_limits import SharedLimits
from relay.dns import Resolver
from relay.intake.conversation import Conversation
from relay.metrics import Metrics
from relay.postfix_tables.lookups import Lookups
from relay.postfix_tables.server import TableServer
from relay.process.files import Files
from relay.process.stages import build_relay, build_stages
from relay.queue.database import QueueUnavailable
from relay.queue.store import Store
from relay.queue.upkeep import Upkeep
from relay.rate import Rates
from relay.receive.limits import Limits
from relay.receive.listener import Listener
from relay.receive.shared_counts import SharedCounts
from relay.receive.spool import Spool, temporary_folder
from relay.table_files.reloaded_file import follow

log = structlog.get_logger()


class Worker:
    """One worker process.

    Args:
        counts, number: where it counts what its clients take, see `receive.shared_counts`.
        limits: where all workers count what `[[delivery.destinations]]` limits; by default it is alone.
        files: what the configuration names, read.
        failures: of logins, counted by all workers.
    """

    def __init__(
        self,
        config: Config,
        store: Store,
        counts: SharedCounts,
        number: int,
        resolver: Resolver,
        metrics: Metrics,
        files: Files,
        rates: Rates,
        limits: SharedLimits | None = None,
        failures: LoginFailures | None = None,
    ) -> None:
        self._config = config
        self._store = store
        self._limits = Limits(
            counts,
            number,
            connections=config.limits.connections,
            per_client=config.limits.connections_per_client,
            memory=config.limits.message_memory,
            largest=config.receive.max_message_size,
            min_rate=config.limits.min_rate,
            spool=Spool(config.queue.folder or temporary_folder(), config.queue.min_free),
            known=rates.known,
            watch_memory=metrics.message_memory.add,
            watch_disk=metrics.message_spool.add,
        )
        store.expect(lambda: self._limits.messages)
        stages = build_stages(config, store, resolver, metrics, files, rates, policies=store.mta_sts)
        self._relay = build_relay(stages, store, limits, number, memory_is_short=lambda: self._limits.memory.excess > 0)
        self._tls = files.tls
        self._files = files
        self._authenticator = authenticator(
            config, files.accounts, failures or LoginFailures(), metrics, quiet=number > 0
        )
        self._lookups = Lookups(config, files.scheme, rates, metrics, store)
        self._table_servers: list[TableServer] = []
        self._listeners: list[Listener] = []
        self._background: list[asyncio.Task[None]] = []
        self._stopping = False

    def start(
        self,
        sockets: Sequence[tuple[ListenSection, socket.socket]],
        tables: Sequence[tuple[TablesSection, socket.socket]] = (),
    ) -> None:
        """Listen, answer lookups, and deliver what the queue holds."""
        tls = self._tls.context if self._tls is not None else None
        for listen, sock in sockets:
            listener = Listener(
                sock,
                listen,
                self._config,
                self._limits,
                self._relay.stages.ids,
                partial(Conversation, self._relay.intake),
                tls,
                self._authenticator,
            )
            listener.start()
            self._listeners.append(listener)
        self._table_servers = [TableServer(sock, table, self._lookups) for table, sock in tables]
        for server in self._table_servers:
            server.start()
        logins = [self._authenticator.run()] if self._authenticator is not None else []
        self._background = [
            *(asyncio.create_task(run, name="logins") for run in logins),
            asyncio.create_task(self._relay.dispatcher.run(), name="dispatcher"),
            asyncio.create_task(Upkeep(self._store, self._config.queue).run(), name="upkeep"),
            asyncio.create_task(follow(self._files.followed, quiet=True), name="tables"),
            asyncio.create_task(self._limits.monitor.run(), name="transfer-monitor"),
            asyncio.create_task(self._relay.stages.tls_results.run(self._store.tls_results), name="tls-results"),
        ]
        if self._tls is not None:
            self._background.append(asyncio.create_task(self._tls.follow(quiet=True), name="certificates"))
        if (mta_sts := self._relay.stages.mta_sts) is not None:
            self._background.append(asyncio.create_task(mta_sts.run(), name="mta-sts"))

    async def problem(self) -> str:
        """Why this host should get no mail for now; empty where it should."""
        if self._stopping:
            return "stopping"
        if not await self._relay.space.enough():
            return "the disk is nearly full"
        try:
            await self._store.ping()
        except QueueUnavailable as error:
            log.error("queue_unavailable", problem=str(error))
            return "the queue does not answer"
        return ""

    async def queue_sizes(self) -> Mapping[str, int] | None:
        """How many deliveries there are in each state; None while the queue does not answer."""
        try:
            return await self._store.counts()
        except QueueUnavailable as error:
            log.error("queue_unavailable", problem=str(error))
            return None

    def bad_lines(self) -> Mapping[str, int]:
        """How many lines of each table cannot be used."""
        return self._files.bad_lines

    async def stop(self, patience: float) -> None:
        """Accept nothing more, finish what is under way within `patience` seconds, and close."""
        self._stopping = True
        for listener in self._listeners:
            listener.stop()
        self._relay.dispatcher.end_offers()
        sessions = [asyncio.create_task(listener.finished()) for listener in self._listeners]
        lookups = [asyncio.create_task(server.stop(patience / 2)) for server in self._table_servers]
        if sessions:
            _, late = await asyncio.wait(sessions, timeout=patience / 2)
            for listener in self._listeners if late else ():
                listener.abort()
        await asyncio.gather(*lookups)
        await self._relay.dispatcher.stop(patience / 2)
        for task in self._background:
            task.cancel()
        await asyncio.gather(*self._background, return_exceptions=True)
        await self._relay.stages.agent.close()
        if self._relay.stages.mta_sts is not None:
            await self._relay.stages.mta_sts.close()
        await self._files.opened.close()
        await self._relay.stages.tls_results.flush(self._store.tls_results)
        await self._store.close()
