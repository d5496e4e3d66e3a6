"""How DNS lists are asked, and what their answers mean."""

from __future__ import annotations

import pytest

from relay.dns_lists.answers import is_answer, is_listing, is_refusal, is_wrong_question, listed_name, question


@pytest.mark.parametrize(
    ("subject", "asked"),
    [
        ("203.0.113.5", "5.113.0.203.bl.test"),
        ("2001:db8::5", "5." + "0." * 23 + "8.b.d.0.1.0.0.2.bl.test"),
        ("::ffff:127.0.0.1", "1.0.0.0.0.0.f.7.f.f.f.f." + "0." * 20 + "bl.test"),
        ("fwd.example", "fwd.example.bl.test"),
        ("invalid", "invalid.bl.test"),
    ],
)
def test_the_name_to_ask_for(subject: str, asked: str) -> None:
    assert question("bl.test", subject) == asked


@pytest.mark.parametrize(
    ("answer", "of_a_list", "refusal", "listing"),
    [
        ("127.0.0.2", True, False, True),
        ("127.0.1.2", True, False, True),
        ("127.255.254.9", True, False, True),
        ("127.0.0.1", True, False, False),
        ("127.0.1.255", True, False, False),
        ("127.255.255.254", True, True, False),
        ("127.255.255.252", True, True, False),
        ("192.0.2.1", False, False, False),
    ],
)
def test_what_an_answer_means(answer: str, of_a_list: bool, refusal: bool, listing: bool) -> None:
    assert (is_answer(answer), is_refusal(answer), is_listing(answer)) == (of_a_list, refusal, listing)
    assert is_wrong_question(answer) is (answer == "127.0.1.255")


@pytest.mark.parametrize(
    ("domain", "name"),
    [
        ("Mail.Example.", "mail.example"),
        ("bücher.example", "xn--bcher-kva.example"),
        ("localhost", ""),
        ("192.0.2.1", ""),
        ("[192.0.2.1]", ""),
        ("[IPv6:2001:db8::1]", ""),
        ("a..example", ""),
        ("a b.example", ""),
        ("", ""),
    ],
)
def test_which_names_are_asked_for(domain: str, name: str) -> None:
    assert listed_name(domain) == name
