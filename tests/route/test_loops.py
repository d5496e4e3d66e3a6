"""Mail that goes round: it is known again by our mark, whatever others did to the message on the way."""

from __future__ import annotations

import pytest

from relay.mail.message import Message
from relay.route.loops import MARKS, is_looping, kept_marks, mark_fields, received_hops

SECRETS = (b"new secret", b"old secret")
ALICE, BOB = "alice@fwd.example", "bob@fwd.example"


def message(fields: bytes, body: bytes = b"body\r\n") -> Message:
    return Message(b"Received: from a\r\n by b; date\r\n" + fields + b"Subject: x\r\n\r\n" + body)


@pytest.mark.parametrize(
    ("content", "hops"),
    [
        (b"Subject: x\r\n\r\nReceived: in the body\r\n", 0),
        (b"Received: a\r\nRECEIVED: b\r\nReceived-SPF: pass\r\n\treceived: c\r\nreceived : d\r\n\r\n", 3),
        (b"no header at all\r\n", 0),
    ],
)
def test_hops(content: bytes, hops: int) -> None:
    assert received_hops(Message(content)) == hops


@pytest.mark.parametrize(
    ("marked", "asked", "looping"),
    [
        ([[ALICE]], [[ALICE]], True),
        ([[ALICE]], [["Alice@FWD.example"]], True),
        ([[ALICE], [BOB]], [[BOB]], True),
        ([[ALICE]], [[BOB]], False),
        ([[ALICE]], [[BOB], [ALICE]], True),
        ([[ALICE, BOB]], [[BOB]], True),
        ([[BOB]], [[ALICE, BOB]], True),
        ([[ALICE]], [["alice+x@fwd.example"]], False),
        ([[ALICE]], [()], False),
        ([()], [[ALICE]], False),
    ],
)
def test_the_mark_is_of_one_alias(marked: list[list[str]], asked: list[list[str]], looping: bool) -> None:
    assert is_looping(message(mark_fields(marked, SECRETS)), asked, SECRETS) is looping


def test_of_too_many_aliases_the_innermost_are_not_marked() -> None:
    chains = [(f"u{n}@fwd.example", f"team{n}@fwd.example") for n in range(600)]
    fields = mark_fields(chains, SECRETS)
    assert fields.count(b"\r\n") == MARKS
    assert all(is_looping(message(fields), [chain[:1]], SECRETS) for chain in chains)
    assert is_looping(message(fields), [chains[0][1:]], SECRETS)
    assert not is_looping(message(fields), [chains[-1][1:]], SECRETS)


def test_one_field_for_each_alias_that_tells_nothing() -> None:
    fields = mark_fields([[ALICE, BOB], [], ["ALICE@fwd.example", BOB]], SECRETS)
    lines = fields.split(b"\r\n")
    assert [line.partition(b": ")[0] for line in lines] == [b"X-SRS-Relay", b"X-SRS-Relay", b""]
    assert all(len(line) < 78 for line in lines)
    assert b"alice" not in fields.lower()
    assert mark_fields([], SECRETS) == b""


def test_the_mark_is_known_after_changes_on_the_way_and_after_a_new_secret() -> None:
    fields = mark_fields([[ALICE]], SECRETS[1:])
    changed = fields.replace(b"X-SRS-Relay: ", b"x-srs-relay:\r\n   ")
    assert is_looping(message(changed, b"another body\r\n"), [[ALICE]], SECRETS)
    assert not is_looping(message(fields), [[ALICE]], SECRETS[:1])


def test_others_cannot_make_the_mark() -> None:
    assert not is_looping(message(mark_fields([[ALICE]], [b"guess"])), [[ALICE]], SECRETS)
    assert not is_looping(message(b"X-SRS-Relay:\r\nX-SRS-Relay: \xff\r\n"), [[ALICE]], SECRETS)


def test_a_message_that_takes_another_s_place_keeps_its_marks_and_nothing_else_of_it() -> None:
    marks = mark_fields([[ALICE, BOB]], SECRETS)
    others = b"X-SRS-Relay: of another program\r\nX-SRS-Relay:\r\n\t" + b"a" * 32 + b"\r\n"
    assert kept_marks(message(marks + others + marks)) == marks + b"X-SRS-Relay: " + b"a" * 32 + b"\r\n"


def test_no_more_marks_are_kept_than_a_message_may_bear() -> None:
    marks = [b"X-SRS-Relay: %032x\r\n" % number for number in range(MARKS + 1)]
    assert kept_marks(message(b"".join(marks))) == b"".join(marks[:MARKS])
