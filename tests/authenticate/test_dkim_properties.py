"""Whatever stands in a signature, in the message around it and in DNS: there is a verdict, and never an exception."""

from __future__ import annotations

from typing import get_args

from hypothesis import example, given
from hypothesis import strategies as st

from relay.authenticate.dkim import Result, verify
from relay.dns import StaticResolver
from relay.mail.message import Message
from relay.mail.tag_list import Unverified, tag_list
from tests.authenticate.signing import MESSAGE, NOW, RSA, resolver, signature_field, signed

RESULTS = set(get_args(Result))
FIELD = signature_field(MESSAGE)
KEY = RSA.public_record()

# What means something in a tag list, more often than chance would bring it.
pieces = st.one_of(
    st.sampled_from(
        [
            b";",
            b"=",
            b":",
            b"@",
            b"/",
            b" ",
            b"\r\n ",
            b"\t",
            b"v=1",
            b"; d=",
            b"; b=",
            b"; l=",
            b"; i=",
            b"; x=",
            b"p=",
        ]
    ),
    st.sampled_from(
        [b"relaxed", b"author.example", "b\u00fccher.example".encode(), b"xn--", b"\xff", b"\0", b"AAAA", b"9" * 99]
    ),
    st.binary(max_size=6).map(lambda octets: octets.replace(b"\r", b"").replace(b"\n", b"")),
)
octets = st.lists(pieces, max_size=12).map(b"".join)


@st.composite
def edited(draw: st.DrawFn, original: bytes) -> bytes:
    """The original with some of its octets replaced."""
    start = draw(st.integers(0, len(original)))
    end = draw(st.integers(start, min(len(original), start + 20)))
    return original[:start] + draw(octets) + original[end:]


@given(st.one_of(octets.map(lambda value: b"DKIM-Signature:" + value + b"\r\n"), edited(FIELD)), st.booleans())
async def test_any_signature_has_a_verdict(field: bytes, whole: bool) -> None:
    content = field + (MESSAGE if whole else b"")
    for one in await verify(Message(content), resolver(), NOW):
        assert one.result in RESULTS
        assert bool(one.problem) is (one.result != "pass")
        shown = (one.domain, one.selector, one.algorithm, one.identity, one.signature, one.problem)
        assert all(text.isascii() and (text.isprintable() or not text) for text in shown)


@given(st.lists(st.one_of(octets, edited(KEY.encode()), st.binary(max_size=300)), max_size=4))
@example([b""])
async def test_any_key_record_has_a_verdict(records: list[bytes]) -> None:
    zone = StaticResolver({(RSA.record_name, "TXT"): [(record,) for record in records] or [()]})
    (one,) = await verify(Message(signed()), zone, NOW)
    assert one.result in RESULTS


@given(edited(signed()))
async def test_what_passes_is_what_was_signed(content: bytes) -> None:
    for one in await verify(Message(content), resolver(), NOW):
        if one.result == "pass":
            assert one.domain == "author.example"
            (author,) = Message(content).all("from")
            assert author.value.split() == [b"Ann", b"Author", b"<ann@author.example>"]


names = st.from_regex("[A-Za-z][A-Za-z0-9_]{0,5}", fullmatch=True)
folds = st.sampled_from(["", " ", "\t", "\r\n ", "\r\n\t "])
texts = st.text(st.characters(min_codepoint=33, max_codepoint=0x2FF, exclude_characters=";\x7f"), min_size=1)


@given(st.dictionaries(names, texts, min_size=1), folds, folds, st.booleans())
def test_a_tag_list_is_read_as_it_was_written(tags: dict[str, str], before: str, after: str, closed: bool) -> None:
    written = ";".join(f"{before}{name}{after}={before}{text}{after}" for name, text in tags.items())
    assert tag_list(written + (";" if closed else "")) == tags


@given(st.text())
def test_any_text_is_a_tag_list_or_is_not(text: str) -> None:
    try:
        tags = tag_list(text)
    except Unverified as unverified:
        assert unverified.result == "permerror"
    else:
        assert all(name and ";" not in value for name, value in tags.items())
