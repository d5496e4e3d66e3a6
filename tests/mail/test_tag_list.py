"""Tag lists as RFC 6376 section 3.2 has them, and why others do not count."""

from __future__ import annotations

import pytest

from relay.mail.message import HeaderField
from relay.mail.tag_list import TAGS, Unverified, domain, field_tags, number, octets, require, tag_list, words


def test_tags_keep_their_order_and_lose_white_space_around_values() -> None:
    tags = tag_list(" v = 1;\r\n\ta=rsa-sha256 ; b= ab\r\n cd;empty=; ")
    assert list(tags.items()) == [("v", "1"), ("a", "rsa-sha256"), ("b", "ab\r\n cd"), ("empty", "")]
    assert field_tags(HeaderField("dkim-signature", b"DKIM-Signature: v=1; d=a.example\r\n")) == {
        "v": "1",
        "d": "a.example",
    }


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (";", "no tag=value"),
        ("v=1;;a=b", "no tag=value"),
        ("v", "no tag=value"),
        ("1v=1", "no tag=value"),
        ("v=1; v=2", "v= is there twice"),
        ("v=1\x00", "a control character"),
        ("; ".join(f"t{n}=x" for n in range(TAGS + 2)), f"more than {TAGS} tags"),
    ],
)
def test_a_bad_list_says_why(text: str, problem: str) -> None:
    with pytest.raises(Unverified, match=problem) as raised:
        tag_list(text)
    assert raised.value.result == "permerror"
    assert str(raised.value).isprintable() and str(raised.value).isascii()


def test_names_are_case_sensitive() -> None:
    assert tag_list("a=1; A=2") == {"a": "1", "A": "2"}


def test_values_by_their_kind() -> None:
    tags = {"h": "from : To:\r\n subject", "b": "YWJj\r\n ZGU=", "x": "12", "bad": "a b!", "empty": ""}
    assert words(tags["h"]) == ["from", "To", "subject"]
    assert octets(tags, "b") == b"abcde"
    assert number(tags, "x") == 12 and number(tags, "t") is None
    for read, name in ((octets, "bad"), (number, "bad"), (number, "empty")):
        with pytest.raises(Unverified, match=f"{name}= is no"):
            read(tags, name)
    require(tags, "h", "b")
    for name in ("empty", "missing"):
        with pytest.raises(Unverified, match=f"{name}= is missing"):
            require(tags, "h", name)


def test_a_number_has_at_most_76_digits() -> None:
    assert number({"l": "9" * 76}, "l") == int("9" * 76)
    for value in ("9" * 77, "-1", "\u0661"):
        with pytest.raises(Unverified):
            number({"l": value}, "l")


def test_a_domain_is_normal() -> None:
    assert domain("Shop.Example") == "shop.example"
    assert domain("b\u00fccher.example") == "xn--bcher-kva.example"
    for text in ("", "a b", "a..b", "x" * 64, ".".join(["a" * 60] * 5), "example."):
        with pytest.raises(Unverified, match="no domain name"):
            domain(text)
