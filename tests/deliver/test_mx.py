"""Where mail for a domain goes, and where it never does."""

from __future__ import annotations

import ipaddress
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from relay.deliver.mx import HOSTS, HostFinder, Unroutable, by_preference, is_public, literal
from relay.deliver.next_hop import NextHop, NextHops
from relay.dns import DnsFailure, StaticResolver
from relay.network import endpoint
from tests.deliver.sending import Zone, config
from tests.peers import needs

ROOT = Path(__file__).parent.parent.parent

FAILS = DnsFailure("no answer")
ONE, TWO, THREE = "93.184.216.34", "93.184.216.35", "93.184.216.36"  # addresses that are public and nobody's here
SIX = "2606:2800:220:1::1"


async def hosts_of(
    zone: Zone, hop: NextHop | str, rng: random.Random | None = None, **delivery: Any
) -> list[tuple[str, str]]:
    finder = HostFinder(config(**delivery), StaticResolver(zone), rng)
    hop = NextHop(domain=hop) if isinstance(hop, str) else hop
    return [(host.name, host.address) for host in (await finder.find(hop)).hosts]


async def refused(zone: Zone, hop: NextHop | str, **delivery: Any) -> tuple[str, int, str]:
    with pytest.raises(Unroutable) as raised:
        await hosts_of(zone, hop, **delivery)
    outcome = raised.value.outcome
    assert outcome.text and not outcome.remote
    return outcome.status, outcome.code, outcome.enhanced


# the order


def test_preference_decides_and_equals_take_turns() -> None:
    records = [(20, "c"), (10, "a"), (10, "b"), (5, "first")]
    orders = {tuple(name for _, name in by_preference(records, random.Random(seed))) for seed in range(50)}
    assert orders == {("first", "a", "b", "c"), ("first", "b", "a", "c")}


async def test_mx_hosts_in_order_with_their_addresses() -> None:
    zone: Zone = {
        ("d.test", "MX"): [(20, "b.test"), (10, "a.test")],
        ("a.test", "A"): [ONE, TWO],
        ("b.test", "A"): [THREE],
    }
    assert await hosts_of(zone, "D.test.") == [("a.test", ONE), ("a.test", TWO), ("b.test", THREE)]


async def test_a_domain_without_mx_is_its_own_host() -> None:
    assert await hosts_of({("d.test", "A"): [ONE]}, "d.test") == [("d.test", ONE)]


async def test_an_address_record_does_not_count_beside_mx() -> None:
    zone: Zone = {("d.test", "MX"): [(10, "a.test")], ("d.test", "A"): [ONE]}
    assert await refused(zone, "d.test") == ("failed", 550, "5.4.4")


async def test_a_domain_in_unicode_is_looked_up_in_a_labels() -> None:
    zone: Zone = {("xn--bcher-kva.test", "MX"): [(10, "a.test")], ("a.test", "A"): [ONE]}
    assert await hosts_of(zone, "BÜCHER.test") == [("a.test", ONE)]


async def test_not_more_than_so_many_hosts() -> None:
    zone: dict[tuple[str, str], Any] = {("d.test", "MX"): [(n, f"h{n}.test") for n in range(30)]}
    zone |= {(f"h{n}.test", "A"): [f"93.184.216.{n}"] for n in range(30)}
    assert await hosts_of(zone, "d.test") == [(f"h{n}.test", f"93.184.216.{n}") for n in range(HOSTS)]


# the families


@pytest.mark.parametrize(
    ("families", "addresses"),
    [
        (["ipv6", "ipv4"], [SIX, ONE, "2606:2800:220:1::2", TWO]),
        (["ipv4", "ipv6"], [ONE, SIX, TWO, "2606:2800:220:1::2"]),
        (["ipv4"], [ONE, TWO]),
        (["ipv6"], [SIX, "2606:2800:220:1::2"]),
    ],
)
async def test_families_take_turns_in_the_configured_order(families: list[str], addresses: list[str]) -> None:
    zone: Zone = {("d.test", "A"): [ONE, TWO], ("d.test", "AAAA"): [SIX, "2606:2800:220:1::2"]}
    assert [address for _, address in await hosts_of(zone, "d.test", families=families)] == addresses


