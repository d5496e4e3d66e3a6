"""Which fields of a header are the sets of an ARC chain, and which octets a seal signs."""

from __future__ import annotations

import re

import pytest

from relay.authenticate.arc_chain import INSTANCES, RESULTS, SEAL, SIGNATURE, arc_sets, sealed_octets
from relay.mail.message import HeaderField, Message
from relay.mail.tag_list import Unverified

FROM = b"From: a@author.example\r\n\r\n"


def arc_set(instance: int) -> list[bytes]:
    return [
        b"ARC-Seal: i=%d; cv=none; b=seal\r\n" % instance,
        b"ARC-Message-Signature: i=%d; b=signature\r\n" % instance,
        b"ARC-Authentication-Results: i=%d; mx.example; spf=pass\r\n" % instance,
    ]


def test_a_message_without_arc_fields_has_no_sets() -> None:
    assert arc_sets(Message(b"Authentication-Results: i=1; none\r\n" + FROM)) == []


def test_the_sets_come_newest_first_wherever_their_fields_stand() -> None:
    fields = sorted([*arc_set(1), *arc_set(2), *arc_set(3)])
    sets = arc_sets(Message(b"".join(fields) + FROM))
    assert [found.seal.instance for found in sets] == [3, 2, 1]
    for found in sets:
        assert [field.field.name for field in found] == [RESULTS, SIGNATURE, SEAL]
        assert len({field.instance for field in found}) == 1
        assert (found.results.value, found.results.tags) == (b"mx.example; spf=pass", {})
        assert (found.seal.tags["b"], found.signature.tags["b"], found.seal.value) == ("seal", "signature", b"")


@pytest.mark.parametrize(
    ("drop", "add", "problem"),
    [
        (0, b"", "ARC-Seal with i=2 is missing"),
        (1, b"", "ARC-Message-Signature with i=2 is missing"),
        (2, b"", "ARC-Authentication-Results with i=2 is missing"),
        (None, arc_set(2)[1], "ARC-Message-Signature with i=2 is there twice"),
        (None, b"ARC-Seal: i=2; i=2\r\n", "ARC-Seal is malformed: i= is there twice"),
        (None, b"ARC-Seal: cv=none\r\n", f"ARC-Seal without a number from 1 to {INSTANCES} (i=)"),
        (None, b"ARC-Seal: i=51\r\n", f"ARC-Seal without a number from 1 to {INSTANCES} (i=)"),
        (None, b"ARC-Authentication-Results: mx.example; i=3\r\n", "ARC-Authentication-Results without a number"),
    ],
)
def test_what_is_no_chain_says_which_field_is_wrong(drop: int | None, add: bytes, problem: str) -> None:
    newest = arc_set(2)
    if drop is not None:
        del newest[drop]
    with pytest.raises(Unverified, match=re.escape(problem)):
        arc_sets(Message(b"".join([*newest, *arc_set(1), add]) + FROM))


def test_a_seal_signs_the_fields_of_each_set_in_relaxed_form() -> None:
    fields = [HeaderField(RESULTS, b"ARC-Authentication-RESULTS : i=1;\r\n\tmx.example;  none\r\n")]
    assert sealed_octets([fields, [HeaderField(SEAL, b"ARC-Seal: i=1\r\n")]]) == (
        b"arc-authentication-results:i=1; mx.example; none\r\narc-seal:i=1\r\n"
    )
