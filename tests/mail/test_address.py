"""Addresses are split, quoted and compared as RFC 5321 has them; what it does not allow is refused with a reason."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.mail import address
from relay.mail.address import BadAddress, Mailbox

ATEXT = "abcXYZ019!#$%&'*+/=?^_`{|}~-äß日"
atoms = st.text(ATEXT, min_size=1, max_size=6)
dot_strings = st.lists(atoms, min_size=1, max_size=3).map(".".join)
texts = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), max_size=20)
domains = st.sampled_from(
    ["example.org", "a.b-c.example", "xn--bcher-kva.example", "bücher.example", "[192.0.2.1]", "[IPv6:2001:db8::1]"]
)


@given(st.one_of(dot_strings, texts.map(address.quote)), domains)
def test_a_mailbox_is_parsed_into_what_it_was_made_of(local: str, domain: str) -> None:
    if local:
        mailbox = address.parse(f"{local}@{domain}")
        assert mailbox == Mailbox(local, domain)
        assert str(mailbox) == f"{local}@{domain}" == str(address.parse(f"{mailbox}."))


@given(st.one_of(dot_strings, texts), domains, st.data())
def test_all_quotings_of_an_address_are_one(value: str, domain: str, data: st.DataObject) -> None:
    """RFC 5321 section 4.1.2: what a quoted pair stands for is what counts."""
    pairs = [data.draw(st.sampled_from(["", "\\"])) if " " <= c <= "~" and c not in '"\\' else "" for c in value]
    written = "".join(pair + (f"\\{c}" if c in '"\\' else c) for pair, c in zip(pairs, value, strict=True))
    normal = address.parse(f'"{written}"@{domain}')
    assert normal == Mailbox(address.quote(value), domain)
    assert address.parse(str(normal)) == normal
    assert len({address.lookup_key(one) for one in (f'"{written}"@{domain}.', str(normal), str(normal).lower())}) == 1
    assert address.normal_address(f'"{written}"@{domain.upper()}') == address.normal_address(str(normal))


@pytest.mark.parametrize(
    ("written", "normal"),
    [
        ("taro..y.@docomo.example", '"taro..y."@docomo.example'),
        (".taro@docomo.example", '".taro"@docomo.example'),
        ("taro.@docomo.example", '"taro."@docomo.example'),
        ("ta...ro@docomo.example", '"ta...ro"@docomo.example'),
        (".@docomo.example", '"."@docomo.example'),
        ('"taro.y"@docomo.example', "taro.y@docomo.example"),
        ('""@docomo.example', '""@docomo.example'),
        (r'"\a"@docomo.example', "a@docomo.example"),
        (r'"a\@b"@docomo.example', '"a@b"@docomo.example'),
        ('"jörg"@Docomo.Example', "jörg@Docomo.Example"),
        ("a@example.org.", "a@example.org"),
        ("a@[192.0.2.1].", "a@[192.0.2.1]"),
    ],
)
def test_the_normal_form(written: str, normal: str) -> None:
    """Dots are taken where Postfix takes them."""
    assert str(address.parse(written)) == normal
    assert str(address.parse(normal)) == normal


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("taro..y.@docomo.example", '"Taro..y."@DOCOMO.example.'),
        ("taro.", '"taro."'),
        (".taro", '".taro"'),
        (r'"joe\.user"', "joe.user"),
        ("Joe@bücher.example", '"joe"@xn--bcher-kva.example'),
        ("jo\u0308rg@x.example", "J\u00d6RG@x.example"),
    ],
)
def test_equal_addresses_have_one_key(one: str, other: str) -> None:
    assert address.lookup_key(one) == address.lookup_key(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [("taro.", "taro"), ("a b@x.example", '"a b"@x.example'), ('""@x.example', "@x.example"), ("", '""')],
)
def test_what_is_not_equal_has_not(one: str, other: str) -> None:
    assert address.lookup_key(one) != address.lookup_key(other)


@given(texts)
def test_quoting_loses_nothing(text: str) -> None:
    assert address.unquote(address.quote(text)) == text


@pytest.mark.parametrize(
    ("written", "local", "domain"),
    [
        ("", "", ""),
        ("postmaster", "postmaster", ""),
        ("a@b@c.example", "a@b", "c.example"),
        ('"a@b"@c.example', '"a@b"', "c.example"),
        (r'"a\"@b"@c.example', r'"a\"@b"', "c.example"),
        (r'"a\\"@c.example', r'"a\\"', "c.example"),
        ('"never closed@c.example', '"never closed@c.example', ""),
    ],
)
def test_the_domain_begins_after_the_last_at_outside_quotes(written: str, local: str, domain: str) -> None:
    assert address.split(written) == Mailbox(local, domain)


@pytest.mark.parametrize(
    ("written", "reason"),
    [
        ("", "no domain"),
        ("postmaster", "no domain"),
        ("a@", "no domain"),
        ("@example.org", "local part is malformed"),
        ("a@b@example.org", "local part is malformed"),
        ("a b@example.org", "local part is malformed"),
        ("a\r\nb@example.org", "local part is malformed"),
        ('"a\x00b"@example.org', "local part is malformed"),
        ('"a"b@example.org', "local part is malformed"),
        ("a@example..org", "domain is malformed"),
        ("a@.", "no domain"),
        ("a@example.org..", "domain is malformed"),
        ("a@.example.org", "domain is malformed"),
        ("\udcf6@example.org", "not valid UTF-8"),
        ("a@-example.org", "domain is malformed"),
        ("a@exa mple.org", "domain is malformed"),
        ("a@example.org\n", "domain is malformed"),
        ("a@" + "x" * 64 + ".org", "domain is malformed"),
        ("a@[192.0.2]", "domain is malformed"),
        ("a" * 641 + "@example.org", "longer than 640 octets"),
        ("ä" * 321 + "@example.org", "longer than 640 octets"),
        ("a@" + ".".join(["x" * 50] * 6), "longer than 255 octets"),
    ],
)
def test_what_is_no_mailbox_is_refused_with_the_reason(written: str, reason: str) -> None:
    with pytest.raises(BadAddress, match=re.escape(reason)):
        address.parse(written)


def test_64_octets_of_local_part_are_enough_and_allowed() -> None:
    assert address.parse("a" * 640 + "@example.org").local == "a" * 640


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Example.ORG", "example.org"),
        ("example.org.", "example.org"),
        ("BÜCHER.example", "xn--bcher-kva.example"),
        ("bücher。example", "xn--bcher-kva.example"),
    ],
)
def test_domains_that_are_the_same(one: str, other: str) -> None:
    assert address.normal_domain(one) == address.normal_domain(other)
    assert address.domain_of(f"a@{one}") == address.normal_domain(other)


def test_a_domain_that_idna_refuses_equals_only_itself() -> None:
    assert address.normal_domain("☃\u200d.example") == "☃\u200d.example"


def test_the_null_sender_has_no_domain() -> None:
    assert address.domain_of("") == ""


def test_which_addresses_need_smtputf8() -> None:
    assert address.is_ascii("", "a@example.org")
    assert not address.is_ascii("a@example.org", "ä@example.org")
    assert not address.is_ascii("a@bücher.example")


@pytest.mark.parametrize(
    ("local", "user", "detail"),
    [
        ("joe", "joe", ""),
        ("joe+lists", "joe", "+lists"),
        ("joe+lists+x", "joe", "+lists+x"),
        ("joe+", "joe", "+"),
        ("+lists", "+lists", ""),
        ('"a b+c"', "a b", "+c"),
        ("", "", ""),
    ],
)
def test_the_detail_begins_at_the_first_plus_behind_a_user(local: str, user: str, detail: str) -> None:
    assert address.split_detail(local) == (user, detail)


def test_255_octets_of_domain_are_allowed() -> None:
    domain = ".".join(["x" * 50] * 5)
    assert len(domain) == 254
    assert address.parse(f"a@{domain}x").domain == f"{domain}x"
    with pytest.raises(BadAddress, match="the domain is longer than 255 octets"):
        address.parse(f"a@{domain}xx")