async def test_one_family_is_enough() -> None:
    assert await hosts_of({("d.test", "AAAA"): [SIX]}, "d.test") == [("d.test", SIX)]
    assert await hosts_of({("d.test", "A"): [ONE], ("d.test", "AAAA"): FAILS}, "d.test") == [("d.test", ONE)]


async def test_no_address_in_the_family_that_is_wanted_is_a_failure() -> None:
    zone: Zone = {("d.test", "MX"): [(10, "a.test")], ("a.test", "AAAA"): [SIX]}
    assert await refused(zone, "d.test", families=["ipv4"]) == ("failed", 550, "5.4.4")


# what is final, and what may change


async def test_nxdomain_is_final() -> None:
    assert await refused({}, "gone.test") == ("failed", 550, "5.1.2")


@pytest.mark.parametrize("domain", ["", "a..test", "-a.test", "a b.test", "x" * 64 + ".test", "[1.2.3]"])
async def test_what_is_no_domain_is_final(domain: str) -> None:
    assert await refused({}, domain) == ("failed", 550, "5.1.2")


async def test_null_mx() -> None:
    assert await refused({("d.test", "MX"): [(0, "")], ("d.test", "A"): [ONE]}, "d.test") == ("failed", 556, "5.1.10")


async def test_a_null_mx_beside_others_is_none() -> None:
    zone: Zone = {("d.test", "MX"): [(0, ""), (10, "a.test")], ("a.test", "A"): [ONE]}
    assert await hosts_of(zone, "d.test") == [("a.test", ONE)]


async def test_a_domain_without_any_address_is_final() -> None:
    assert await refused({("d.test", "TXT"): []}, "d.test") == ("failed", 550, "5.4.4")


@pytest.mark.parametrize(
    "zone",
    [
        {("d.test", "MX"): FAILS},
        {("d.test", "TXT"): [], ("d.test", "A"): FAILS, ("d.test", "AAAA"): FAILS},
        {("d.test", "TXT"): [], ("d.test", "A"): FAILS},
        {("d.test", "MX"): [(10, "a.test")], ("a.test", "A"): FAILS},
        {("d.test", "MX"): [(10, "a.test"), (20, "b.test")], ("a.test", "A"): FAILS, ("b.test", "TXT"): []},
        # the primary is not known for now, and what remains is ourselves or a host that we must not ask
        {("d.test", "MX"): [(10, "a.test"), (20, "relay.test")], ("a.test", "A"): FAILS, ("relay.test", "A"): [TWO]},
        {("d.test", "MX"): [(10, "a.test"), (20, "b.test")], ("a.test", "A"): FAILS, ("b.test", "A"): ["10.0.0.1"]},
    ],
)
async def test_dns_without_an_answer_is_a_deferral(zone: Zone) -> None:
    assert await refused(zone, "d.test") == ("deferred", 451, "4.4.3")


async def test_a_host_that_dns_does_not_answer_for_is_passed_over() -> None:
    zone: Zone = {
        ("d.test", "MX"): [(10, "a.test"), (20, "b.test")],
        ("a.test", "A"): FAILS,
        ("b.test", "A"): [TWO],
    }
    assert await hosts_of(zone, "d.test") == [("b.test", TWO)]


@pytest.mark.parametrize("name", ["a\\.b.test", "\\000.test", "-.test", "a b.test", "x" * 250])
async def test_an_mx_that_is_no_host_name_is_passed_over(name: str) -> None:
    zone: Zone = {("d.test", "MX"): [(10, name), (20, "b.test")], (name, "A"): [ONE], ("b.test", "A"): [TWO]}
    assert await hosts_of(zone, "d.test") == [("b.test", TWO)]


# ourselves


