"""Clients that had mail accepted: known for a day, in all processes, in bounded memory, each for itself."""

from __future__ import annotations

import os

import pytest

from relay.known_clients import KNOWN_FOR, KnownClients
from relay.network import client_network, wider_networks
from relay.rate import ClientBuckets

ANN = "2001:db8::/64"
SALT = 2  # with which no two clients here share a bucket


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_a_client_is_known_for_a_day() -> None:
    clock = Clock()
    known = KnownClients(clock)
    assert not known.knows(ANN)
    known.add(ANN)
    clock.now += KNOWN_FOR - 600
    assert known.knows(ANN)
    assert not known.knows("2001:db8:0:1::/64"), "its neighbours are not"
    known.add(ANN)
    clock.now += KNOWN_FOR - 600
    assert known.knows(ANN), "each message counts anew"
    clock.now += 1200
    assert not known.knows(ANN)


def test_another_process_knows_it_too() -> None:
    known = KnownClients()
    pid = os.fork()
    if pid == 0:
        known.add(ANN)
        os._exit(0)
    os.waitpid(pid, 0)
    assert known.knows(ANN)


def test_however_many_come_the_last_ones_are_known() -> None:
    clock = Clock()
    known = KnownClients(clock)
    clients = [f"2001:db8:{n:x}::/64" for n in range(0x10000)] + [f"2001:db9:{n:x}::/64" for n in range(0x1000)]
    for n, client in enumerate(clients):
        clock.now += 300 * (n % 1000 == 0)
        known.add(client)
    assert sum(map(known.knows, clients[-1000:])) > 990
    assert sum(map(known.knows, clients)) <= 0x10000
    assert not any(known.knows(f"2001:dba:{n:x}::/64") for n in range(0x4000)), "nobody is taken for another"


@pytest.mark.parametrize(
    ("client", "networks"),
    [
        ("192.0.2.1", ()),
        ("2001:db8:1:2345::7", (("2001:db8:1:2300::/56", 4), ("2001:db8:1::/48", 16), ("2001:db8::/32", 64))),
        ("2001:db8:1:2345::/64", (("2001:db8:1:2300::/56", 4), ("2001:db8:1::/48", 16), ("2001:db8::/32", 64))),
    ],
)
def test_the_networks_around_a_client(client: str, networks: tuple[tuple[str, int], ...]) -> None:
    assert wider_networks(client) == networks
    assert client_network(client_network(client)) == client_network(client)


@pytest.fixture
def no_shared_buckets(monkeypatch: pytest.MonkeyPatch) -> None:
    """Clients share a bucket by chance, one pair in 65,536: with this salt none does here."""
    monkeypatch.setattr("relay.rate.buckets.secrets.token_bytes", lambda size: bytes([SALT]) * size)


def guesses(buckets: ClientBuckets, clients: list[str], now: float = 0.0) -> int:
    """How many of 30 guesses of each client are let through."""
    return sum(buckets.take(client, now) for client in clients for _ in range(30))


@pytest.mark.parametrize(
    ("clients", "times"),
    [
        ([f"192.0.2.{n}" for n in range(200)], 200),
        ([f"2001:db8::{n:x}" for n in range(1, 200)], 1),
        ([f"2001:db8:0:{n:x}::1" for n in range(200)], 4),
        ([f"2001:db8:0:{n:x}00::1" for n in range(200)], 16),
        ([f"2001:db8:{n:x}::1" for n in range(200)], 64),
        ([f"2001:{n:x}::1" for n in range(1, 101)], 100),
    ],
    ids=["IPv4", "a /64", "a /56", "a /48", "a /32", "everywhere"],
)
def test_the_rate_of_a_network(clients: list[str], times: int, no_shared_buckets: None) -> None:
    buckets = ClientBuckets(per_minute=2, burst=20, known=KnownClients())
    assert guesses(buckets, clients) == times * 20
    assert guesses(buckets, clients, 60.0) == times * 2, "and then so many a minute"


def test_a_million_guesses_from_a_48_are_bounded(no_shared_buckets: None) -> None:
    buckets = ClientBuckets(per_minute=2, burst=20, known=KnownClients())
    assert guesses(buckets, [f"2001:db8:0:{n:x}::1" for n in range(0, 0x10000, 16)]) == 16 * 20


def test_who_had_mail_accepted_is_not_held_back_by_neighbours_and_frees_none_of_them(no_shared_buckets: None) -> None:
    known = KnownClients()
    buckets = ClientBuckets(per_minute=2, burst=20, known=known)
    known.add("2001:db8:0:7::/64")
    assert guesses(buckets, [f"2001:db8:0:{n:x}00::1" for n in range(1, 100)]) == 16 * 20
    assert guesses(buckets, ["2001:db8:0:7::1"]) == 20
    assert not buckets.has("2001:db8:0:8::1", 0.0)
    assert not buckets.has("2001:db8:0:7::1", 0.0), "its own rate holds"
