"""`srs-relay demo`: one message and its bounce, all the way, with nothing but loopback.

What the tables say is measured: SPF and the signatures are evaluated from the mailbox's point of view, with what DNS
says there.
"""

from __future__ import annotations

import asyncio
import signal
from dataclasses import dataclass
from datetime import UTC, datetime
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime, make_msgid
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from relay.authenticate import spf
from relay.authenticate.dns_budget import Budget
from relay.authenticate.verdict import Verdict, examine
from relay.cli.demo_servers import MailServer, Received
from relay.cli.demo_world import ALIAS, PATIENCE, SENDER, SENDER_IP, World, world
from relay.cli.errors import CommandFailed
from relay.dns import iprev
from relay.mail.message import Message
from relay.mail.visible import visible
from relay.sign.dkim_signature import sign
from relay.sign.keys import SigningKey

FORGED = "SRS0=fakehash=AA=shop.example=news@fwd.example"

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
    async with world() as here:
        found = await tour(here)
        _print(found, console)
        if problems := found.problems:
            raise CommandFailed("\n".join(problems))
        if stay:
            await _stay(here, console)


# --- what happens -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Signature:
    """A DKIM signature as the mailbox finds it."""

    domain: str
    selector: str
    algorithm: str
    valid: bool


@dataclass(frozen=True, slots=True)
class Findings:
    """What was seen on the way.

    Attributes:
        original: the octets that left the sender.
        arrived: the message at the mailbox.
        spf_without: SPF at the mailbox, had the sender not been rewritten.
        spf_with: SPF at the mailbox as it was.
        signatures: from top to bottom.
        dmarc, arc: their results at the mailbox.
        accepted: the relay's reply to the bounce.
        returned: the bounce at the sender's server.
        refused: the relay's reply to a bounce to a forged address.
    """

    original: bytes
    arrived: Received
    spf_without: str
    spf_with: str
    signatures: tuple[Signature, ...]
    dmarc: str
    arc: str
    accepted: str
    returned: Received
    refused: str

    @property
    def unchanged(self) -> bool:
        return self.arrived.content.endswith(self.original)

    @property
    def came_home(self) -> bool:
        return (self.returned.sender, self.returned.recipients) == ("", (SENDER,))

    @property
    def problems(self) -> list[str]:
        """What is not as it must be, one line each."""
        signers = {signature.domain for signature in self.signatures if signature.valid}
        expected = {
            "the message was changed on its way": self.unchanged,
            "SPF does not pass with the rewritten sender": self.spf_with == "pass",
            "a DKIM signature is missing or broken": signers == {"shop.example", "fwd.example"},
            "DMARC does not pass for the author's domain": self.dmarc == "pass",
            "the ARC chain is not whole": self.arc == "pass",
            "the bounce did not reach the sender": self.came_home,
            "a forged SRS address was not refused": self.refused.startswith("550"),
        }
        return [problem for problem, good in expected.items() if not good]


async def tour(here: World) -> Findings:
    """Send a message through the relay, bounce it at the mailbox, and follow both.

    Raises:
        CommandFailed: the relay refused one of them, or it did not arrive.
    """
    original = _newsletter(here.key)
    reply = await here.sender.send(here.relay, SENDER, ALIAS, original)
    if not reply.startswith("250"):
        raise CommandFailed(f"the relay refused the message: {reply}")
    arrived = await _next(here.mailbox)

    bounce = _bounce(arrived)
    accepted = await here.mailbox.send(here.relay, "", arrived.sender, bounce)
    if not accepted.startswith("250"):
        raise CommandFailed(f"the relay refused the bounce: {accepted}")
    seen = await _examined(here, arrived)
    return Findings(
        original,
        arrived,
        spf_without=(await _spf(here, arrived, SENDER)).result,
        spf_with=seen.spf.result if seen.spf is not None else "",
        signatures=tuple(Signature(one.domain, one.selector, one.algorithm, one.result == "pass") for one in seen.dkim),
        dmarc=seen.dmarc.result if seen.dmarc is not None else "",
        arc=seen.arc.result,
        accepted=accepted,
        returned=await _next(here.sender),
        refused=await here.mailbox.send(here.relay, "", FORGED, bounce),
    )


async def _next(host: MailServer) -> Received:
    try:
        return await host.next_message(PATIENCE)
    except TimeoutError:
        raise CommandFailed(f"nothing reached {host.name} within {PATIENCE:g} s") from None


async def _spf(here: World, arrived: Received, sender: str) -> spf.SpfVerdict:
    return await spf.check(
        here.resolver, ip=arrived.client, helo=arrived.helo, sender=sender, receiver=here.mailbox.name
    )


async def _examined(here: World, arrived: Received) -> Verdict:
    message, now = Message(arrived.content), datetime.now(UTC).timestamp()
    passed, name = await _spf(here, arrived, arrived.sender), await iprev(here.resolver, arrived.client)
    return await examine(Budget(here.resolver), message, arrived.sender, passed, name, now)


