"""How DNS lists are asked, and what their answers mean."""

from __future__ import annotations

import pytest

from relay.check.dns_lists import ADDRESS_LISTS, DOMAIN_LISTS, DnsList, question

ZEN, DBL = ADDRESS_LISTS[0], DOMAIN_LISTS[0]


@pytest.mark.parametrize(
    ("subject", "asked"),
    [
        ("203.0.113.5", "5.113.0.203.zen.spamhaus.org"),
        ("2001:db8::5", "5." + "0." * 23 + "8.b.d.0.1.0.0.2.zen.spamhaus.org"),
        ("fwd.example", "fwd.example.zen.spamhaus.org"),
        ("invalid", "invalid.zen.spamhaus.org"),
    ],
)
def test_the_name_to_ask_for(subject: str, asked: str) -> None:
    assert question(ZEN, subject) == asked


@pytest.mark.parametrize(
    ("dns_list", "answer", "is_answer", "is_refusal"),
    [
        (ZEN, "127.0.0.2", True, False),
        (ZEN, "127.255.255.254", True, True),
        (ZEN, "127.255.255.252", True, True),
        (DBL, "127.0.1.255", True, True),
        (DBL, "127.0.1.2", True, False),
        (ZEN, "192.0.2.1", False, False),
    ],
)
def test_what_an_answer_is(dns_list: DnsList, answer: str, is_answer: bool, is_refusal: bool) -> None:
    assert (dns_list.is_answer(answer), dns_list.is_refusal(answer)) == (is_answer, is_refusal)


def test_what_a_listing_means() -> None:
    assert "PBL" in ZEN.meaning("127.0.0.11") and "SBL" in ZEN.meaning("127.0.0.2")
    assert ZEN.meaning("127.0.0.99") == "listed"
