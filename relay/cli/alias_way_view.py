"""The way of an address (`srs-relay aliases test`), for a person and as JSON."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from rich.console import Console
from rich.text import Text

from relay.cli.alias_way import Leaving, Step, Way
from relay.cli.entries import labels_width, print_entry, print_heading
from relay.mail.visible import visible
from relay.route.router import Kind
from relay.table_files.bad_lines import NAMED

_KINDS: dict[Kind, str] = {
    "srs": "an SRS address of ours",
    "reply": "a reply address of ours",
    "postmaster": "the address of a role",
    "alias": "an alias",
    "domain": "a user of a domain route",
}
_HOW = {
    "srs": "the SRS address of {}",
    "reply": "the reply address of {}",
    "role": "read by {}",
    "nobody": "no such user here",
}
_LABELS = labels_width(["next hop"])


def as_dict(way: Way) -> dict[str, Any]:
    """The whole way in plain values. Its keys are a contract: they are added to, and not renamed."""
    return {
        "address": way.address,
        "accepted": way.accepted,
        "reply": way.reply,
        "kind": way.kind,
        "steps": [
            {
                "address": step.address,
                "how": step.how,
                "entry": step.entry or None,
                "at": step.where or None,
                "targets": list(step.targets),
                "reject": step.reject,
            }
            for step in way.steps
        ],
        "callout": {"next_hop": way.question, "asked": way.asked} if way.question else None,
        "away": way.away or None,
        "deliveries": [
            {"recipient": leaving.recipient, "next_hop": leaving.next_hop, "srs": leaving.srs}
            for leaving in way.leaving
        ],
        "bad_lines": [
            {"at": line.where, "problem": line.problem, "effect": line.effect} for line in way.bad_lines[:NAMED]
        ],
    }


def show(way: Way, console: Console) -> None:
    """Print what a client would hear, and why: first the outcome, then each step, then each delivery."""
    print_heading(console, _outcome(way))
    labels = labels_width(step.address for step in way.steps)
    for step in way.steps:
        print_entry(console, visible(step.address), Text(visible(_led_by(step))), labels)
    if way.question:
        question = "was asked about this user" if way.asked else "would be asked about this user: --callout does it"
        print_entry(console, "callout", Text(visible(f"{way.question} {question}")), _LABELS)
    if way.away:
        print_entry(console, "table", Text(visible(f"it cannot be asked: {way.away}"), "red"), _LABELS)
    for line in way.bad_lines[:NAMED]:
        print_entry(console, "bad line", Text(visible(f"{line.where}: {line.problem}"), "red"), _LABELS)
    for leaving in way.leaving:
        print_heading(console, f"To {leaving.recipient}")
        for label, text in _delivery(way, leaving):
            print_entry(console, label, Text(visible(text)), _LABELS)


def _outcome(way: Way) -> str:
    if way.kind is None:
        return f"{'Deferred' if way.reply.startswith('4') else 'Refused'}: {way.reply}"
    count = len(way.leaving)
    kind = _KINDS.get(way.kind, way.kind)
    return f"Accepted as {kind}, and would leave for {count} address{'es' if count != 1 else ''}."


def _led_by(step: Step) -> str:
    if step.how != "entry":
        return _HOW[step.how].format(", ".join(step.targets))
    closed = f"REJECT {step.reject}".rstrip() if step.reject is not None else ""
    what = closed or ", ".join(step.targets) or "a bad line"
    entry = f"{step.entry} at {step.where}" if step.entry != step.address else step.where
    return f"{what} ({entry})"


def _delivery(way: Way, leaving: Leaving) -> Iterator[tuple[str, str]]:
    yield "next hop", leaving.next_hop
    if way.kind == "srs":
        yield "sender", "<>, for this is a bounce"
    elif leaving.srs == "always":
        yield "sender", "an SRS address in the place of a foreign one"
    elif leaving.srs == "when-needed":
        yield "sender", "an SRS address where SPF would fail for a foreign one"
    else:
        yield "sender", "stays as it is, for this route has srs = false"
