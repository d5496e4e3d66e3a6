"""The left-hand side of a line of an access table, and the order in which keys are tried."""

from __future__ import annotations

import pytest

from relay.access.keys import keys_of_address, keys_of_ip, keys_of_name, meant_domain, parse_key


@pytest.mark.parametrize(
    ("written", "key"),
    [
        ("192.0.2.1", "192.0.2.1/32"),
        ("192.0.2", "192.0.2.0/24"),
        ("192.0", "192.0.0.0/16"),
        ("10", "10.0.0.0/8"),
        ("0", "0.0.0.0/8"),
        ("192.0.2.77/24", "192.0.2.0/24"),
        ("192.0.2.0/255.255.255.0", "192.0.2.0/24"),
        ("0.0.0.0/0", "0.0.0.0/0"),
        ("2001:DB8:0:0::1", "2001:db8::1/128"),
        ("2001:db8:7::/48", "2001:db8:7::/48"),
        ("2001:db8:7", "2001:db8:7::/48"),
        ("2001:0DB8", "2001:db8::/32"),
        ("::1", "::1/128"),
        ("::ffff:192.0.2.1", "192.0.2.1/32"),
        ("::ffff:c000:200/120", "192.0.2.0/24"),
        ("Mail.Example.ORG.", "mail.example.org"),
        (".Example.org", ".example.org"),
        ("bücher.example", "xn--bcher-kva.example"),
        ("com", "com"),
        ("Joe.User@Example.ORG", "joe.user@example.org"),
        ('"joe.user"@example.org', "joe.user@example.org"),
        ('"a b"@example.org', '"a b"@example.org'),
        ("postmaster@[192.0.2.1]", "postmaster@[192.0.2.1]"),
        ("[192.0.2.1]", "[192.0.2.1]"),
        ("Root@", "root@"),
        ("<>", "<>"),
    ],
)
def test_the_keys(written: str, key: str) -> None:
    assert str(parse_key(written)) == key


@pytest.mark.parametrize(
    ("written", "problem"),
    [
        ("@example.org", "a whole domain is written example.org"),
        ("*.example.org", "all below a domain is written .example.org"),
        ("192.0.2.0/33", "not an address or network"),
        ("192.0.2.256", "not an address or network"),
        ("192.0.2.", "not an address or network"),
        ("192.0.02", "not an address or network"),
        ("192.0.2.*", "no address, network or domain"),
        ("192.0.2.1-192.0.2.9", "not an address or network"),
        ("192.0.2.1-9", "not an address or network"),
        ("2001:db8:::1", "not an address or network"),
        ("a b@example.org", "malformed"),
        ("ex ample", "no address, network or domain"),
        ("..example", "no address, network or domain"),
        ("caf\udce9.example", "not UTF-8"),
        ("@", "no address"),
        ("", "no address"),
    ],
)
def test_what_is_no_key(written: str, problem: str) -> None:
    with pytest.raises(ValueError, match=r"^[^\n]*$") as error:
        parse_key(written)
    assert problem in str(error.value)


def test_the_domain_of_what_is_no_key() -> None:
    written = [
        "@example.org",
        "*.Example.org",
        "*@example.org",
        "a b@example.org",
        "192.0.2.*",
        "192.0.2.256",
        "192.0.2.1-9",
    ]
    written += ["a@b@", "nonsense"]
    assert [meant_domain(text) for text in written] == ["example.org"] * 4 + [""] * 5


def test_the_order_for_an_address() -> None:
    assert list(keys_of_address("Joe+List@Mail.Example.org")) == [
        "joe+list@mail.example.org",
        "joe@mail.example.org",
        "mail.example.org",
        ".example.org",
        "example.org",
        ".org",
        "org",
        "joe+list@",
        "joe@",
    ]
    assert list(keys_of_address("joe@org")) == ["joe@org", "org", "joe@"]
    assert list(keys_of_address("")) == ["<>"]
    assert next(keys_of_address('"a b"@x.y')) == '"a b"@x.y'


def test_the_order_for_a_name_and_an_address_of_a_client() -> None:
    assert list(keys_of_name("a.b.c")) == ["a.b.c", ".b.c", "b.c", ".c", "c"]
    assert list(keys_of_ip("192.0.2.1")) == ["192.0.2.1", "192.0.2", "192.0", "192"]
    assert list(keys_of_ip("2001:db8:7::1")) == ["2001:db8:7::1", "2001:db8:7:", "2001:db8:7", "2001:db8", "2001"]
    assert list(keys_of_name("")) == []
