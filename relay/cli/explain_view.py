"""What `srs-relay explain` found, in tables for a person at a terminal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from relay.authenticate.verdict import Verdict
from relay.cli.dry_run import Asked, DryRun, Way
from relay.mail.message import Message
from relay.mail.visible import visible

_GOOD = frozenset(("pass",))
_BAD = frozenset(("fail", "permerror", "temperror", "softfail", "policy"))


def show(result: DryRun, console: Console) -> None:
    """Print it all, in the order in which it happens."""
    client = result.client
    who = f"{client.ip}, EHLO {client.helo}{', a trusted client' if client.trusted else ''}"
    table = _table(f"The session of {who}", "command", "reply")
    for step in result.steps:
        style = "green" if step.reply.startswith("2") else "red"
        table.add_row(visible(step.command), Text(visible(step.reply), style))
    console.print(table, "")
    if result.verdict is not None:
        console.print(_checks("What was checked", result.verdict), "")
    if result.asked:
        console.print(_dns("What DNS said", result.asked), "")
    for line in _decisions(result):
        console.print(visible(line))
    for way in result.ways:
        _show_way(way, console)


def _decisions(result: DryRun) -> Iterator[str]:
    if result.override:
        yield f"DMARC does not pass, and that does not count: {result.override}."
    if result.unforwardable:
        yield f"Forwarding would break it: {result.unforwardable}."
    if result.forged:
        yield f"Removed: {result.forged} Authentication-Results that claimed to be ours."
    if not result.ways:
        yield "Nothing would leave."


def _show_way(way: Way, console: Console) -> None:
    alias = f", behind {way.original}" if way.original != way.recipient else ""
    table = _table(f"To {way.recipient}{alias}", "", "")
    table.show_header = False
    table.add_row("next hop", visible(way.hop))
    table.add_row("MAIL FROM", visible(f"<{way.sender}> ({way.sender_reason})"))
    what = "rewritten" if way.from_rewritten else "as it came"
    for field in way.message.all("from"):
        table.add_row("From", f"{visible(field.value.decode('utf-8', 'replace'))} ({what})")
    console.print("", table, "")
    console.print("Put on top of it:")
    for field in Message(way.on_top).fields:
        lines = field.raw.decode("utf-8", "replace").rstrip().replace("\t", "    ").split("\r\n")
        console.print(*("  " + visible(line) for line in lines), sep="\n", soft_wrap=True)
    for view in way.views:
        console.print("", _checks(f"What the next hop sees from {view.ip}", view.verdict))
        if view.asked:
            console.print("", _dns("What DNS says to it", view.asked))


def _checks(title: str, verdict: Verdict) -> Table:
    table = _table(title, "check", "result", "for", "why")
    for check, result, name, why in _rows(verdict):
        style = "green" if result in _GOOD else "red" if result in _BAD else ""
        table.add_row(check, Text(visible(result), style), visible(name), visible(why))
    return table


def _rows(verdict: Verdict) -> Iterator[tuple[str, str, str, str]]:
    spf, dmarc, arc, name = verdict.spf, verdict.dmarc, verdict.arc, verdict.iprev
    if verdict.trusted_results is not None:
        yield "word of", verdict.trusted_results.authserv_id, "", "the trusted client's own verdict"
    if name is not None:
        yield "iprev", name.result, name.name, name.problem
    if spf is None:
        yield "SPF", "not checked", "", "the client is trusted" if verdict.trusted else ""
    else:
        yield "SPF", spf.result, f"{spf.domain} ({spf.identity})", spf.problem or spf.explanation
    for signature in verdict.dkim:
        key = f"{signature.domain} ({signature.selector}, {signature.algorithm})"
        yield "DKIM", signature.result, key, signature.problem
    if not verdict.dkim:
        yield "DKIM", "none", "", "no signature" if not verdict.trusted or verdict.trusted_results else "not checked"
    yield "ARC", arc.result, " < ".join(link.domain for link in arc.sets), arc.problem
    if dmarc is not None:
        why = [dmarc.problem] if dmarc.problem else []
        if dmarc.policy:
            why.append(f"p={dmarc.policy} at {dmarc.record_domain}{', testing' if dmarc.testing else ''}")
        why.append("aligned: " + (", ".join(dmarc.aligned) or "nothing"))
        yield "DMARC", dmarc.result, dmarc.domain, "; ".join(why)


def _dns(title: str, asked: Sequence[Asked]) -> Table:
    table = _table(title, "name", "type", "answer")
    for question in asked:
        answer = "\n".join(map(visible, question.records or [question.problem]))
        table.add_row(visible(question.name), question.rdtype, answer)
    return table


def _table(title: str, *columns: str) -> Table:
    table = Table(title=visible(title), title_justify="left", title_style="bold")
    for column in columns:
        table.add_column(column, overflow="fold")
    return table
