"""A body hash is dkimpy's, whatever the pieces in which the body comes; the two share no code."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest
from dkim.canonicalization import Relaxed, Simple
from hypothesis import given
from hypothesis import strategies as st

from relay.mail.body_hash import RelaxedBodyHash, SimpleBodyHash, digest_text, relaxed

BodyHash = SimpleBodyHash | RelaxedBodyHash

# Octets that the canonicalizations treat specially, more often than chance would bring them.
pieces = st.sampled_from([b"\r\n", b"\r\n\r\n", b" ", b"\t", b"  ", b" \r\n", b"a", b".", b"\xff", b"\0"])
octets = st.lists(pieces, max_size=20).map(b"".join)


def fed(hasher: BodyHash, body: bytes, sizes: list[int]) -> BodyHash:
    for size in sizes:
        hasher.feed(body[:size])
        body = body[size:]
    hasher.feed(body)
    return hasher


@pytest.mark.parametrize(("hasher", "judge"), [(SimpleBodyHash, Simple), (RelaxedBodyHash, Relaxed)])
@given(body=octets, sizes=st.lists(st.integers(0, 9), max_size=12))
def test_body_hash_is_dkimpys_however_the_body_comes_in(
    hasher: type[BodyHash], judge: Any, body: bytes, sizes: list[int]
) -> None:
    body += b"\r\n"
    canonical = judge.canonicalize_body(body)
    fed_hasher = fed(hasher(), body, sizes)
    assert fed_hasher.digest() == hashlib.sha256(canonical).digest()
    assert fed_hasher.octets == len(canonical)


@pytest.mark.parametrize(
    ("body", "canonical"),
    [
        (b" C \r\nD \t E\r\n\r\n\r\n", b" C\r\nD E\r\n"),  # RFC 6376 section 3.4.5
        (b"", b""),
        (b"\r\n\r\n", b""),
        (b" \t\r\n", b""),
        (b"\r\n\r\nlate\r\n", b"\r\n\r\nlate\r\n"),
        (b"no line end", b"no line end\r\n"),
        (b"form\x0bfeed \x0c \r\n", b"form\x0bfeed \x0c\r\n"),
    ],
)
def test_body_hash(body: bytes, canonical: bytes) -> None:
    assert fed(RelaxedBodyHash(), body, []).digest() == hashlib.sha256(canonical).digest()


def test_hash_of_the_empty_body_is_the_published_one() -> None:
    # RFC 6376 section 3.4.4
    assert digest_text(RelaxedBodyHash().digest()) == "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU="
    # RFC 6376 section 3.4.3
    assert digest_text(SimpleBodyHash().digest()) == "frcCV1k9oG9oKj3dpUqdJg1PxRT2RSN/XKdLCPjaYaY="


def test_a_block_that_ends_in_white_space_waits_for_what_follows() -> None:
    hasher = RelaxedBodyHash()
    for block in (b"a ", b"\t", b"b \r\n", b"\r\n"):
        hasher.feed(block)
    assert hasher.digest() == hashlib.sha256(b"a b\r\n").digest()
    assert hasher.octets == len(b"a b\r\n")


def test_white_space_of_header_lines_is_folded_in_the_same_way() -> None:
    assert relaxed(b"a\t \tb  \r\n  c\r\n") == b"a b\r\n c\r\n"
