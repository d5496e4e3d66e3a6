"""The text for people."""

from __future__ import annotations

from relay.bounce.dsn import build
from relay.bounce.report import RecipientReport
from tests.bounce.notifications import letter_of, report


def test_the_letter_names_the_address_the_reason_and_the_number_to_quote() -> None:
    letter = letter_of(build(report()))
    assert "could not be delivered to:\n\n    alice@fwd.example\n" in letter
    assert "The address does not exist, or no longer does (550 5.1.1)." in letter
    assert "check its spelling" in letter
    unwrapped = " ".join(letter.split())
    assert "Write to postmaster@fwd.example, and quote 4F7K2Q at mx.fwd.example." in unwrapped
    assert max(map(len, letter.splitlines())) <= 84


def test_the_letter_says_how_long_was_tried_and_how_long_it_goes_on() -> None:
    gone = RecipientReport("a@fwd.example", "failed", 452, "4.2.2", expired=True)
    late = RecipientReport("b@fwd.example", "delayed", 0, "4.4.1", retry_until=1700518400)
    letter = " ".join(letter_of(build(report(gone, late))).split())
    assert "The mailbox is full (452 4.2.2)." in letter
    assert "again and again for 5 days, and is now given up." in letter
    assert "Attempts go on until Mon, 20 Nov 2023 22:13:20 +0000; you need not send it again." in letter


def test_the_words_of_the_remote_are_quoted_and_a_link_in_them_stays_whole() -> None:
    link = "https://support.example/" + "x" * 80
    told = RecipientReport("a@x.example", "failed", 550, "5.7.26", words=f"not authenticated, see {link} for more")
    letter = letter_of(build(report(told)))
    assert f'The receiving system said: "not authenticated, see {link} for more"' in " ".join(letter.split())
    assert link in letter


def test_words_without_a_code_of_the_remote_are_not_there() -> None:
    assert "said" not in letter_of(build(report(RecipientReport("a@x.example", "failed", 0, "5.0.0", words="x"))))
