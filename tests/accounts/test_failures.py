"""The limits on failed logins: by client, network and user, over processes, in a window of ten minutes."""

from __future__ import annotations

import os

import pytest

from relay.accounts.failures import OF_CLIENT, OF_NETWORK, OF_USER, WINDOW, LoginFailures


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def failures(clock: Clock) -> LoginFailures:
    return LoginFailures(clock=clock)


def test_ten_failures_of_an_address_until_the_window_has_passed(failures: LoginFailures, clock: Clock) -> None:
    for _ in range(OF_CLIENT):
        assert not failures.client_is_over("192.0.2.1")
        failures.add("192.0.2.1")
        clock.now += 50
    assert failures.client_is_over("192.0.2.1") and not failures.client_is_over("192.0.2.2")
    clock.now = 1000.0 + WINDOW - 1
    assert failures.client_is_over("192.0.2.1")
    clock.now += 1
    assert not failures.client_is_over("192.0.2.1")


def test_a_64_of_ipv6_is_one_client(failures: LoginFailures) -> None:
    for number in range(OF_CLIENT):
        failures.add(f"2001:db8:1:1::{number:x}")
    assert failures.client_is_over("2001:db8:1:1:ffff::1") and not failures.client_is_over("2001:db8:1:2::1")


@pytest.mark.parametrize(
    ("pattern", "clients", "inside", "outside"),
    [
        ("192.0.2.{}", 4, "192.0.2.200", "192.0.3.1"),
        ("2001:db8:0:00{:02x}::1", 4, "2001:db8:0:ff::1", "2001:db8:0:100::1"),
        ("2001:db8:0:{:x}00::1", 16, "2001:db8:0:ffff::1", "2001:db8:1::1"),
        ("2001:db8:{:x}::1", 64, "2001:db8:ffff::1", "2001:db9::1"),
    ],
    ids=["/24", "/56", "/48", "/32"],
)
def test_networks(failures: LoginFailures, pattern: str, clients: int, inside: str, outside: str) -> None:
    for number in range(1, clients + 1):
        assert not failures.client_is_over(inside)
        for _ in range(OF_CLIENT):
            failures.add(pattern.format(number))
    assert failures.client_is_over(inside) and not failures.client_is_over(outside)
    assert OF_NETWORK == 4 * OF_CLIENT


def test_forty_failures_of_a_user_from_anywhere(failures: LoginFailures) -> None:
    for number in range(OF_USER):
        assert not failures.user_is_over("joe")
        failures.add(f"192.0.{number}.1", ["joe"])
    assert failures.user_is_over("joe") and not failures.user_is_over("ann")


def test_each_failure_costs_more_up_to_three_seconds(failures: LoginFailures, clock: Clock) -> None:
    waits = []
    for _ in range(OF_CLIENT):
        failures.add("192.0.2.1")
        waits.append(failures.held_for("192.0.2.1"))
        clock.now += waits[-1]
    assert waits == pytest.approx([0.5, 1, 1.5, 2, 2.5, 3, 3, 3, 3, 3])
    assert failures.held_for("192.0.2.2") == failures.held_for("192.0.2.1") == 0


def test_parallel_connections_wait_one_after_another(failures: LoginFailures) -> None:
    waits = []
    for _ in range(OF_CLIENT):
        failures.add("192.0.2.1")
        waits.append(failures.held_for("192.0.2.1"))
    assert waits == sorted(waits) and waits[-1] == pytest.approx(22.5)


def test_a_child_process_counts_for_all(failures: LoginFailures) -> None:
    child = os.fork()
    if child == 0:
        for _ in range(OF_CLIENT):
            failures.add("192.0.2.1", ["joe"])
        os._exit(0)
    os.waitpid(child, 0)
    assert failures.client_is_over("192.0.2.1")


def test_a_user_name_may_be_any_text(failures: LoginFailures) -> None:
    for name in ("\udcff", "x" * 100_000, "\0", "ü"):
        failures.add("192.0.2.1", [name])
        assert not failures.user_is_over(name)
