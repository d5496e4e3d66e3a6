"""`srs-relay serve`: runs the relay in the foreground, for systemd, Docker and a terminal."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections.abc import Mapping

import structlog
import uvloop

from relay import log as logging
from relay.check.way_home_watch import watch_way_home
from relay.cli.errors import CommandFailed
from relay.cli.options import ConfigFile
from relay.config.file import files_open_to_others, folders_open_to_others, load, mode_for, untrusted_host_names
from relay.config.model import Config
from relay.dns import CachingResolver
from relay.mail.address import domain_of
from relay.process import health
from relay.process.files import Files, read_files
from relay.process.queue_lock import CannotStart
from relay.process.supervisor import STOP_PATIENCE, Supervisor, WorkerSetup
from relay.process.tables_worker import TablesWorker
from relay.process.worker import Worker
from relay.queue import database
from relay.queue.connect import connect
from relay.queue.store import Store
from relay.srs.configured_scheme import short_secrets

log = structlog.get_logger()

ROOT = "a fault in this program would give away the whole host"
NOT_AS_ROOT = (
    "run it as a user of its own, who owns its folder; port 25 needs the capability CAP_NET_BIND_SERVICE alone "
    "(in a systemd unit User= and AmbientCapabilities=)"
)
OPEN_TABLE = "name the hosts in clients: whoever can connect can make addresses that this host forwards mail to"
SHORT_SECRET = "who tries secrets finds it, and can then send mail through this host to anybody"
NEW_SECRET = "put a new one on the first line (openssl rand -base64 24), and delete this one after srs.max_age"
NO_POSTMASTER = (
    "RFC 5321 section 4.5.1 is not met: nobody reads mail to <postmaster>, so it is refused, and people who have "
    "trouble with mail from here cannot say so"
)


def serve(config: ConfigFile = None) -> None:
    """Run the relay. SIGHUP reloads the configuration, SIGTERM finishes what is under way and stops."""

    def read() -> Config:
        loaded = load(config)
        logging.configure(loaded.log.format, loaded.log.level, sys.stdout)
        for path in files_open_to_others(loaded, config):
            log.warning(
                "secret_readable_by_others", file=str(path), mend=f"chmod {mode_for(path, os.geteuid()):o} {path}"
            )
        for path in folders_open_to_others(loaded):
            log.warning("folder_writable_by_others", folder=str(path), mend=f"chmod o-w {path}")
        if os.geteuid() == 0:
            log.warning("running_as_root", problem=ROOT, mend=NOT_AS_ROOT)
        for table in loaded.tables:
            if table.is_shared:
                log.warning("table_open_to_others", address=table.address, mend=OPEN_TABLE)
        for entry in untrusted_host_names(loaded):
            log.warning("host_not_trusted", host=entry.key, file=entry.where, mend="put its address there")
        return loaded

    def checked(loaded: Config) -> Files:
        files = read_files(loaded)
        if not loaded.takes_mail:
            return files
        if not has_postmaster(loaded, files):
            log.warning("no_postmaster", problem=NO_POSTMASTER, mend="set routes.postmaster to an address that is read")
        for place, octets in short_secrets(files.scheme.secrets).items():
            path = loaded.srs.secrets_file
            log.warning(
                "srs_secret_short", file=str(path), number=place, octets=octets, problem=SHORT_SECRET, mend=NEW_SECRET
            )
        users = files.accounts.users
        if users is not None and not users.value.by_key and any(listener.auth != "none" for listener in loaded.listen):
            log.warning("no_users", path=str(users.path), mend="srs-relay users add NAME")
        if loaded.arc.seal and files.signer.keys and files.signer.sealing_key(time.time()) is None:
            log.warning("not_sealed", mend="ARC takes RSA keys only: name one in [arc], or set arc.seal = false")
        return files

    try:
        sys.exit(Supervisor(read, checked, work).run())
    except (CannotStart, database.QueueUnavailable, ValueError) as error:
        raise CommandFailed(str(error)) from None


def has_postmaster(config: Config, files: Files) -> bool:
    """Whether mail for <postmaster> is accepted, as RFC 5321 section 4.5.1 requires."""
    address, aliases = f"postmaster@{config.hostname}", files.tables.aliases
    table = aliases.listed
    if not aliases.are_listed:
        return True  # a table that cannot be listed may have it
    elsewhere = False
    if config.routes.postmaster and not table.lists(address):
        address = config.routes.postmaster
        elsewhere = domain_of(address) not in table.domains
    is_known = elsewhere or domain_of(address) in config.routes.domains or table.matches(address)
    return is_known and table.rejection(address) is None


def work(setup: WorkerSetup) -> int:
    """Run one worker process until it is told to stop; returns its exit status."""
    return uvloop.run(_work(setup))


def _log_dns_failure(name: str, rdtype: str, problems: Mapping[str, str]) -> None:
    """Log what the name servers said; what is told to clients and senders names none of them."""
    log.info("dns_failed", name=name, type=rdtype, servers=[f"{host}: {said}" for host, said in problems.items()])


async def _work(setup: WorkerSetup) -> int:
    logging.configure(setup.config.log.format, setup.config.log.level, sys.stdout, for_good=True)
    with logging.gathered(asyncio.get_running_loop()):
        return await _serve(setup)


async def _serve(setup: WorkerSetup) -> int:
    config = setup.config
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, stop.set)
    loop.add_reader(setup.parent_gone, stop.set)
    setup.metrics.attach(setup.row)
    worker: Worker | TablesWorker
    way_home = None
    if config.takes_mail:
        resolver = CachingResolver(
            config.dns.nameservers,
            config.dns.timeout,
            config.dns.cache_entries,
            trust_ad=config.dns.trust_ad,
            report=_log_dns_failure,
        )
        store = Store(await connect(config.queue.url, owner=setup.owner), setup.owner)
        worker = Worker(
            config,
            store,
            setup.counts,
            setup.row,
            resolver,
            setup.metrics,
            setup.files,
            setup.rates,
            setup.limits,
            setup.failures,
        )
        way_home = watch_way_home(setup, resolver, store)
    else:
        worker = TablesWorker(config, setup.metrics, setup.files, setup.rates)
    worker.start(setup.sockets, setup.tables)
    http = None
    if setup.http is not None:
        http = await health.serve(setup.http, setup.metrics, worker.problem, worker.queue_sizes, worker.bad_lines)
    await stop.wait()
    if http is not None:
        http.close()
    loop.remove_reader(setup.parent_gone)
    if way_home is not None:
        way_home.cancel()
    await worker.stop(STOP_PATIENCE)
    return os.EX_OK
