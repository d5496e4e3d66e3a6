"""What counts as a failure of the demo."""

from __future__ import annotations

from dataclasses import replace

import pytest

from relay.cli.demo_servers import Received
from relay.cli.demo_tour import Findings
from relay.cli.dkimpy_opinion import SignatureOpinion
from relay.cli.second_opinion import Difference

GOOD = Findings(
    original=b"Subject: a\r\n\r\n",
    arrived=Received(
        "127.0.0.3", "mx.fwd.example", "SRS0=x", ("alice@mailbox.example",), b"A: b\r\nSubject: a\r\n\r\n"
    ),
    spf_without="fail",
    spf_with="pass",
    signatures=(
        SignatureOpinion("pass", "fwd.example", "a", "rsa-sha256"),
        SignatureOpinion("pass", "shop.example", "b", "rsa-sha256"),
    ),
    dmarc="pass",
    arc="pass",
    differences=(),
    accepted="250 2.0.0 Ok",
    returned=Received("127.0.0.3", "mx.fwd.example", "", ("news@shop.example",), b""),
    refused="550 5.1.1 forged",
)


def test_nothing_is_wrong_when_all_is_well() -> None:
    assert GOOD.problems == []


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        (replace(GOOD, original=b"Subject: b\r\n\r\n"), "the message was changed on its way"),
        (replace(GOOD, dmarc="fail"), "DMARC does not pass for the author's domain"),
        (replace(GOOD, arc="none"), "the ARC chain is not whole"),
        (replace(GOOD, spf_with="fail"), "SPF does not pass with the rewritten sender"),
        (replace(GOOD, signatures=GOOD.signatures[:1]), "a DKIM signature is missing or broken"),
        (
            replace(GOOD, signatures=(GOOD.signatures[0], replace(GOOD.signatures[1], result="fail"))),
            "a DKIM signature is missing or broken",
        ),
        (replace(GOOD, returned=replace(GOOD.returned, sender="x@y.example")), "the bounce did not reach the sender"),
        (replace(GOOD, refused="250 2.0.0 Ok"), "a forged SRS address was not refused"),
        (
            replace(GOOD, differences=(Difference("ARC", "fwd.example", "pass", "fail", "", "no key", "dkimpy"),)),
            "ARC of fwd.example: we say pass, dkimpy says fail (no key)",
        ),
    ],
)
def test_what_is_not_as_it_must_be_is_named(bad: Findings, said: str) -> None:
    assert bad.problems == [said]