async def test_an_mx_with_our_name_is_us() -> None:
    zone: Zone = {("d.test", "MX"): [(10, "Relay.test")], ("relay.test", "A"): [ONE]}
    assert await refused(zone, "d.test") == ("failed", 554, "5.4.6")


async def test_only_more_preferred_hosts_may_take_it_from_us() -> None:
    records = [(10, "a.test"), (20, "relay.test"), (20, "peer.test"), (30, "worse.test")]
    addresses = {"a.test": ONE, "relay.test": TWO, "peer.test": THREE, "worse.test": THREE}
    zone: Zone = {("d.test", "MX"): records, **{(name, "A"): [a] for name, a in addresses.items()}}
    assert await hosts_of(zone, "d.test") == [("a.test", ONE)]


async def test_an_address_of_this_machine_is_us() -> None:
    zone: Zone = {("d.test", "MX"): [(10, "other.test")], ("other.test", "A"): ["127.0.0.9"]}
    assert await refused(zone, "d.test") == ("failed", 554, "5.4.6")


IN_A_NAMESPACE = """
set -e
ip link set lo up
for address in {addresses}; do ip address add $address dev lo; done
exec {python} -c "
import asyncio, sys
from tests.deliver.test_mx import refused
for address in sys.argv[1:]:
    print(*asyncio.run(refused({{('d.test', 'A' if '.' in address else 'AAAA'): [address]}}, 'd.test')))
" {own}
"""


@needs("ip", root=True)
@pytest.mark.slow
def test_every_address_of_an_interface_is_us() -> None:
    """The kernel names the first address of an interface when it is asked for the way to the others."""
    own = [ONE, TWO, SIX]
    addresses = " ".join(f"{address}/{24 if '.' in address else 64}" for address in own)
    script = IN_A_NAMESPACE.format(addresses=addresses, python=sys.executable, own=" ".join(own))
    done = subprocess.run(
        ["unshare", "--net", "sh", "-c", script], capture_output=True, text=True, cwd=ROOT, timeout=60
    )
    assert done.stdout.splitlines() == ["failed 554 5.4.6"] * len(own), done.stderr


async def test_where_loopback_is_allowed_only_our_own_listener_is_us() -> None:
    zone: Zone = {("d.test", "MX"): [(10, "other.test")], ("other.test", "A"): ["127.0.0.9"]}
    assert await hosts_of(zone, "d.test", public_addresses_only=False) == [("other.test", "127.0.0.9")]
    listener = config().listen[0].model_copy(update={"address": "0.0.0.0:2525"})
    everywhere = config(public_addresses_only=False, port=2525).model_copy(update={"listen": (listener,)})
    with pytest.raises(Unroutable) as raised:
        await HostFinder(everywhere, StaticResolver(zone)).find(NextHop(domain="d.test"))
    assert raised.value.outcome.enhanced == "5.4.6"


# guards


@pytest.mark.parametrize(
    "address",
    [
        "0.0.0.0",
        "10.1.2.3",
        "100.64.0.1",
        "127.0.0.1",
        "169.254.169.254",
        "172.16.0.1",
        "192.0.0.8",
        "192.0.2.1",
        "192.168.1.1",
        "198.18.0.1",
        "198.51.100.1",
        "203.0.113.1",
        "224.0.0.1",
        "240.0.0.1",
        "255.255.255.255",
        "::",
        "::1",
        "::ffff:127.0.0.1",
        "::ffff:93.184.216.34",
        "::127.0.0.1",
        "::10.0.0.1",
        "64:ff9b::10.0.0.1",
        "64:ff9b::127.0.0.1",
        "64:ff9b:1::1",
        "100::1",
        "2001:db8::1",
        "2001::1",
        "2002:7f00:1::1",
        "2002:0a00:1::1",
        "3fff::1",
        "5f00::1",
        "fc00::1",
        "fd00::2",
        "fe80::1",
        "fec0::1",
        "ff02::1",
    ],
)
def test_addresses_that_are_not_public(address: str) -> None:
    assert not is_public(ipaddress.ip_address(address))


