"""What holds for every address: the way back undoes the way out, and nothing that the hash covers can be changed."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from typing import Literal, TypeAlias, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relay.mail.address import DOMAIN, normal_local, parse, split
from relay.srs.address import Scheme, SrsError, Token, TooLong, forward, forward_token, is_srs, reverse

NOW = 1577836860
ATEXT = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789!#$%&'*+-/=?^_`{|}~"
ALNUM = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"

quick = settings(max_examples=150, deadline=None)

# RFC 5321 section 4.1.2, with the UTF-8 of RFC 6531; lengths leave room for the tag in most examples.
atoms = st.text(ATEXT + "éß", min_size=1, max_size=6)
dot_strings = st.lists(atoms, min_size=1, max_size=3).map(".".join)
odd_dots = st.lists(st.one_of(atoms, st.just("")), min_size=2, max_size=4).map(".".join)
quoted_content = st.one_of(
    st.sampled_from([chr(c) for c in range(0x20, 0x7F) if c not in (0x22, 0x5C)] + ["é"]),
    st.characters(min_codepoint=0x20, max_codepoint=0x7E).map("\\{}".format),
)
quoted_strings = st.lists(quoted_content, max_size=8).map(lambda parts: f'"{"".join(parts)}"')
labels = st.from_regex(r"[A-Za-z0-9]([A-Za-z0-9-]{0,3}[A-Za-z0-9])?", fullmatch=True)
names = st.lists(labels, min_size=1, max_size=3).map(".".join)
literals = st.one_of(
    st.ip_addresses(v=4).map("[{}]".format),
    st.integers(0, 2**24).map(lambda n: f"[IPv6:{ipaddress.IPv6Address(n)}]"),
)
locals_ = st.one_of(dot_strings, odd_dots, quoted_strings)
# Senders that are SRS addresses themselves, of schemes that we know nothing of.
foreign = st.tuples(st.sampled_from(["SRS0", "SRS1"]), st.sampled_from("=+-"), dot_strings).map("".join)
senders = st.tuples(st.one_of(locals_, foreign), st.one_of(names, literals)).map("@".join)
Separator: TypeAlias = Literal["=", "+", "-"]
Alphabet: TypeAlias = Literal["base64", "url"]
separators: st.SearchStrategy[Separator] = st.sampled_from(get_args(Separator))
alphabets: st.SearchStrategy[Alphabet] = st.sampled_from(get_args(Alphabet))
folds = st.sampled_from([bytes.lower, bytes.upper, bytes.swapcase, bytes])


def scheme_of(
    domain: str,
    separator: Separator = "=",
    alphabet: Alphabet = "base64",
    hash_length: int = 4,
    framed: bool = False,
) -> Scheme:
    return Scheme(domain, (domain.encode() * 4,), separator, hash_length, alphabet=alphabet, framed=framed)


def fold(text: str, how: Callable[[bytes], bytes] = bytes.lower) -> str:
    return how(text.encode()).decode()


def expected(sender: str) -> str:
    """What one step back gives: the sender itself, or the first forwarder's address behind a foreign SRS1."""
    sender = str(parse(sender))
    local, _ = split(sender)
    fields = local[5:].split("=", 2)
    if local.startswith("SRS1") and len(fields) == 3 and DOMAIN.match(fields[1]) and fields[2][:1] in ("=", "+", "-"):
        return f"{normal_local(f'SRS0{fields[2]}')}@{fields[1]}"
    return sender


@quick
@given(senders, separators, alphabets, st.integers(4, 8), st.booleans())
def test_reverse_undoes_forward(
    sender: str, separator: Separator, alphabet: Alphabet, hash_length: int, framed: bool
) -> None:
    scheme = scheme_of("a.example", separator, alphabet, hash_length, framed)
    try:
        rewritten = forward(sender, scheme, NOW)
    except TooLong:
        return
    assert is_srs(rewritten)
    assert len(split(rewritten).local.encode()) <= 64
    back = reverse(rewritten, scheme, NOW)
    assert isinstance(back, str)
    assert back == expected(sender)


@quick
@given(senders, st.booleans(), st.data())
def test_a_rewritten_address_is_read_in_every_quoting(sender: str, framed: bool, data: st.DataObject) -> None:
    """RFC 5321 section 4.1.2: a quoted pair may stand for any ASCII character, and quotes around any local part."""
    scheme = scheme_of("a.example", framed=framed)
    try:
        local = split(forward(sender, scheme, NOW)).local
    except TooLong:
        return
    escaped = local[1:-1] if local.startswith('"') else local
    position, written = 0, ""
    while position < len(escaped):
        width = 2 if escaped[position] == "\\" else 1
        one = escaped[position : position + width]
        written += f"\\{one}" if one.isascii() and width == 1 and data.draw(st.booleans()) else one
        position += width
    assert reverse(f'"{written}"@a.example', scheme, NOW) == expected(sender)


