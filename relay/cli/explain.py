"""`srs-relay explain MESSAGE`: every check, decision and header for one message, as a person reads it or as JSON."""

from __future__ import annotations

import ipaddress
import json
import sys
from email.utils import getaddresses
from pathlib import Path
from typing import Annotated, Any

import typer
import uvloop
from rich.console import Console

from relay import log as logging
from relay.authenticate.verdict import Verdict
from relay.cli.dry_run import Asked, DryRun, Way, dry_run
from relay.cli.errors import CommandFailed
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
    next_hop_view: Annotated[
        bool, typer.Option("--next-hop-view", help="Also what the next hop will see: SPF, DKIM, DMARC, ARC.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON object.")] = False,
) -> None:
    """Show what would become of a message, and why. Nothing is sent or stored.

    DNS is asked as it is now. Without --ip, --from and --to the message itself has to say.
    """
    loaded = load(config)
    content = _read(message)
    sender = _sender(sender, content)
    recipients = to or _addresses(content, "to")
    if not recipients:
        raise typer.BadParameter("the message has no To field; say --to", param_hint="--to")
    sender, recipients = _normal(sender) if sender else "", [_normal(address) for address in recipients]
    logging.configure("json", "error", sys.stderr)
    result = uvloop.run(_dry_run(loaded, content, _ip(ip), helo, sender, recipients, next_hop_view))
    if as_json:
        print(json.dumps(as_dict(result), indent=2))
    else:
        show(result, Console(markup=False, emoji=False, highlight=False))


async def _dry_run(
    config: Config, message: Message, ip: str, helo: str, sender: str, recipients: list[str], next_hop_view: bool
) -> DryRun:
    resolver = CachingResolver(config.dns.nameservers, config.dns.timeout, config.dns.cache_entries)
    try:
        return await dry_run(
            config,
            resolver,
            message,
            ip=ip,
            helo=helo or sender.rpartition("@")[2] or "unknown.invalid",
            sender=sender,
            recipients=recipients,
            next_hop_view=next_hop_view,
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


# --- as JSON ----------------------------------------------------------------------------------------------------------


def as_dict(result: DryRun) -> dict[str, Any]:
    """The whole result in plain values."""
    return {
        "client": {"ip": result.client.ip, "helo": result.client.helo, "trusted": result.client.trusted},
        "session": [{"command": step.command, "reply": step.reply} for step in result.steps],
        "accepted": result.accepted,
        "checks": _checks(result.verdict) if result.verdict is not None else None,
        "dmarc_override": result.override,
        "unforwardable": result.unforwardable,
        "forged_results_removed": result.forged,
        "dns": _dns(result.asked),
        "deliveries": [_way(way) for way in result.ways],
    }


def _checks(verdict: Verdict) -> dict[str, Any]:
    spf, dmarc, iprev = verdict.spf, verdict.dmarc, verdict.iprev
    return {
        "spf": None
        if spf is None
        else {"result": spf.result, "identity": spf.identity, "domain": spf.domain, "problem": spf.problem},
        "dkim": [
            {
                "result": signature.result,
                "domain": signature.domain,
                "selector": signature.selector,
                "algorithm": signature.algorithm,
                "problem": signature.problem,
            }
            for signature in verdict.dkim
        ],
        "arc": {
            "result": verdict.arc.result,
            "sealers": [link.domain for link in verdict.arc.sets],
            "problem": verdict.arc.problem,
        },
        "dmarc": None
        if dmarc is None
        else {
            "result": dmarc.result,
            "domain": dmarc.domain,
            "organizational_domain": dmarc.organizational,
            "policy": dmarc.policy,
            "disposition": dmarc.disposition,
            "record_domain": dmarc.record_domain,
            "aligned": list(dmarc.aligned),
            "problem": dmarc.problem,
        },
        "iprev": None if iprev is None else {"result": iprev.result, "name": iprev.name, "problem": iprev.problem},
        "vouched_by": verdict.trusted_results.authserv_id if verdict.trusted_results is not None else "",
    }


def _dns(asked: tuple[Asked, ...]) -> list[dict[str, Any]]:
    return [{"name": q.name, "type": q.rdtype, "records": list(q.records), "problem": q.problem} for q in asked]


def _way(way: Way) -> dict[str, Any]:
    return {
        "recipient": way.recipient,
        "original_recipient": way.original,
        "next_hop": way.hop,
        "mail_from": way.sender,
        "mail_from_reason": way.sender_reason,
        "from_rewritten": way.from_rewritten,
        "from": [field.value.decode("utf-8", "replace") for field in way.message.all("from")],
        "added": [field.raw.decode("utf-8", "replace") for field in Message(way.on_top).fields],
        "next_hop_view": [
            {"ip": view.ip, "checks": _checks(view.verdict), "dns": _dns(view.asked)} for view in way.views
        ],
    }
