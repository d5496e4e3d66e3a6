"""What `explain` prints of a next hop's view: for which address, and where others see it otherwise."""

from __future__ import annotations

import io

from rich.console import Console

from relay.authenticate.dmarc import DmarcVerdict
from relay.authenticate.spf import SpfVerdict
from relay.authenticate.verdict import Verdict
from relay.cli.address_seen import AddressSeen
from relay.cli.dkimpy_opinion import DkimpyOpinion
from relay.cli.explain_next_hop import show_next_hop_view
from relay.cli.next_hop_view import NextHopView
from relay.cli.pyspf_opinion import PyspfOpinion
from relay.cli.second_opinion import Difference, SecondOpinion
from relay.deliver.mx import Host

DMARC = DmarcVerdict("pass", "shop.example")
VERDICT = Verdict(trusted=False, spf=SpfVerdict("fail", "mailfrom", "fwd.example"), dmarc=DMARC)
AGREED = SecondOpinion(DkimpyOpinion(), PyspfOpinion("fail"), DMARC, ())
FAR, NEAR = Host("mx.d.example", "8.8.8.8", 25), Host("lan", "10.0.0.7", 24)


def printed(address: AddressSeen, opinion: SecondOpinion = AGREED, problem: str = "") -> list[str]:
    console = Console(file=io.StringIO(), width=200, markup=False, emoji=False, highlight=False)
    show_next_hop_view(NextHopView(address, "mx.fwd.example", VERDICT, opinion), problem, console)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue().splitlines()


def test_it_says_whose_choice_the_address_is() -> None:
    for address, said in (
        (AddressSeen("203.0.113.5", "configured", hosts=(FAR,)), "203.0.113.5 (configured)"),
        (AddressSeen("203.0.113.5", "kernel", hosts=(FAR,)), "203.0.113.5 (the kernel's choice towards 8.8.8.8)"),
        (AddressSeen("203.0.113.5", "kernel"), "203.0.113.5 (the kernel's choice)"),
        (AddressSeen("203.0.113.5", "dns"), "203.0.113.5 (of our name in DNS)"),
        (
            AddressSeen("203.0.113.5", "dns", behind="10.0.0.5"),
            "203.0.113.5 (of our name in DNS, for 10.0.0.5 is private)",
        ),
    ):
        assert printed(address)[0] == f"What the next hop sees from {said}, EHLO mx.fwd.example"


def test_results_and_agreement_are_a_line_each() -> None:
    lines = printed(AddressSeen("203.0.113.5", "kernel", hosts=(FAR,)))
    assert "  SPF      fail  fwd.example (mailfrom)" in lines
    assert lines[-1].startswith("  others   dkimpy 1.") and lines[-1].endswith(" and pyspf 2.0.14 agree")


def test_doubts_about_the_address_are_said() -> None:
    lines = printed(AddressSeen("fd00::5", "kernel", hosts=(FAR,)), problem="d.example does not exist")
    assert lines[1].endswith("no host to ask about: d.example does not exist")
    assert lines[2].endswith("what a NAT makes of it is not known: DNS has no public one for our name")
    (_, note, *_) = printed(AddressSeen("fd00::5", "kernel", hosts=(FAR,), problem="AAAA: timeout"))
    assert note.endswith("not known: AAAA: timeout")
    (note,) = [
        line for line in printed(AddressSeen("203.0.113.5", "dns", "10.0.0.5", (FAR, NEAR))) if "address" in line
    ]
    assert note.endswith("lan [10.0.0.7] may be in one network with us, and see 10.0.0.5 itself")


def test_differences_and_missing_opinions_are_said() -> None:
    difference = Difference("SPF", "fwd.example", "fail", "permerror", "", "too many", "pyspf 2.0.14")
    opinion = SecondOpinion(DkimpyOpinion(problem="dkimpy cannot read\x07"), PyspfOpinion("fail"), DMARC, (difference,))
    lines = printed(AddressSeen("203.0.113.5", "kernel"), opinion)
    assert "  others   dkimpy cannot read\\x07" in lines
    assert "  differs  SPF of fwd.example: we say fail, pyspf 2.0.14 says permerror (too many)" in lines
    assert not any("agree" in line for line in lines)
