"""The hash in an SRS address: what the two kinds of it cover, how it is written, and which hashes are accepted."""

from __future__ import annotations

import base64
import hmac

import pytest

from relay.srs.address_hash import compatible_input, framed_input, is_hash_of_any, make_hash

SECRET = b"tops3cr3t"
TEXT = "HH=sender.example=user"


def test_the_hash_is_hmac_sha1_of_the_folded_octets() -> None:
    mac = base64.b64encode(hmac.digest(SECRET, "hh=sender.example=\u00dcser".encode(), "sha1")).decode()
    assert make_hash("HH=Sender.Example=\u00dcSER", SECRET, 27, url=False) == mac.rstrip("=")


@pytest.mark.parametrize(
    ("tag", "text", "covered"),
    [
        ("0", "HH=sender.example=a=b", "HHsender.examplea=b"),
        ("1", "hop.example==HHH=HH=sender.example=a", "hop.example=HHH=HH=sender.example=a"),
    ],
)
def test_the_compatible_hash_covers_the_fields_without_their_separators(tag: str, text: str, covered: str) -> None:
    assert compatible_input(tag, text) == covered


def test_the_framed_hash_covers_the_tag_and_every_separator() -> None:
    inputs = {
        framed_input(tag, text) for tag in "01" for text in (TEXT, "HH=sender.exampl=euser", "HHs=ender.example=user")
    }
    assert len(inputs) == 6
    assert len({compatible_input("0", text) for text in (TEXT, "HH=sender.exampl=euser")}) == 1


def test_no_input_of_one_kind_is_one_of_the_other() -> None:
    assert "\0" in framed_input("0", TEXT) and "\0" not in compatible_input("0", TEXT)


def test_both_alphabets_are_written_and_either_is_accepted() -> None:
    data = next(f"{TEXT}{n}" for n in range(99) if {"+", "/"} <= {*make_hash(f"{TEXT}{n}", SECRET, 27, url=False)})
    plain, url = (make_hash(data, SECRET, 27, url=url) for url in (False, True))
    assert url == plain.replace("+", "-").replace("/", "_") != plain
    assert is_hash_of_any(plain, [data], [SECRET]) and is_hash_of_any(url, [data], [SECRET])


@pytest.mark.parametrize("length", [4, 8, 27])
def test_a_hash_is_accepted_in_any_case_and_length(length: int) -> None:
    written = make_hash(TEXT, SECRET, length, url=False)
    assert len(written) == length
    assert is_hash_of_any(written.lower(), [TEXT], [SECRET]) and is_hash_of_any(written.upper(), [TEXT], [SECRET])


def test_any_input_and_any_secret_may_have_made_it() -> None:
    written = make_hash(TEXT, SECRET, 8, url=False)
    assert is_hash_of_any(written, ["other", TEXT], [b"new", SECRET])
    assert not is_hash_of_any(written, ["other"], [b"new", SECRET])
    assert not is_hash_of_any(written, [TEXT], [b"new"])
    assert not is_hash_of_any(written, [], [SECRET])


@pytest.mark.parametrize("given", ["x" * 28, "\u00e9\u00e9\u00e9\u00e9", "\udcff" * 4])
def test_what_no_hash_looks_like_is_none(given: str) -> None:
    assert not is_hash_of_any(given, [TEXT], [SECRET])


def test_text_that_is_no_utf8_has_no_hash() -> None:
    with pytest.raises(UnicodeEncodeError):
        make_hash("\udcff", SECRET, 4, url=False)
    with pytest.raises(UnicodeEncodeError):
        is_hash_of_any("abcd", ["\udcff"], [SECRET])
