"""Which addresses `init` publishes, and how it keeps mail from leaving by others; `test_init_hosts` has real hosts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from relay.cli.host_addresses import Host, OwnAddress, _public_ipv6, plan

V4, V4B, V6, V6B, NAT, ULA = "203.0.113.5", "198.51.100.9", "2001:db8:5::5", "2001:db8:9::9", "10.0.0.5", "fd00::5"


def host(ipv4: str | None = None, ipv6: str | None = None, *, has: Sequence[str] = (), passing: str = "") -> Host:
    """A host whose kernel sends from these addresses, and that has others, too."""
    own = [OwnAddress(ip, lasting=ip != passing) for ip in (ipv6, *has) if ip and ip.startswith("2")]
    owned = {ip for ip in (ipv4, ipv6, *has) if ip}
    own = [address for address in own if ":" in address.ip]
    return Host({"ipv4": ipv4, "ipv6": ipv6}, owned.__contains__, own)


@pytest.mark.parametrize(
    ("given", "of", "families", "sources"),
    [
        ([V4], host(V4, V6), ("ipv4",), {}),  # mail by IPv6 would have neither SPF nor PTR
        ([V4], host(V4), ("ipv4",), {}),  # the host may get IPv6 later
        ([V4, V6], host(V4, V6), (), {}),
        ([V6], host(V4, V6), ("ipv6",), {}),
        ([V4], host(NAT), ("ipv4",), {}),  # the NAT replaces what the kernel chooses
        ([V4], host(V4B), ("ipv4",), {}),  # prepared on another host
        ([V4], host(V4B, has=[V4]), ("ipv4",), {"ipv4": V4}),
        ([V4], host(NAT, has=[V4]), ("ipv4",), {"ipv4": V4}),
        ([V4, V4B], host(V4B, has=[V4]), ("ipv4",), {}),
        ([V6], host(V4, V6B, has=[V6]), ("ipv6",), {"ipv6": V6}),
        ([V6], host(V4, V6, has=[V6B]), ("ipv6",), {"ipv6": V6}),  # the kernel chooses by the destination
        ([V6, V6B], host(V4, V6, has=[V6B]), ("ipv6",), {}),
        ([V4, V6], host(V4, ULA, has=[V6]), (), {"ipv6": V6}),
        ([V4, V4], host(), ("ipv4",), {}),
    ],
)
def test_mail_leaves_from_a_given_address(
    given: list[str], of: Host, families: tuple[str, ...], sources: dict[str, str]
) -> None:
    planned = plan(given, of)
    assert planned.published == tuple(dict.fromkeys(given))
    assert (planned.families, planned.sources, planned.unknown) == (families, sources, ())


@pytest.mark.parametrize(
    ("of", "published", "families", "sources", "unknown"),
    [
        (host(V4, V6), (V4, V6), (), {}, ()),
        (host(V4), (V4,), ("ipv4",), {}, ()),
        (host(None, V6), (V6,), ("ipv6",), {}, ()),
        (host(V4, ULA), (V4,), ("ipv4",), {}, ()),
        (host(NAT), (), (), {}, ("ipv4",)),
        (host(NAT, V6), (V6,), (), {}, ("ipv4",)),
        (host(), (), (), {}, ("ipv4",)),
        (host(V4, V6, has=[V6B], passing=V6), (V4, V6B), (), {"ipv6": V6B}, ()),  # it changes daily (RFC 8981)
        (host(V4, V6, passing=V6), (V4, V6), (), {}, ()),
    ],
)
def test_without_a_given_address_those_of_the_host_count(
    of: Host, published: tuple[str, ...], families: tuple[str, ...], sources: dict[str, str], unknown: tuple[str, ...]
) -> None:
    planned = plan([], of)
    assert (planned.published, planned.families, planned.sources) == (published, families, sources)
    assert planned.unknown == unknown


@pytest.mark.parametrize(
    ("given", "of", "said"),
    [
        ([V4], host(V4, V6), ["mail leaves from 203.0.113.5", "by IPv4 alone", f"mail from {V6} would have neither"]),
        ([V4], host(V4), ["no IPv6 address is known"]),
        ([V4], host(V4, ULA), ["since fd00::5 is private"]),
        ([V6], host(V4, V6), ["hosts that have no IPv6 get no mail"]),
        ([V4], host(NAT), ["from 10.0.0.5, and a NAT has to make 203.0.113.5 of it"]),
        ([V4], host(V4B), ["does not have 203.0.113.5", "leaves from 198.51.100.9", "--address 198.51.100.9"]),
        ([V4], host(V4B, has=[V4]), ["from 203.0.113.5 (delivery.source_ipv4)"]),
        ([V4], host(), ["no route to the world by IPv4"]),
        ([], host(V4, V6), ["from 203.0.113.5 and 2001:db8:5::5"]),
        ([], host(NAT), ["10.0.0.5, which is private", "with --force and --address IP"]),
        ([], host(), ["no route to the world", "--address IP"]),
        ([V4, V4B], host(V4), [f"does not have {V4B}: mail to there does not come here"]),
    ],
)
def test_what_was_found_is_said(given: list[str], of: Host, said: list[str]) -> None:
    text = "\n".join(plan(given, of).said)
    assert [part for part in said if part not in text] == []


def test_the_table_of_the_kernel_tells_which_addresses_last(tmp_path: Path) -> None:
    table = tmp_path / "if_inet6"
    table.write_text(
        "00000000000000000000000000000001 01 80 10 80 lo\n"
        "fe80000000000000045000fffe000001 02 40 20 80 eth0\n"
        "20010db8000500000000000000000005 02 40 00 80 eth0\n"
        "20010db8000500001234567812345678 02 40 00 01 eth0\n"
        "20010db8000500000000000000000006 02 40 00 a0 eth0\n"
        "fd000000000000000000000000000005 02 40 00 80 eth0\n"
    )
    assert list(_public_ipv6(table)) == [
        OwnAddress("2001:db8:5::5", lasting=True),
        OwnAddress("2001:db8:5:0:1234:5678:1234:5678", lasting=False),
    ]
    assert list(_public_ipv6(tmp_path / "none")) == []