@pytest.mark.parametrize("address", [ONE, SIX, "8.8.8.8", "2a00:1450::1", "64:ff9b::8.8.8.8", "2002:808:808::1"])
def test_public_addresses(address: str) -> None:
    assert is_public(ipaddress.ip_address(address))


@pytest.mark.parametrize("address", ["10.0.0.1", "169.254.169.254", "192.168.7.7"])
async def test_mail_by_mx_never_goes_to_a_private_address(address: str) -> None:
    zone: Zone = {("d.test", "MX"): [(10, "a.test"), (20, "b.test")], ("a.test", "A"): [address, ONE]}
    assert await hosts_of(zone, "d.test") == [("a.test", ONE)]
    assert await refused({("d.test", "A"): [address]}, "d.test") == ("failed", 550, "5.4.4")
    assert await refused({("d.test", "MX"): [(10, address)]}, "d.test") == ("failed", 550, "5.4.4")
    assert await refused({}, f"[{address}]") == ("failed", 550, "5.4.4")
    assert await hosts_of({("d.test", "A"): [address]}, "d.test", public_addresses_only=False) == [("d.test", address)]


async def test_an_ipv4_mapped_address_is_no_way_round() -> None:
    zone: Zone = {("d.test", "AAAA"): ["::ffff:10.0.0.1", "::ffff:93.184.216.34"]}
    assert await refused(zone, "d.test") == ("failed", 550, "5.4.4")
    assert (await refused({}, "[IPv6:::ffff:127.0.0.1]"))[0] == "failed"


async def test_an_mx_of_localhost_is_us() -> None:
    assert (await refused({("d.test", "MX"): [(10, "localhost")]}, "d.test"))[0] == "failed"


@pytest.mark.parametrize(
    ("domain", "address"),
    [("[93.184.216.34]", ONE), ("[IPv6:2606:2800:220:1::1]", SIX), ("[ipv6:2606:2800:220:1::1]", SIX)],
)
async def test_an_address_literal_needs_no_dns(domain: str, address: str) -> None:
    assert await hosts_of({}, domain) == [(address, address)]


def test_what_is_no_address_literal() -> None:
    assert [literal(text) for text in ("d.test", "[d.test]", "[1.2.3.4", "[2606::1]", "[IPv6:1.2.3.4]")] == [None] * 5


# a configured next hop


async def test_a_configured_next_hop_may_be_anywhere() -> None:
    assert await hosts_of({}, NextHop(endpoint=endpoint("smtp://127.0.0.1:2525"))) == [("127.0.0.1", "127.0.0.1")]
    assert await hosts_of({}, NextHop(endpoint=endpoint("smtp://[::1]:2525"))) == [("::1", "::1")]
    assert await hosts_of({}, NextHop(endpoint=endpoint("lmtp://localhost:24"))) == [
        ("localhost", "::1"),
        ("localhost", "127.0.0.1"),
    ]


async def test_a_configured_next_hop_is_not_looked_up_by_mx() -> None:
    zone: Zone = {("hub.test", "MX"): [(10, "a.test")], ("a.test", "A"): [ONE], ("hub.test", "A"): ["10.0.0.9"]}
    assert await hosts_of(zone, NextHop(endpoint=endpoint("smtp://hub.test:25"))) == [("hub.test", "10.0.0.9")]


@pytest.mark.parametrize("zone", [{}, {("hub.test", "A"): FAILS}, {("hub.test", "TXT"): []}])
async def test_a_slip_in_the_configuration_is_a_deferral(zone: Zone) -> None:
    assert (await refused(zone, NextHop(endpoint=endpoint("smtp://hub.test:25"))))[0] == "deferred"


# destinations