def _newsletter(key: SigningKey) -> bytes:
    message = EmailMessage(policy=SMTP)
    message["From"] = f"Shop News <{SENDER}>"
    message["To"] = ALIAS
    message["Subject"] = "What SPF makes of forwarding"
    message["Date"] = format_datetime(datetime.now(UTC))
    message["Message-ID"] = make_msgid(domain="shop.example")
    message.set_content("Nothing in here changes on its way.\n..not even this line\n")
    octets = message.as_bytes()
    return sign(Message(octets), key, int(datetime.now(UTC).timestamp())) + octets


def _bounce(undelivered: Received) -> bytes:
    """What the mailbox host writes when it finds out late that it cannot deliver."""
    message = EmailMessage(policy=SMTP)
    message["From"] = "Mail Delivery System <mailer-daemon@mailbox.example>"
    message["To"] = undelivered.sender
    message["Subject"] = "Undelivered: the mailbox is full"
    message["Date"] = format_datetime(datetime.now(UTC))
    message["Message-ID"] = make_msgid(domain="mailbox.example")
    message["Auto-Submitted"] = "auto-replied"
    message.set_content("Your message could not be delivered: 552 5.2.2 the mailbox is full\n")
    return message.as_bytes()


# --- what is shown ----------------------------------------------------------------------------------------------------


def _print(found: Findings, console: Console) -> None:
    arrived = found.arrived

    table = _table("The message", "", "left the sender", "reached the mailbox")
    table.add_row("address", SENDER_IP, arrived.client)
    table.add_row("EHLO", "mx.shop.example", arrived.helo)
    table.add_row("MAIL FROM", SENDER, Text(arrived.sender, "green"))
    table.add_row("RCPT TO", ALIAS, ", ".join(arrived.recipients))
    octets = f"{len(found.original)} octets"
    table.add_row("content", octets, _verdict(found.unchanged, f"the same {octets}, below new fields", "changed"))
    console.print(table, "")

    table = _table(f"SPF at the mailbox, for {arrived.client}", "", "MAIL FROM", "SPF")
    table.add_row("without rewriting", SENDER, _verdict(found.spf_without == "pass", "pass", found.spf_without))
    table.add_row("with rewriting", arrived.sender, _verdict(found.spf_with == "pass", "pass", found.spf_with))
    console.print(table, "")

    table = _table("DKIM at the mailbox", "signed by", "selector", "algorithm", "verification")
    for one in found.signatures:
        table.add_row(one.domain, one.selector, one.algorithm, _verdict(one.valid, "pass", "fail"))
    console.print(table, "")

    table = _table("DMARC and ARC at the mailbox", "check", "of", "result")
    table.add_row("DMARC, p=reject", "shop.example", _verdict(found.dmarc == "pass", found.dmarc, found.dmarc))
    table.add_row("ARC", "sealed by fwd.example", _verdict(found.arc == "pass", found.arc, found.arc))
    console.print(table, "")

    table = _table("Header fields that the relay put on top", "field", "value")
    for name, value in _added(found):
        table.add_row(name, value)
    console.print(table, "")

    table = _table("The mailbox bounces it", "", "RCPT TO", "outcome")
    table.add_row("at the relay", arrived.sender, found.accepted)
    table.add_row(
        "at the sender", ", ".join(found.returned.recipients), _verdict(found.came_home, "arrived from <>", "wrong")
    )
    refused = found.refused.replace(f"<{FORGED}>: ", "")
    table.add_row("forged", FORGED, _verdict(refused.startswith("550"), refused, refused))
    console.print(table)


def _added(found: Findings) -> list[tuple[str, str]]:
    rows = []
    for field in Message(found.arrived.content.removesuffix(found.original)).fields:
        value = " ".join(field.value.decode("ascii", "replace").split())
        if field.name in ("arc-seal", "arc-message-signature", "dkim-signature"):
            value = value[: value.rindex(" b=") + 11].replace(": ", ":") + "…"
        rows.append((field.raw.partition(b":")[0].decode("ascii", "replace"), value))
    return rows


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold")
    for column in columns:
        table.add_column(column, no_wrap=column in ("MAIL FROM", "RCPT TO"), overflow="fold")
    return table


def _verdict(good: bool, yes: str, no: str) -> Text:
    return Text(yes, "green") if good else Text(no, "red")


# --- and after --------------------------------------------------------------------------------------------------------


async def _stay(here: World, console: Console) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    address, port = here.relay
    console.print(
        "It stays up until Ctrl-C. Send to it, as its sender or as anyone else:",
        f"  swaks --server {address}:{port} --local-interface {SENDER_IP} --from {SENDER} --to {ALIAS}",
        "Its queue and its log:",
        f"  srs-relay queue list --config {here.folder}/relay.toml",
        f"  tail -f {here.folder}/log",
        "What arrives:",
        sep="\n",
        soft_wrap=True,
    )
    watchers = [asyncio.create_task(_watch(host, console)) for host in (here.sender, here.mailbox)]
    await stop.wait()
    for watcher in watchers:
        watcher.cancel()
    await asyncio.gather(*watchers, return_exceptions=True)


async def _watch(host: MailServer, console: Console) -> None:
    while True:
        message = await host.next_message()
        way = visible(f"<{message.sender}> to {', '.join(message.recipients)}")
        console.print(f"  {host.name}: {way}, {len(message.content)} octets", soft_wrap=True)
