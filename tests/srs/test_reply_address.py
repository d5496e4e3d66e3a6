"""Reply addresses of authors: stable, back to the author from any of them, and nothing else ever passes for one."""

from __future__ import annotations

import base64
import hmac
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relay.mail.address import LOCAL_PART_OCTETS, lookup_key, split
from relay.srs import address as srs
from relay.srs.address import BadSyntax, Forged, Scheme, SrsError, Token
from relay.srs.reply_address import forward, forward_token, is_reply, normal_author, reply_addresses, reverse

NOW = 1577836860.0
SCHEME = Scheme("fwd.example", (b"tops3cr3t",))
ROTATED = Scheme("fwd.example", (b"newkey", b"tops3cr3t"))
STORED = "r4f7lbm2x5zqhu3k"


def made(author: str, scheme: Scheme = SCHEME) -> str:
    """The reply address, of a stored author too."""
    found = forward(author, scheme)
    return forward_token(found.id, scheme) if isinstance(found, Token) else found


@pytest.mark.parametrize(
    ("author", "address"),
    [
        ("news@shop.example", "reply=k2nzvlx6x2=shop.example=news@fwd.example"),
        ("News@Shop.Example", "reply=k2nzvlx6x2=shop.example=News@fwd.example"),
        ("o'brien+a=b@shop.example", "reply=6njmxdk6dq=shop.example=o'brien+a=b@fwd.example"),
        ("joe@bücher.example", "reply=7dybzstj76=xn--bcher-kva.example=joe@fwd.example"),
        ('"joe"@shop.example', "reply=fu3nm6cswo=shop.example=joe@fwd.example"),
    ],
)
def test_the_address_is_the_same_for_ever(author: str, address: str) -> None:
    assert forward(author, SCHEME) == address
    assert lookup_key(str(reverse(address, SCHEME))) == lookup_key(author)


@pytest.mark.parametrize(
    "author",
    [
        '"joe smith"@shop.example',
        '"joe..smith"@shop.example',
        '""@shop.example',
        '"a@b"@shop.example',
        "jörg@shop.example",
        "joe@[192.0.2.1]",
        "x" * 40 + "@shop.example",
        "joe@" + "x" * 50 + ".example",
    ],
)
def test_an_author_who_does_not_fit_is_stored_under_a_stable_id(author: str) -> None:
    found = forward(author, SCHEME)
    assert isinstance(found, Token)
    assert forward(author, SCHEME) == found != forward(author, Scheme("fwd.example", (b"other",)))
    address = forward_token(found.id, SCHEME)
    assert re.fullmatch(r"reply=[a-z2-7]{10}==[a-z2-7]{16}@fwd\.example", address)
    assert reverse(address, SCHEME) == reverse(address.upper(), SCHEME) == found


@pytest.mark.parametrize(
    "forms",
    [
        (r'"joe\.user"@shop.example', '"joe.user"@Shop.Example', "joe.user@shop.example."),
        ("taro..y.@docomo.example", '"taro..y."@docomo.example.', r'"taro\..y\."@DOCOMO.example'),
        ('"a b"@shop.example', r'"a\ b"@shop.example'),
    ],
)
def test_equal_authors_have_one_address(forms: tuple[str, ...]) -> None:
    assert len({made(form) for form in forms}) == len({normal_author(form) for form in forms}) == 1


def test_as_much_as_64_octets_hold_is_written_out() -> None:
    room = LOCAL_PART_OCTETS - len("reply=hhhhhhhhhh=shop.example=")
    assert len(split(made("x" * room + "@shop.example")).local) == LOCAL_PART_OCTETS
    assert isinstance(forward("x" * (room + 1) + "@shop.example", SCHEME), Token)


@pytest.mark.parametrize("author", ["joe@fwd.example", "Joe@FWD.example", made("news@shop.example")])
def test_an_author_of_our_own_stays(author: str) -> None:
    assert forward(author, SCHEME) == author


