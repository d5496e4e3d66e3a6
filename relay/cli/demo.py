"""`srs-relay demo`: sends one message through a relay and a bounce back, with nothing but loopback.

`demo_world` starts the hosts, `demo_tour` sends and measures, `demo_view` prints the tables.
"""

from __future__ import annotations

import asyncio
import signal
from typing import Annotated

import typer
from rich.console import Console

from relay.cli.demo_servers import MailServer
from relay.cli.demo_tour import tour
from relay.cli.demo_view import show
from relay.cli.demo_world import ALIAS, SENDER, SENDER_IP, World, world
from relay.cli.errors import CommandFailed
from relay.mail.visible import visible

Stay = Annotated[bool, typer.Option("--stay", help="Leave it running, to send to it with swaks or anything else.")]


def demo(stay: Stay = False) -> None:
    """Show the way of one message and its bounce, on loopback.

    It needs no configuration, no root and no network, takes a few seconds, and leaves nothing behind.
    """
    try:
        asyncio.run(_demo(stay))
    except asyncio.CancelledError:
        raise KeyboardInterrupt from None


async def _demo(stay: bool) -> None:
    loop = asyncio.get_running_loop()
    task = asyncio.current_task()
    assert task is not None
    loop.add_signal_handler(signal.SIGTERM, task.cancel)
    console = Console(markup=False, emoji=False, highlight=False)
    async with world() as demo_world:
        findings = await tour(demo_world)
        show(findings, console)
        if problems := findings.problems:
            raise CommandFailed("\n".join(problems))
        if stay:
            await _stay(demo_world, console)


async def _stay(demo_world: World, console: Console) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    address, port = demo_world.relay
    console.print(
        "It stays up until Ctrl-C. Send to it, as its sender or as anyone else:",
        f"  swaks --server {address}:{port} --local-interface {SENDER_IP} --from {SENDER} --to {ALIAS}",
        "Its queue and its log:",
        f"  srs-relay queue list --config {demo_world.folder}/relay.toml",
        f"  tail -f {demo_world.folder}/log",
        "What arrives:",
        sep="\n",
        soft_wrap=True,
    )
    watchers = [asyncio.create_task(_watch(host, console)) for host in (demo_world.sender, demo_world.mailbox)]
    await stop.wait()
    for watcher in watchers:
        watcher.cancel()
    await asyncio.gather(*watchers, return_exceptions=True)


async def _watch(host: MailServer, console: Console) -> None:
    while True:
        message = await host.next_message()
        envelope = visible(f"<{message.sender}> to {', '.join(message.recipients)}")
        console.print(f"  {host.name}: {envelope}, {len(message.content)} octets", soft_wrap=True)
