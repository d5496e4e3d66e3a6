"""What `srs-relay explain` found, for a person at a terminal: what is decided, and on demand what that comes from."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.console import Console
from rich.text import Text

from relay.authenticate.verdict import Verdict
from relay.cli.dry_run import DryRun, Way
from relay.cli.entries import labels_width, print_entry, print_heading, result_text
from relay.cli.explain_checks import check_rows
from relay.cli.explain_next_hop import show_next_hop_view
from relay.cli.noting_resolver import Asked
from relay.mail.message import Message
from relay.mail.visible import visible
from relay.queue.hop_keys import is_doubtful_hop, shown_hop

_LABELS = labels_width(["MAIL FROM"])
# Why a sender leaves as it does, by `relay.rewrite.sender.Reason`.
_REASONS = {
    "null": "a bounce has no sender",
    "local": "a domain of ours, and proven",
    "unwanted": "this route has srs = false",
    "own": "it leads back to us already",
    "unneeded": "its SPF lets us send for it",
    "srs": "SPF will be asked for our domain",
    "too-long": "stored, for its address would be too long",
    "non-ascii": "stored, for its address is not ASCII",
}


def show(result: DryRun, console: Console, *, headers: bool = False, dns: bool = False) -> None:
    """Print the decisions, in the order in which they are made.

    Args:
        headers: print also the header fields that are put on top.
        dns: print also what was asked in DNS.
    """
    for line in _outcome(result):
        print_heading(console, line)
    _show_session(result, console)
    if result.verdict is not None:
        print_heading(console, "What was checked")
        _show_checks(result.verdict, console)
    for line in _decisions(result):
        print_entry(console, "", Text(visible(line)), -2)
    for way in result.ways:
        _show_way(way, console)
        for each in way.tls:
            problem = f": gets no mail now, for {each.problem}" if each.problem else ""
            text = f"{each.host.name} [{each.host.address}], policy {each.policy or 'unknown'}{problem}"
            print_entry(console, "TLS", Text(visible(text)), _LABELS)
        for view in way.views:
            show_next_hop_view(view, way.address_problem, console)
        if not way.views and way.address_problem:
            print_heading(console, f"What the next hop sees: nothing, for {way.address_problem}")
    if headers:
        _show_headers(result.ways, console)
    if dns:
        _show_dns(result, console)
    left_out = [option for option, shown in (("--headers", headers or not result.ways), ("--dns", dns)) if not shown]
    if left_out:
        console.print(Text(f"More: {', '.join(left_out)}", "dim"))


def _outcome(result: DryRun) -> Iterator[str]:
    reply = result.steps[-1].reply if result.steps else ""
    if result.accepted:
        leaves, refused = len(result.ways), sum(not step.reply.startswith("2") for step in result.steps)
        yield (
            "Accepted"
            + (f", and would leave for {leaves} address{'es' if leaves != 1 else ''}" if leaves else "")
            + (f"; {refused} recipient{'s' if refused != 1 else ''} refused" if refused else "")
            + "."
        )
    else:
        yield f"{'Deferred' if reply.startswith('4') else 'Refused'}: {reply}"


def _show_session(result: DryRun, console: Console) -> None:
    client = result.client
    standing = f", logged in as {client.user}" if client.user else ", a trusted client" if client.trusted else ""
    who = f"{client.ip}, EHLO {client.helo}{standing}"
    print_heading(console, f"The session of {who}")
    for step in result.steps:
        text = Text(visible(step.command) + "  ")
        print_entry(console, "", text.append(visible(step.reply), "green" if step.reply.startswith("2") else "red"), -2)


def _show_checks(verdict: Verdict, console: Console) -> None:
    for check, result, name, why in check_rows(verdict):
        details = "; ".join(visible(part) for part in (name, why) if part)
        print_entry(console, check, result_text(result).append(f"  {details}" if details else "", "default"), 7)


def _decisions(result: DryRun) -> Iterator[str]:
    for text in result.looked_up:
        yield f"Tables: {text}."
    if result.override:
        yield f"DMARC does not pass, and that does not count: {result.override}."
    if result.unforwardable:
        yield f"Forwarding would break it: {result.unforwardable}."
    if result.forged:
        yield f"Removed: {result.forged} Authentication-Results that claimed to be ours."
    if result.held:
        yield f"Held by {result.held}, until somebody releases it."
    for way in result.ways:
        if is_doubtful_hop(way.hop):
            yield f"Doubtful mail: it would leave apart from other mail to {way.recipient}."
    if result.filter_asked is False:
        yield "The filter was not asked; --filter asks it."
    if not result.ways:
        yield "Discarded: nothing would be delivered." if result.accepted else "Nothing would leave."


def _show_way(way: Way, console: Console) -> None:
    alias = f", behind {way.original}" if way.original != way.recipient else ""
    print_heading(console, f"To {way.recipient}{alias}")
    destination = f" (delivery.destinations: {way.destination})" if way.destination else ""
    print_entry(console, "next hop", Text(visible(f"{shown_hop(way.hop)}{destination}")), _LABELS)
    reason = _REASONS.get(way.sender_reason, "")
    sender = f"<{way.sender}> ({way.sender_reason}{': ' if reason else ''}{reason})"
    print_entry(console, "MAIL FROM", Text(visible(sender)), _LABELS)
    what = "rewritten" if way.from_rewritten else "as it came"
    for field in way.message.all("from"):
        author = " ".join(field.value.decode("utf-8", "replace").split())
        print_entry(console, "From", Text(visible(f"{author} ({what})")), _LABELS)
    signatures = [
        f"{'ARC seal' if signature.field.lower() == 'arc-seal' else 'DKIM'} {signature.domain} ({signature.selector})"
        for signature in way.signatures
    ]
    print_entry(console, "signed", Text(visible(", ".join(signatures) or "by nobody")), _LABELS)


def _show_headers(ways: Sequence[Way], console: Console) -> None:
    for way in ways:
        print_heading(console, f"Put on top of it, to {way.recipient}")
        for field in Message(way.on_top).fields:
            lines = field.raw.decode("utf-8", "replace").rstrip().replace("\t", "    ").split("\r\n")
            console.print(*("  " + visible(line) for line in lines), sep="\n", soft_wrap=True)


def _show_dns(result: DryRun, console: Console) -> None:
    if result.asked:
        print_heading(console, "What DNS said")
        _show_questions(result.asked, console)
    for way in result.ways:
        if way.asked:
            print_heading(console, f"What DNS said on the way to {way.recipient}")
            _show_questions(way.asked, console)
        for view in way.views:
            if view.asked:
                print_heading(console, f"What DNS says to the next hop of {way.recipient}, for {view.ip}")
                _show_questions(view.asked, console)


def _show_questions(asked: Sequence[Asked], console: Console) -> None:
    for question in asked:
        console.print(visible(f"  {question.name} {question.rdtype}"), soft_wrap=True)
        for answer in question.records or [f"({question.problem})"]:
            console.print(visible(f"    {answer}"), soft_wrap=True)
