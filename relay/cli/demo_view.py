"""The findings of the demo as tables."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table
from rich.text import Text

from relay.cli.demo_tour import FORGED, Findings
from relay.cli.demo_world import ALIAS, SENDER, SENDER_IP
from relay.mail.message import Message

_PROSE = ("outcome", "value")
COLUMNS = 80  # every address of the demo fits into a table of this width, so it is never broken


def show(findings: Findings, console: Console) -> None:
    """Print the findings as tables, and go beyond the edge of a terminal of less than `COLUMNS`."""
    arrived = findings.arrived
    console.width = max(console.width, COLUMNS)

    table = _table("The message", "", "left the sender", "reached the mailbox")
    table.add_row("address", SENDER_IP, arrived.client)
    table.add_row("EHLO", "mx.shop.example", arrived.helo)
    table.add_row("MAIL FROM", SENDER, Text(arrived.sender, "green"))
    table.add_row("RCPT TO", ALIAS, ", ".join(arrived.recipients))
    octets = f"{len(findings.original)} octets"
    table.add_row("content", octets, _verdict(findings.unchanged, f"the same {octets}, below new fields", "changed"))
    console.print(table, "")

    table = _table(f"SPF at the mailbox, for {arrived.client}, by pyspf", "", "MAIL FROM", "SPF")
    table.add_row("without rewriting", SENDER, _verdict(findings.spf_without == "pass", "pass", findings.spf_without))
    table.add_row("with rewriting", arrived.sender, _verdict(findings.spf_with == "pass", "pass", findings.spf_with))
    console.print(table, "")

    table = _table("DKIM at the mailbox, by dkimpy", "signed by", "selector", "algorithm", "verification")
    for signature in findings.signatures:
        cells = signature.domain, signature.selector, signature.algorithm
        table.add_row(*cells, _verdict(signature.result == "pass", signature.result, signature.result))
    console.print(table, "")

    table = _table("DMARC and ARC at the mailbox", "check", "of", "result")
    table.add_row("DMARC, p=reject", "shop.example", _verdict(findings.dmarc == "pass", findings.dmarc, findings.dmarc))
    table.add_row("ARC", "sealed by fwd.example", _verdict(findings.arc == "pass", findings.arc, findings.arc))
    console.print(table)
    for difference in findings.differences:
        console.print(Text(f"Here two differ. {difference}", "red"), soft_wrap=True)
    if not findings.differences:
        console.print(Text("The relay's own checks see all of this the same way."))
    console.print()

    table = _table("Header fields that the relay put on top", "field", "value")
    for name, value in _added(findings):
        table.add_row(name, value)
    console.print(table, "")

    table = _table("The mailbox bounces it", "", "RCPT TO", "outcome")
    table.add_row("at the relay", arrived.sender, findings.accepted)
    table.add_row(
        "at the sender",
        ", ".join(findings.returned.recipients),
        _verdict(findings.came_home, "arrived from <>", "wrong"),
    )
    refused = findings.refused.replace(f"<{FORGED}>: ", "")
    table.add_row("forged", FORGED, _verdict(refused.startswith("550"), refused, refused))
    console.print(table)


def _added(findings: Findings) -> list[tuple[str, str]]:
    rows = []
    for field in Message(findings.arrived.content.removesuffix(findings.original)).fields:
        value = " ".join(field.value.decode("ascii", "replace").split())
        if field.name in ("arc-seal", "arc-message-signature", "dkim-signature"):
            value = value[: value.rindex(" b=") + 11].replace(": ", ":") + "…"
        rows.append((field.raw.partition(b":")[0].decode("ascii", "replace"), value))
    return rows


def _table(title: str, *columns: str) -> Table:
    """A table in which text is wrapped only in the columns of `_PROSE`, and everything else stays whole."""
    table = Table(title=title, title_justify="left", title_style="bold", pad_edge=False)
    for column in columns:
        table.add_column(column, no_wrap=column not in _PROSE, overflow="fold")
    return table


def _verdict(good: bool, yes: str, no: str) -> Text:
    return Text(yes, "green") if good else Text(no, "red")