@quick
@given(senders, st.data())
def test_no_character_moves_over_a_boundary_of_a_framed_address(sender: str, data: st.DataObject) -> None:
    scheme = scheme_of("a.example", hash_length=12, framed=True)
    try:
        rewritten = forward(sender, scheme, NOW)
    except TooLong:
        return
    start = 5 + rewritten.startswith('"')
    end = len(split(rewritten).local) - rewritten.startswith('"')
    text = rewritten[start + 13 : end]
    count = 1 if rewritten[start - 2] == "1" else 2
    joined = text.replace("=", "", count)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(joined)), min_size=count, max_size=count)))
    shifted = "=".join(joined[a:b] for a, b in zip([0, *cuts], [*cuts, len(joined)], strict=True))
    if shifted != text:
        with pytest.raises(SrsError):
            reverse(rewritten[: start + 13] + shifted + rewritten[end:], scheme, NOW)


@quick
@given(st.tuples(locals_, names).map("@".join), separators, alphabets, folds)
def test_a_folded_address_comes_back(
    sender: str, separator: Separator, alphabet: Alphabet, how: Callable[[bytes], bytes]
) -> None:
    scheme = scheme_of("a.example", separator, alphabet)
    try:
        rewritten = forward(sender, scheme, NOW)
    except TooLong:
        return
    back = reverse(fold(rewritten, how), scheme, NOW)
    assert isinstance(back, str)
    assert fold(back) == fold(expected(sender))


@quick
@given(
    st.tuples(st.one_of(st.text(ALNUM + "+-=", min_size=1, max_size=5), st.just('"a b"')), labels).map("@".join),
    st.lists(st.tuples(separators, alphabets), min_size=4, max_size=4),
    folds,
)
def test_a_chain_of_four_leads_back_to_the_origin(
    sender: str, hops: list[tuple[Separator, Alphabet]], how: Callable[[bytes], bytes]
) -> None:
    schemes = [scheme_of(f"f{n}.example", *hop) for n, hop in enumerate(hops)]
    rewritten = [sender]
    for scheme in schemes:
        rewritten.append(forward(rewritten[-1], scheme, NOW))
    _, first, *later = rewritten
    for address, scheme in zip(later, schemes[1:], strict=True):
        back = reverse(fold(address, how), scheme, NOW)
        assert isinstance(back, str)
        assert fold(back) == fold(first)
        home = reverse(back, schemes[0], NOW)
        assert isinstance(home, str)
        assert fold(home) == fold(sender)


def same_to_a_reader(old: str, new: str, *, in_hash: bool) -> bool:
    """Case does not count anywhere, and in the hash the two alphabets are one."""
    if in_hash:
        old, new = (c.replace("-", "+").replace("_", "/") for c in (old, new))
    return fold(old) == fold(new)


@quick
@given(
    st.one_of(
        st.tuples(locals_, names).map("@".join),
        st.tuples(foreign, names).map("@".join),
    ),
    st.booleans(),
    st.data(),
)
def test_no_changed_octet_survives(sender: str, framed: bool, data: st.DataObject) -> None:
    scheme = scheme_of("a.example", hash_length=12, framed=framed)
    try:
        rewritten = forward(sender, scheme, NOW)
    except TooLong:
        return
    assert_no_change_survives(rewritten, scheme, data)


@quick
@given(st.text("abcdefghijklmnopqrstuvwxyz0123456789", min_size=1, max_size=16), st.data())
def test_no_changed_octet_of_a_token_survives(token_id: str, data: st.DataObject) -> None:
    scheme = scheme_of("a.example", hash_length=12)
    address = forward_token(token_id, scheme, NOW)
    assert reverse(address, scheme, NOW) == Token(token_id)
    assert_no_change_survives(address, scheme, data)


def assert_no_change_survives(address: str, scheme: Scheme, data: st.DataObject) -> None:
    start = address.index("SRS") + 5  # the tag and the separator after it are not covered
    end = len(split(address).local) - address.startswith('"')
    at = data.draw(st.integers(start, end - 1), label="position")
    new = data.draw(st.sampled_from([chr(c) for c in range(0x20, 0x7F)] + ["ö"]), label="character")
    if same_to_a_reader(address[at], new, in_hash=at < start + 12):
        return
    with pytest.raises(SrsError):
        reverse(address[:at] + new + address[at + 1 :], scheme, NOW)


@quick
@given(st.sampled_from(["SRS0=", "SRS1=", "srs0+", '"SRS1-', ""]), st.text(), st.floats(0, 2**33))
def test_arbitrary_text_is_refused_in_words(tag: str, rest: str, now: float) -> None:
    for rewrite in (forward, reverse):
        try:
            rewrite(tag + rest, scheme_of("a.example", hash_length=12), now)
        except SrsError as error:
            assert str(error).isascii() and str(error).isprintable()
