"""Addresses as the configuration and SMTP write them, and the networks that they lie in."""

from __future__ import annotations

import pytest

from relay.network import Endpoint, client_network, endpoint, host_port, literal_ip, network, plain_ip, too_wide, within


@pytest.mark.parametrize(
    ("url", "expected", "written"),
    [
        ("smtp://mx.example", Endpoint(scheme="smtp", host="mx.example", port=25), "smtp://mx.example:25"),
        ("smtps://mx.example", Endpoint(scheme="smtps", host="mx.example", port=465), "smtps://mx.example:465"),
        ("lmtp://127.0.0.1", Endpoint(scheme="lmtp", host="127.0.0.1", port=24), "lmtp://127.0.0.1:24"),
        (
            "smtp://[2001:db8::1]:587/",
            Endpoint(scheme="smtp", host="2001:db8::1", port=587),
            "smtp://[2001:db8::1]:587",
        ),
    ],
)
def test_an_endpoint_is_read_and_written_as_a_url(url: str, expected: Endpoint, written: str) -> None:
    assert endpoint(url) == expected and str(expected) == written
    assert endpoint(expected) is expected and endpoint(written) == expected


@pytest.mark.parametrize(
    "url",
    ["mx.example", "http://mx.example", "smtp://", "smtp://mx.example/path", "smtp://me:pw@mx.example", "smtp://x?y"],
)
def test_other_urls_are_no_endpoint(url: str) -> None:
    with pytest.raises(ValueError, match="a next hop is written"):
        endpoint(url)


@pytest.mark.parametrize(
    ("text", "expected"),
    [("0.0.0.0:25", ("0.0.0.0", 25)), ("[::]:25", ("::", 25)), ("127.0.0.1:0", ("127.0.0.1", 0))],
)
def test_host_and_port(text: str, expected: tuple[str, int]) -> None:
    assert host_port(text) == expected


@pytest.mark.parametrize("text", ["25", "localhost:25", "127.0.0.1", "127.0.0.1:", "127.0.0.1:65536", "127.0.0.1:-1"])
def test_no_host_and_port(text: str) -> None:
    with pytest.raises(ValueError):
        host_port(text)


@pytest.mark.parametrize(
    ("networks", "wide"),
    [
        (["10.0.0.0/8", "2001:db8::/16"], None),
        (["0.0.0.0/7"], "0.0.0.0/7"),
        (["0.0.0.0/1", "128.0.0.0/1"], "0.0.0.0/0"),
        (["10.0.0.0/8", "11.0.0.0/8"], "10.0.0.0/7"),
        (["10.0.0.0/8", "12.0.0.0/8"], None),
        (["::/0"], "::/0"),
    ],
)
def test_networks_that_make_an_open_relay(networks: list[str], wide: str | None) -> None:
    assert too_wide(map(network, networks)) == (network(wide) if wide else None)


def test_a_network_is_written_with_or_without_its_length() -> None:
    assert str(network("192.0.2.1")) == "192.0.2.1/32"
    assert str(network("192.0.2.1/24")) == "192.0.2.0/24"
    with pytest.raises(ValueError, match="is not an address or network"):
        network("mx.example")


@pytest.mark.parametrize(
    ("ip", "plain"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("fe80::1%eth0", "fe80::1"),
        ("2001:DB8::1", "2001:db8::1"),
    ],
)
def test_a_plain_address_has_no_zone_and_no_mapping(ip: str, plain: str) -> None:
    assert plain_ip(ip) == plain


@pytest.mark.parametrize(
    ("domain", "ip"),
    [
        ("[192.0.2.1]", "192.0.2.1"),
        ("[IPv6:2001:db8::1]", "2001:db8::1"),
        ("[ipv6:::ffff:192.0.2.1]", "192.0.2.1"),
        ("[2001:db8::1]", ""),
        ("[IPv6:192.0.2.1]", ""),
        ("[x-tag:y]", ""),
        ("192.0.2.1", ""),
        ("", ""),
    ],
)
def test_an_address_literal(domain: str, ip: str) -> None:
    assert literal_ip(domain) == ip


def test_an_ipv6_client_is_its_64() -> None:
    assert client_network("192.0.2.1") == "192.0.2.1"
    assert client_network("2001:db8::1:2:3") == client_network("2001:db8::/64") == "2001:db8::/64"


@pytest.mark.parametrize(("ip", "inside"), [("192.0.2.7", True), ("192.0.3.7", False), ("::1", True), ("::2", False)])
def test_within_networks_of_both_families(ip: str, inside: bool) -> None:
    assert within(ip, [network("192.0.2.0/24"), network("::1")]) is inside
    assert not within(ip, [])


@pytest.mark.parametrize(
    ("url", "path", "shown"),
    [
        ("lmtp:///run/dovecot/lmtp", "/run/dovecot/lmtp", "lmtp:///run/dovecot/lmtp"),
        ("lmtp:///a%20b/l%25m%3Atp", "/a b/l%m:tp", "lmtp:///a%20b/l%25m%3Atp"),
        ("lmtp:///run/gr%C3%BC%C3%9Fe", "/run/grüße", "lmtp:///run/gr%C3%BC%C3%9Fe"),
        ("lmtp:///run/grüße", "/run/grüße", "lmtp:///run/gr%C3%BC%C3%9Fe"),
        ("lmtp:///" + "x" * 106, "/" + "x" * 106, "lmtp:///" + "x" * 106),
    ],
)
def test_a_unix_socket_as_a_next_hop(url: str, path: str, shown: str) -> None:
    hop = endpoint(url)
    assert (hop.scheme, hop.host, hop.port, hop.path) == ("lmtp", "", 0, path)
    assert str(hop) == shown and endpoint(str(hop)) == hop


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("lmtp://run/dovecot/lmtp", "three slashes"),
        ("lmtp://localhost:24/run/lmtp", "three slashes"),
        ("lmtp:/run/dovecot/lmtp", "lmtp:///path/of/the/socket"),
        ("lmtp:unix:/run/dovecot/lmtp", "lmtp:///path/of/the/socket"),
        ("unix:/run/dovecot/lmtp", "lmtp:///path/of/the/socket"),
        ("lmtp:///", "the path of the Unix socket is missing"),
        ("lmtp:///run/", "the path of the Unix socket is missing"),
        ("lmtp:///run/a%00b", "the path of the Unix socket"),
        ("lmtp:///run/%FF", "the path of the Unix socket has octets that are no UTF-8"),
        ("lmtp:///run/a%0Ab", "control characters"),
        ("lmtp:///run/lmtp?x=1", "? is written %3F"),
        ("lmtp:///run/lmtp#1", "# is written %23"),
        ("lmtp:///" + "x" * 107, "at most 107 octets"),
        ("smtp:///run/dovecot/lmtp", "lmtp:///path/of/the/socket"),
        ("smtps:///run/dovecot/lmtp", "lmtp:///path/of/the/socket"),
    ],
)
def test_what_is_no_unix_socket_is_refused_with_its_mend(url: str, problem: str) -> None:
    with pytest.raises(ValueError, match="socket") as error:
        endpoint(url)
    assert problem in str(error.value)
