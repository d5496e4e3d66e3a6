"""`srs-relay explain MESSAGE`: every check, decision and header for one message, for a person or as JSON."""

from __future__ import annotations

import ipaddress
import json
import sys
from email.utils import getaddresses
from pathlib import Path
from typing import Annotated

import typer
import uvloop
from rich.console import Console

from relay import log as logging
from relay.cli.dry_run import DryRun, dry_run
from relay.cli.errors import CommandFailed
from relay.cli.explain_json import as_dict
from relay.cli.explain_view import show
from relay.cli.options import ConfigFile
from relay.config.file import load
from relay.config.model import Config
from relay.dns import CachingResolver, DnsFailure
from relay.mail.address import BadAddress, parse
from relay.mail.message import Message
from relay.network import plain_ip
from relay.queue.database import QueueUnavailable
from relay.receive.data_decoder import has_bare_newline, normalize_newlines

NO_CLIENT = "192.0.2.0"  # RFC 5737: nobody has it, so that SPF passes for it nowhere but under +all


def explain(
    message: Annotated[str, typer.Argument(metavar="MESSAGE", help="A file with the message; - is standard input.")],
    config: ConfigFile = None,
    ip: Annotated[
        str, typer.Option(metavar="ADDRESS", help="The client's address (default: one that nobody has).")
    ] = "",
    helo: Annotated[
        str, typer.Option(metavar="NAME", help="What it says in EHLO (default: the sender's domain).")
    ] = "",
    sender: Annotated[
        str | None,
        typer.Option("--from", metavar="ADDRESS", help="MAIL FROM, <> for none (default: Return-Path, From)."),
    ] = None,
    to: Annotated[
        list[str] | None, typer.Option("--to", metavar="ADDRESS", help="RCPT TO, as often as needed (default: To).")
    ] = None,
    user: Annotated[str, typer.Option(metavar="NAME", help="The user who has logged in (default: nobody has).")] = "",
    next_hop_view: Annotated[
        bool, typer.Option("--next-hop-view", help="Also what the next hop will see: SPF, DKIM, DMARC, ARC.")
    ] = False,
    ask_filter: Annotated[
        bool, typer.Option("--filter", help="Also have rspamd and clamd read it, which rspamd may learn from.")
    ] = False,
    headers: Annotated[
        bool, typer.Option("--headers", help="Also the header fields that are put on top of it.")
    ] = False,
    dns: Annotated[bool, typer.Option("--dns", help="Also the questions to DNS, with their answers.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON object that has everything.")] = False,
) -> None:
    """Show what would become of a message, and why. Nothing is sent or stored.

    DNS is asked as it is now. Without --from and --to, the addresses are taken from the header of the message.

    The next hop's view is for the address that mail to its hosts leaves from: the configured one, or the kernel's
    choice. dkimpy and pyspf judge beside our own checks; where they differ, both opinions are shown.
    """
    loaded = load(config)
    if not loaded.takes_mail:
        mend = "`srs-relay srs forward` and `srs-relay srs reverse` show what the tables answer"
        raise CommandFailed(f"no mail comes in, because the configuration has no [[listen]]; {mend}")
    content = _read(message)
    sender = _sender(sender, content)
    recipients = to or _addresses(content, "to")
    if not recipients:
        raise typer.BadParameter("the message has no To field; say --to", param_hint="--to")
    sender, recipients = _normal(sender) if sender else "", [_normal(address) for address in recipients]
    logging.configure("json", "error", sys.stderr)
    result = uvloop.run(_dry_run(loaded, content, _ip(ip), helo, user, sender, recipients, next_hop_view, ask_filter))
    if as_json:
        print(json.dumps(as_dict(result), indent=2))
    else:
        show(result, Console(markup=False, emoji=False, highlight=False), headers=headers, dns=dns)


async def _dry_run(
    config: Config,
    message: Message,
    ip: str,
    helo: str,
    user: str,
    sender: str,
    recipients: list[str],
    next_hop_view: bool,
    ask_filter: bool,
) -> DryRun:
    resolver = CachingResolver(config.dns.nameservers, config.dns.timeout, config.dns.cache_entries)
    try:
        return await dry_run(
            config,
            resolver,
            message,
            ip=ip,
            helo=helo or sender.rpartition("@")[2] or "unknown.invalid",
            user=user,
            sender=sender,
            recipients=recipients,
            next_hop_view=next_hop_view,
            ask_filter=ask_filter,
        )
    except QueueUnavailable as error:
        raise CommandFailed(f"queue: {error}") from None
    except DnsFailure as error:
        raise CommandFailed(f"the addresses that we send from cannot be found: {error}") from None
    finally:
        await resolver.close()


def _read(name: str) -> Message:
    octets = sys.stdin.buffer.read() if name == "-" else Path(name).read_bytes()
    return Message(normalize_newlines(octets) if has_bare_newline(octets) else octets)


def _ip(text: str) -> str:
    try:
        return plain_ip(str(ipaddress.ip_address(text or NO_CLIENT)))
    except ValueError:
        raise typer.BadParameter(f"{text!r} is not an address", param_hint="--ip") from None


def _sender(given: str | None, message: Message) -> str:
    if given is not None:
        return given.strip().removeprefix("<").removesuffix(">")
    for field in message.all("return-path"):
        return field.value.decode("utf-8", "replace").strip("<> \t")
    return next(iter(_addresses(message, "from")), "")


def _addresses(message: Message, name: str) -> list[str]:
    values = [field.value.decode("utf-8", "replace") for field in message.all(name)]
    return [address for _, address in getaddresses(values) if "@" in address]


def _normal(address: str) -> str:
    try:
        return address if address.lower() == "postmaster" else str(parse(address))
    except BadAddress as error:
        raise typer.BadParameter(f"{address!r}: {error}") from None
