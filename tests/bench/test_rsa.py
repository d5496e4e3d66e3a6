"""How many RSA operations a message needs."""

from __future__ import annotations

import pytest

from bench import mail, rsa
from relay.mail.message import Message
from relay.sign.arc_seal import seal
from relay.sign.dkim_signature import sign
from relay.sign.keys import SigningKey, generate, parse

OURS = SigningKey("fwd.test", "s1", parse(generate("rsa2048")))


def test_the_signatures_that_we_made_are_counted() -> None:
    theirs = mail.signed(1000)
    signed = sign(Message(theirs), OURS, 1_800_000_000) + theirs
    sealed = seal(Message(signed), b"", b"mx.fwd.test; spf=pass", "none", 1, OURS, 1_800_000_000) + signed
    assert [rsa.made_by_us(content) for content in (theirs, signed, sealed)] == [0, 1, 3]
    assert rsa.made_by_us(theirs.partition(b"\r\n\r\n")[0] + b"\r\n\r\n" + signed) == 0, "a body has none"


def test_the_cost_is_that_of_all_operations() -> None:
    assert rsa.Operations(3, 1).cost(rsa.RsaCost(0.25, 0.02)) == pytest.approx(0.77)


def test_a_check_costs_less_than_a_signature(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rsa, "TIMES", 5)
    measured = rsa.measure()
    assert 0 < measured.check < measured.signature