async def test_the_families_of_a_destination_decide_which_addresses_are_looked_up() -> None:
    zone: Zone = {
        ("a.test", "MX"): [(10, "mx.test")],
        ("b.test", "MX"): [(10, "mx.test")],
        ("mx.test", "A"): [ONE],
        ("mx.test", "AAAA"): FAILS,
    }
    sending = config(destinations=[{"domains": ["a.test"], "families": ["ipv4"], "helo": "mx2.relay.test"}])
    finder = HostFinder(sending, StaticResolver(zone))
    found = await finder.find(NextHops(sending).of("x@a.test"))
    assert [host.address for host in found.hosts] == [ONE] and found.leaving.helo == "mx2.relay.test"
    assert found.destination is not None and found.destination.number == 0
    found = await finder.find(NextHops(sending).of("x@b.test"))
    assert (found.destination, found.leaving) == (None, sending.destinations.leaving)


async def test_an_mx_table_holds_once_the_hosts_are_known() -> None:
    zone: Zone = {
        ("a.test", "MX"): [(10, "MX1.Mail.Test"), (20, "other.test")],
        ("mx1.mail.test", "A"): [ONE],
        ("mx1.mail.test", "AAAA"): [SIX],
        ("other.test", "A"): [TWO],
        ("self.test", "A"): [THREE],
        ("down.test", "MX"): FAILS,
    }
    sending = config(
        destinations=[{"domains": ["mx:*.mail.test"], "families": ["ipv4"]}, {"domains": ["mx:self.test"], "rate": 9}]
    )
    finder, hops = HostFinder(sending, StaticResolver(zone)), NextHops(sending)
    for domain, number in (("a.test", 0), ("self.test", 1)):
        found = await finder.find(hops.of(f"x@{domain}"))
        assert found.destination is not None and found.destination.number == number
        assert await finder.destination(hops.of(f"x@{domain}")) == found.destination
    assert [host.address for host in (await finder.find(hops.of("x@a.test"))).hosts] == [ONE, TWO]
    for address in ("x@down.test", "x@[192.0.2.1]", "x@nobody.test", "x@a_b!.test"):
        assert await finder.destination(hops.of(address)) is None
    assert await finder.destination(NextHop(endpoint=endpoint("smtp://mx1.mail.test"))) is None


@pytest.mark.parametrize(
    ("doubtful", "of_both", "of_ipv6"),
    [
        ({"source_ipv4": ONE}, [ONE, TWO], [SIX]),
        ({"source_ipv6": SIX}, [SIX], [SIX]),
        ({"source_ipv4": ONE, "source_ipv6": SIX}, [SIX, ONE, TWO], [SIX]),
        ({"helo": "mx2.fwd.test"}, [SIX, ONE, TWO], [SIX]),
    ],
)
async def test_doubtful_mail_goes_to_hosts_that_see_its_own_address_where_there_are_any(
    doubtful: dict[str, str], of_both: list[str], of_ipv6: list[str]
) -> None:
    zone: Zone = {
        ("a.test", "MX"): [(10, "mx1.a.test"), (20, "mx2.a.test")],
        ("mx1.a.test", "A"): [ONE],
        ("mx1.a.test", "AAAA"): [SIX],
        ("mx2.a.test", "A"): [TWO],
        ("b.test", "AAAA"): [SIX],
    }
    sending = config(doubtful=doubtful)
    finder, hops = HostFinder(sending, StaticResolver(zone)), NextHops(sending)
    for domain, expected in (("a.test", of_both), ("b.test", of_ipv6)):
        found = await finder.find(hops.of(f"x@{domain}", doubtful=True))
        assert [host.address for host in found.hosts] == expected
    other = await finder.find(hops.of("x@a.test"))
    assert [host.address for host in other.hosts] == [SIX, ONE, TWO]


async def test_a_unix_socket_is_one_host_and_asks_no_dns() -> None:
    finder = HostFinder(config(), StaticResolver({}))
    [host] = (await finder.find(NextHop(endpoint=endpoint("lmtp:///run/dovecot/lmtp")))).hosts
    assert (host.name, host.address, host.is_socket) == ("localhost", "/run/dovecot/lmtp", True)