@pytest.mark.parametrize("author", ["", "joe", "joe@", "@shop.example", "joe@@shop.example", "a b@shop.example"])
def test_what_is_no_mailbox_has_no_reply_address(author: str) -> None:
    with pytest.raises(BadSyntax, match=r"^the author is not a valid address: the "):
        forward(author, SCHEME)


def test_every_secret_verifies_and_the_first_signs() -> None:
    for author in ("news@shop.example", '"a b"@shop.example'):
        assert made(author, ROTATED) != made(author)
        assert reverse(made(author), ROTATED) == reverse(made(author), SCHEME)
        with pytest.raises(Forged):
            reverse(made(author, ROTATED), SCHEME)


def signed(rest: str) -> str:
    """A reply address with the right hash over a rest that `forward` would never write."""
    digest = hmac.digest(b"tops3cr3t", b"srs-relay reply address\0" + rest.encode(), "sha256")
    return f"reply={base64.b32encode(digest)[:10].decode().lower()}={rest}@fwd.example"


NO_REPLY = "not a reply address"
INCOMPLETE = "malformed reply address: fields are missing"
NOWHERE = "malformed reply address: it leads back to no valid address"


@pytest.mark.parametrize(
    ("address", "text"),
    [
        ("news@fwd.example", NO_REPLY),
        ("reply@fwd.example", NO_REPLY),
        ("reply=@fwd.example", INCOMPLETE),
        ("reply=unknown@fwd.example", INCOMPLETE),
        ("reply=unknown=@fwd.example", INCOMPLETE),
        ("reply=k2nzvlx6x2=shop.example@fwd.example", INCOMPLETE),
        (signed("shop.example="), NOWHERE),
        (signed("shop..example=news"), NOWHERE),
        ("reply=k2nzvlx6x2=shop.example=n\udc80ws@fwd.example", "the address is not valid UTF-8"),
    ],
)
def test_what_is_malformed_is_refused_with_its_reason(address: str, text: str) -> None:
    with pytest.raises(BadSyntax) as refusal:
        reverse(address, SCHEME)
    assert str(refusal.value) == text


GOOD = made("news@shop.example")


@pytest.mark.parametrize(
    "address",
    [
        GOOD.replace("news", "boss"),
        GOOD.replace("shop.example", "bank.example"),
        GOOD.replace("shop.example=news", "=news"),
        GOOD.replace("=shop.example=", "=shop.example=="),
        GOOD[: len("reply=hhhhhhhhh")] + GOOD[len("reply=hhhhhhhhhh") :],  # a shorter hash
        GOOD.replace("reply=", "reply=="),
        GOOD.replace("reply=k2nzvlx6x2", "reply=k2nzvlx6x2x"),
        GOOD.replace("reply=k2nzvlx6x2", "reply=ééééé"),
        GOOD.replace("reply=k2nzvlx6x2", "reply=k2nzvlx6x\udc80"),
        forward_token(STORED, SCHEME).replace(STORED, STORED[:-1] + "a"),
    ],
)
def test_what_is_forged(address: str) -> None:
    with pytest.raises(Forged) as refusal:
        reverse(address, SCHEME)
    assert str(refusal.value) == "forged reply address: its hash does not match"


def test_the_hashes_of_srs_and_of_replies_are_strangers() -> None:
    """Whoever has an SRS address of ours, which mail shows to everyone, has no reply address by it, nor the reverse."""
    long = Scheme("fwd.example", SCHEME.secrets, hash_length=10, hash_min=10)
    sender = srs.forward("news@shop.example", long, NOW)
    given, stamp = re.fullmatch(r"SRS0=(.{10})=(..)=.*", sender).groups()  # type: ignore[union-attr]
    for rest in ("shop.example=news", f"{stamp}=shop.example=news", f"{stamp}shop.examplenews=x"):
        with pytest.raises(Forged):
            reverse(f"reply={given}={rest}@fwd.example", SCHEME)
    for address in (GOOD, forward_token(STORED, SCHEME)):
        given, rest = split(address).local.removeprefix("reply=").split("=", 1)
        for forged in (f"SRS0={given}={stamp}={rest}", f"SRS0={given[:4]}={stamp}={rest}", f"SRS1={given[:4]}={rest}"):
            with pytest.raises(SrsError):
                srs.reverse(f"{forged}@fwd.example", SCHEME, NOW)
    assert is_reply(GOOD.upper()) and not srs.is_srs(GOOD)
    assert srs.is_srs(sender) and not is_reply(sender)


