"""The right-hand side of a line of an access table."""

from __future__ import annotations

import pytest

from relay.access.action import parse_action


@pytest.mark.parametrize(
    ("written", "verb", "reply"),
    [
        ("OK", "OK", "None"),
        ("ok", "OK", "None"),
        ("REJECT\tgo away ", "REJECT", "550 5.7.1 go away"),
        ("OK a friend", "OK", "None"),
        ("1234567", "OK", "None"),
        ("DUNNO", "DUNNO", "None"),
        ("HOLD look at it", "HOLD", "None"),
        ("discard", "DISCARD", "None"),
        ("REJECT", "REJECT", "550 5.7.1 Access denied"),
        ("Reject go  away", "REJECT", "550 5.7.1 go  away"),
        ("REJECT 5.1.8 no such domain", "REJECT", "550 5.1.8 no such domain"),
        ("REJECT 5.7.0", "REJECT", "550 5.7.0 Access denied"),
        ("REJECT 5.7 percent", "REJECT", "550 5.7.1 5.7 percent"),
        ("DEFER", "DEFER", "450 4.7.1 Access denied, try again later"),
        ("DEFER 4.2.0 tomorrow", "DEFER", "450 4.2.0 tomorrow"),
        ("554 go away", "REJECT", "554 5.7.1 go away"),
        ("554 5.7.0 go away", "REJECT", "554 5.7.0 go away"),
        ("450 later", "DEFER", "450 4.7.1 later"),
        ("421 later", "DEFER", "450 4.7.1 later"),
        ("521 never", "REJECT", "550 5.7.1 never"),
    ],
)
def test_the_actions(written: str, verb: str, reply: str) -> None:
    action = parse_action(written)
    assert (action.verb, str(action.reply)) == (verb, reply)


@pytest.mark.parametrize(
    ("written", "problem"),
    [
        ("", "no action: OK, REJECT"),
        ("RELAY", "RELAY is none of our actions: a table gives no right to relay"),
        ("DEFER_IF_PERMIT later", "write DEFER"),
        ("PREPEND X-A: b", "PREPEND is none of our actions: it is not done here"),
        ("REDIRECT x@y.example", "it is not done here"),
        ("REJEKT", "the actions are OK, REJECT"),
        ("permit_mynetworks", "the actions are OK, REJECT"),
        ("REJECTED", "the actions are OK, REJECT"),
        ("REJECT 4.7.1 later", "4.7.1 does not fit to a reply 550: it has to begin with 5"),
        ("DEFER 5.7.1 never", "5.7.1 does not fit to a reply 450"),
        ("450 5.7.1 never", "5.7.1 does not fit to a reply 450"),
        ("550", "550 without a text, which access(5) takes for OK"),
        ("599 odd", "599 is no reply code of SMTP"),
        ("250 fine", "the actions are OK, REJECT"),
    ],
)
def test_what_is_no_action_is_refused_with_a_hint(written: str, problem: str) -> None:
    with pytest.raises(ValueError, match=r"^[^\n]*$") as error:
        parse_action(written)
    assert problem in str(error.value)
