"""Whatever stands in a chain, in the message around it and in DNS: there is a verdict, and never an exception."""

from __future__ import annotations

import re

from hypothesis import example, given
from hypothesis import strategies as st

from relay.authenticate.arc import ArcVerdict, verify
from relay.mail.message import Message
from relay.sign.arc_seal import seal
from tests.authenticate.sealing import chain
from tests.authenticate.signing import MESSAGE, NOW, RSA, resolver

WHOLE = chain(3)
NAMES = ("arc-authentication-results", "arc-message-signature", "arc-seal")
LINES = re.findall(rb"^ARC-[^\r]*\r\n", WHOLE, re.MULTILINE)

# What means something in a chain, more often than chance would bring it.
pieces = st.one_of(
    st.sampled_from(
        [
            b";",
            b"=",
            b":",
            b" ",
            b"\r\n ",
            b"\t",
            b"(",
            b")",
            b"\\",
            b"i=",
            b"1",
            b"2",
            b"50",
            b"; cv=",
            b"pass",
            b"; b=",
        ]
    ),
    st.sampled_from([b"\r\nARC-Seal:", b"\r\nARC-Message-Signature:", b"\r\n\r\n", b"From:", b"; h=", b"\xff", b"\0"]),
    st.binary(max_size=6).map(lambda octets: octets.replace(b"\r", b"").replace(b"\n", b"")),
)
octets = st.lists(pieces, max_size=12).map(b"".join)


@st.composite
def edited(draw: st.DrawFn) -> bytes:
    """A whole chain with some of its octets replaced."""
    start = draw(st.integers(0, len(WHOLE)))
    end = draw(st.integers(start, min(len(WHOLE), start + 20)))
    return WHOLE[:start] + draw(octets) + WHOLE[end:]


fields = st.tuples(
    st.sampled_from([b"ARC-Seal", b"ARC-Message-Signature", b"arc-authentication-results "]), octets
).map(lambda parts: b"%s: %s\r\n" % parts)


def check(content: bytes, found: ArcVerdict) -> None:
    assert bool(found.problem) == (found.result == "fail")
    assert found.problem.isascii()
    assert found.problem.isprintable()
    assert (found.result == "none") == (
        not any(field.name[:4].encode() == b"arc-" for field in Message(content).fields)
    )
    for one in found.sets:
        for text in (one.domain, one.selector, one.cv, one.results):
            assert text.isascii()
            assert text.isprintable()


@given(edited())
@example(b"")
@example(b"ARC-Seal:")
@example(b"ARC-Authentication-Results: i=1; " + b"(" * 50_000)
async def test_any_chain_has_a_verdict(content: bytes) -> None:
    found = await verify(Message(content), resolver(), NOW)
    check(content, found)
    if found.result == "pass":
        ours = seal(Message(content), b"", b"fwd.example; none", "pass", found.sets[0].instance + 1, RSA, NOW)
        assert (await verify(Message(ours + content), resolver(), NOW)).result == "pass"


@given(st.lists(fields, max_size=8), st.booleans())
async def test_any_fields_have_a_verdict(header: list[bytes], whole: bool) -> None:
    content = b"".join(header) + (WHOLE if whole else MESSAGE)
    check(content, await verify(Message(content), resolver(), NOW))


@given(st.permutations(LINES), st.integers(0, 9))
async def test_a_part_of_a_chain_passes_only_where_it_is_a_chain(lines: list[bytes], kept: int) -> None:
    content = b"".join(lines[:kept]) + MESSAGE
    found = await verify(Message(content), resolver(), NOW)
    assert found.result == {0: "none", 9: "pass"}.get(kept, found.result)
    if found.result == "pass":
        count = len(found.sets)
        assert sorted(lines[:kept]) == sorted(line for line in LINES if int(re.findall(rb"i=(\d)", line)[0]) <= count)


@given(octets)
async def test_any_key_record_gives_a_verdict(record: bytes) -> None:
    text = record.decode("utf-8", "replace")
    found = await verify(Message(WHOLE), resolver({RSA.record_name: text}), NOW)
    assert found.result == "fail"