async def test_those_who_need_it_are_stored_as_they_are_written_to() -> None:
    kept = {}

    async def keep(author: str, token: str) -> str:
        kept[author] = token
        return STORED

    authors = ["news@shop.example", '"a b"@Shop.Example', "joe@fwd.example"]
    assert await reply_addresses(authors, SCHEME, keep) == {
        "news@shop.example": GOOD,
        '"a b"@Shop.Example': forward_token(STORED, SCHEME),  # as an older secret made it, and the queue still has it
        "joe@fwd.example": "joe@fwd.example",
    }
    assert list(kept) == ['"a b"@shop.example']


# any mailbox of RFC 5321 section 4.1.2, with the UTF-8 of RFC 6531

ATEXT = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789!#$%&'*+-/=?^_`{|}~é"
dot_strings = st.lists(st.text(ATEXT, min_size=1, max_size=9), min_size=1, max_size=4).map(".".join)
quoted_pairs = st.characters(min_codepoint=0x20, max_codepoint=0x7E).map("\\{}".format)
quoted_texts = st.characters(min_codepoint=0x20, max_codepoint=0x7E, exclude_characters='"\\')
quoted_strings = st.lists(quoted_texts | quoted_pairs, max_size=12).map(lambda parts: f'"{"".join(parts)}"')
names = st.lists(st.from_regex(r"[A-Za-z0-9]([A-Za-z0-9-]{0,9}[A-Za-z0-9])?", fullmatch=True), min_size=1, max_size=4)
domains = names.map(".".join) | st.ip_addresses(v=4).map("[{}]".format) | st.just("bücher.example")
mailboxes = st.tuples(dot_strings | quoted_strings, domains).map("@".join)
quick = settings(max_examples=200, deadline=None)


@quick
@given(mailboxes, st.sampled_from([bytes.lower, bytes.upper, bytes.swapcase, bytes]))
def test_any_author_comes_back_however_the_address_was_folded(author: str, fold: object) -> None:
    found = forward(author, SCHEME)
    address = forward_token(found.id, SCHEME) if isinstance(found, Token) else found
    assert is_reply(address) and address.isascii() and len(split(address).local) <= LOCAL_PART_OCTETS
    back = reverse(fold(address.encode()).decode(), SCHEME)  # type: ignore[operator]
    if isinstance(found, Token):
        assert back == found
    else:
        assert isinstance(back, str) and lookup_key(back) == lookup_key(normal_author(author)) == lookup_key(author)


@quick
@given(mailboxes, st.data())
def test_no_changed_character_survives(author: str, data: st.DataObject) -> None:
    address = made(author)
    local, domain = split(address)
    position = data.draw(st.integers(len("reply="), len(local) - 1))
    new = data.draw(st.sampled_from(ATEXT.replace("é", "") + "."))
    if new.lower() == local[position].lower():
        return
    with pytest.raises(SrsError):
        reverse(f"{local[:position]}{new}{local[position + 1 :]}@{domain}", SCHEME)


@quick
@given(st.text(max_size=40))
def test_nothing_else_is_ever_raised(text: str) -> None:
    for address in (text, f"reply={text}", f"reply={text}@fwd.example", f'"reply={text}"@fwd.example'):
        with pytest.raises(SrsError):
            reverse(address, SCHEME)
