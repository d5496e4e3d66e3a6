"""What the next hop will see of a delivery, for a person: from which address, by our checks and by those of others."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import Console
from rich.text import Text

from relay.cli import dkimpy_opinion, pyspf_opinion
from relay.cli.entries import print_entry, print_heading, result_text
from relay.cli.explain_checks import check_rows
from relay.cli.next_hop_view import NextHopView
from relay.mail.visible import visible

_LABELS = 7  # columns: DMARC, and "address"


def show_next_hop_view(view: NextHopView, address_problem: str, console: Console) -> None:
    """Print one view.

    Args:
        address_problem: why it is not for an address towards a host of the next hop; may be empty.
    """
    print_heading(console, f"What the next hop sees from {view.ip}{_origin(view)}, EHLO {view.helo}")
    for note in _notes(view, address_problem):
        print_entry(console, "address", Text(visible(note)), _LABELS)
    for check, result, name, why in check_rows(view.verdict):
        details = "; ".join(visible(part) for part in (name, why) if part)
        print_entry(console, check, result_text(result).append(f"  {details}" if details else "", "default"), _LABELS)
    opinion = view.opinion
    for problem in opinion.problems:
        print_entry(console, "others", Text(visible(problem), "red"), _LABELS)
    for difference in opinion.differences:
        print_entry(console, "differs", Text(visible(str(difference)), "red"), _LABELS)
    if not (opinion.problems or opinion.differences):
        print_entry(console, "others", Text(f"{dkimpy_opinion.NAME} and {pyspf_opinion.NAME} agree"), _LABELS)


def _origin(view: NextHopView) -> str:
    address = view.address
    if address.origin == "configured":
        return " (configured)"
    if address.origin == "kernel":
        return f" (the kernel's choice{f' towards {address.hosts[0].address}' if address.hosts else ''})"
    return f" (of our name in DNS{f', for {address.behind} is private' if address.behind else ''})"


def _notes(view: NextHopView, problem: str) -> Iterator[str]:
    if problem:
        yield f"the one to anywhere, as this next hop has no host to ask about: {problem}"
    if view.address.is_hidden:
        why = view.address.problem or "DNS has no public one for our name"
        yield f"it is private, and what a NAT makes of it is not known: {why}"
    if hosts := view.address.private_hosts:
        names = ", ".join(f"{host.name} [{host.address}]" for host in hosts)
        yield f"{names} may be in one network with us, and see {view.address.behind} itself"
