"""What clients may take, over several workers."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterable
from contextlib import ExitStack

import pytest

from relay.mail.reply import Refused
from relay.receive.limits import Account, Limits
from relay.receive.room import SPOOL_FROM
from relay.receive.shared_counts import SharedCounts
from tests.receive.door import Door

ANN, BOB = "192.0.2.1", "192.0.2.2"


@pytest.fixture(autouse=True)
def no_shared_buckets(monkeypatch: pytest.MonkeyPatch) -> None:
    """Clients share a bucket by chance, one pair in 16,384: with this salt none does here."""
    monkeypatch.setattr("relay.receive.shared_counts._SALT", b"1" * 16)


def limits(counts: SharedCounts, worker: int, memory: int = 1000) -> Limits:
    return Limits(counts, worker, connections=3, per_client=2, memory=memory, largest=memory)


def test_connections_count_over_all_workers() -> None:
    counts = SharedCounts(2)
    first, second = limits(counts, 0), limits(counts, 1)
    with Account(first, ANN, trusted=False), Account(second, ANN, trusted=False) as two:
        assert two.refusal == ""
        with Account(first, ANN, trusted=False) as three:
            assert three.refusal == "too many connections from your address"
        with Account(first, ANN, trusted=True) as three, Account(second, BOB, trusted=True) as four:
            assert (three.refusal, four.refusal) == ("too many connections", "too many connections")
        with Account(second, BOB, trusted=False) as three:
            assert three.refusal == ""


def test_strangers_in_any_number_leave_room_for_trusted_clients() -> None:
    worker_limits = Limits(SharedCounts(1), 0, connections=10, per_client=2, memory=1000)
    with ExitStack() as stack:
        strangers = [stack.enter_context(Account(worker_limits, f"192.0.2.{n}", trusted=False)) for n in range(9)]
        assert [account.refusal for account in strangers] == [""] * 9
        with Account(worker_limits, "192.0.2.9", trusted=False) as stranger:
            assert stranger.refusal == "too many connections"
        with Account(worker_limits, "192.0.2.9", trusted=True) as trusted:
            assert trusted.refusal == ""


def test_an_ipv6_client_is_its_network() -> None:
    worker_limits = limits(SharedCounts(1), 0)
    addresses = ["2001:db8::1", "2001:db8::2", "2001:db8:0:0:ffff::"]
    accounts = [Account(worker_limits, ip, trusted=False).__enter__() for ip in addresses]
    assert accounts[-1].refusal == "too many connections from your address"
    for account in accounts:
        account.__exit__()
    with Account(worker_limits, "2001:db8:0:1::1", trusted=False) as other:
        assert other.refusal == ""


def test_memory_counts_over_all_workers_and_is_given_back() -> None:
    counts = SharedCounts(2)
    with Account(limits(counts, 0), ANN, trusted=True) as ann:
        ann.hold(700)
        with Account(limits(counts, 1), BOB, trusted=True) as bob:
            bob.hold(300)
            with pytest.raises(Refused, match=r"^452 4\.3\.1 "):
                bob.hold(1)
            bob.release()
            ann.hold(300)
    with Account(limits(counts, 1), BOB, trusted=True) as bob:
        bob.check(1000)


def test_one_client_may_hold_one_large_message_or_a_quarter_of_the_memory() -> None:
    counts = SharedCounts(2)
    with (
        Account(limits(counts, 0), ANN, trusted=False) as large,
        Account(limits(counts, 1), ANN, trusted=False) as other,
    ):
        large.hold(700)
        with pytest.raises(Refused, match=r"^452 4\.3\.1 "):
            other.hold(1)
        large.release()
        large.hold(200)
        other.hold(50)
        with pytest.raises(Refused, match=r"^452 4\.3\.1 "):
            other.hold(1)
        with Account(limits(counts, 1), BOB, trusted=False) as bob:
            bob.hold(700)


def test_what_a_dead_worker_held_is_free_again() -> None:
    counts = SharedCounts(2)
    pid = os.fork()
    if pid == 0:
        account = Account(limits(counts, 1), ANN, trusted=False).__enter__()
        account.hold(900)
        os._exit(0)
    os.waitpid(pid, 0)
    with Account(limits(counts, 0), ANN, trusted=False) as ann, Account(limits(counts, 0), ANN, trusted=False) as more:
        assert more.refusal == "too many connections from your address"
        with pytest.raises(Refused):
            ann.hold(200)
        counts.clear(1)
        assert more.refusal == ""
        ann.hold(200)


async def test_a_message_that_finds_no_memory_is_read_and_deferred(door: Callable[..., Door]) -> None:
    """Two workers share the memory: what one of them holds the other cannot take."""
    counts = SharedCounts(2)
    settings = {
        "limits": {"message_memory": 100_000},
        "receive": {"max_message_size": 100_000},
        "clients": {"trusted": ["127.0.0.1"]},
    }
    slow, quick = (
        await door(counts=counts, worker=0, **settings).client(),
        await door(counts=counts, worker=1, **settings).client(),
    )
    content = b"x" * 60_000 + b"\r\n"
    for _ in range(3):
        assert (await quick.mails(content)).startswith("250"), "what was taken gives its memory back"
    await slow.says("MAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nDATA\r\n", 3)
    slow.writer.write(content)
    await slow.writer.drain()
    reply = "250"
    while reply.startswith("250"):  # until the other worker has read it
        reply = await quick.mails(content)
    assert reply.startswith("452 4.3.1")
    assert (await quick.says("MAIL FROM:<a@b> SIZE=60000\r\n")).startswith("452 4.3.1")
    slow.writer.close()
    while not reply.startswith("250"):
        reply = await quick.mails(content)


def connected(worker_limits: Limits, stack: ExitStack, clients: Iterable[str]) -> tuple[int, str]:
    """How many of these connections stay open, and what the last of the others hears."""
    taken, heard = 0, ""
    for ip in clients:
        account = Account(worker_limits, ip, trusted=False)
        account.__enter__()
        if account.refusal:
            heard = account.refusal
            account.__exit__()
        else:
            taken += 1
            stack.callback(account.__exit__)
    return taken, heard


@pytest.mark.parametrize(
    ("clients", "most", "network"),
    [
        ([f"2001:db8:0:{n:x}::1" for n in range(60)], 4 * 2, "2001:db8::/56"),
        ([f"2001:db8:0:{n:x}00::1" for n in range(60)], 16 * 2, "2001:db8::/48"),
        ([f"2001:db8:{n:x}::1" for n in range(60)], 64 * 2, "2001:db8::/32"),
    ],
    ids=["a /56", "a /48", "a /32"],
)
def test_the_networks_around_an_ipv6_client_count_over_all_workers(clients: list[str], most: int, network: str) -> None:
    counts, clients = SharedCounts(2), clients * 3
    first, second = (Limits(counts, n, connections=1000, per_client=2, memory=1000) for n in range(2))
    if network.endswith("/32"):
        clients += [f"2001:db8:{n:x}::1" for n in range(60, 80)]
    with ExitStack() as stack:
        half, rest = connected(first, stack, clients[::2]), connected(second, stack, clients[1::2])
        assert half[0] + rest[0] == min(most, 2 * len(set(clients)))
        if most < 2 * len(set(clients)):
            assert rest[1] == f"too many connections from your network {network}"
            assert connected(first, stack, ["2001:db9::1", "192.0.2.1"]) == (2, ""), "others come in"
    with ExitStack() as stack:
        assert connected(first, stack, clients)[0] == min(most, 2 * len(set(clients))), "all was given back"


def test_sixty_clients_of_a_network_do_not_take_all_connections() -> None:
    worker_limits = Limits(SharedCounts(1), 0, connections=100, per_client=50, memory=1000)
    with ExitStack() as stack:
        taken = connected(worker_limits, stack, [f"2001:db8:0:{n:x}::1" for n in range(60)] * 50)
        assert taken == (50, "too many connections from your network 2001:db8::/56")
        assert connected(worker_limits, stack, ["2001:db9::1"] * 40) == (40, "")


def test_clients_that_had_mail_accepted_do_not_count_with_their_neighbours() -> None:
    worker_limits = Limits(SharedCounts(1), 0, connections=100, per_client=50, memory=1000)
    neighbours = [f"2001:db8:0:{n:x}::1" for n in range(1, 60)]
    with ExitStack() as stack:
        assert connected(worker_limits, stack, neighbours)[0] == 50
        with Account(worker_limits, "2001:db8::1", trusted=False) as honest:
            assert honest.refusal == "too many connections from your network 2001:db8::/56"
        honest.accepted()
        assert connected(worker_limits, stack, ["2001:db8::2"] * 10) == (10, "")
        assert connected(worker_limits, stack, ["2001:db8:0:ff::1"])[0] == 0, "its neighbours are not freed by it"


def test_a_32_never_has_all_connections_whoever_is_known() -> None:
    worker_limits = Limits(SharedCounts(1), 0, connections=100, per_client=50, memory=1000)
    clients = [f"2001:db8:0:{n:x}::1" for n in range(60)]
    for ip in clients:
        Account(worker_limits, ip, trusted=False).accepted()
    with ExitStack() as stack:
        taken = connected(worker_limits, stack, clients * 2)
        assert taken == (75, "too many connections from your network 2001:db8::/32")


def test_a_dead_worker_gives_back_the_connections_of_networks() -> None:
    counts = SharedCounts(2)
    worker_limits, dead = (Limits(counts, n, connections=1000, per_client=1, memory=1000) for n in range(2))
    with ExitStack() as forgotten, ExitStack() as stack:
        assert connected(dead, forgotten, [f"2001:db8:0:{n:x}::1" for n in range(4)])[0] == 4
        assert connected(worker_limits, stack, ["2001:db8:0:9::1"])[0] == 0
        counts.clear(1)
        forgotten.pop_all()
        assert connected(worker_limits, stack, [f"2001:db8:0:{n:x}::1" for n in range(5)])[0] == 4


@pytest.mark.parametrize("trusted", [True, False])
def test_one_connection_is_always_to_be_had(trusted: bool) -> None:
    worker_limits = Limits(SharedCounts(1), 0, connections=1, per_client=1, memory=1000)
    with Account(worker_limits, "2001:db8::1", trusted=trusted) as account:
        assert account.refusal == ""


# memory


def test_strangers_in_any_number_leave_memory_for_trusted_clients() -> None:
    worker_limits = Limits(SharedCounts(1), 0, connections=100, per_client=9, memory=1000)
    with ExitStack() as stack:
        strangers = [stack.enter_context(Account(worker_limits, f"192.0.2.{n}", trusted=False)) for n in range(10)]
        for stranger in strangers[:9]:
            stranger.hold(100)
        with pytest.raises(Refused, match=r"^452 4\.3\.1 "):
            strangers[9].hold(1)
        with pytest.raises(Refused, match=r"^452 4\.3\.1 "):
            strangers[9].check(1)
        with Account(worker_limits, "192.0.2.99", trusted=True) as trusted:
            trusted.hold(100)


def test_large_messages_of_strangers_leave_memory_for_small_ones() -> None:
    worker_limits = Limits(SharedCounts(1), 0, connections=100, per_client=9, memory=20 * SPOOL_FROM)
    with ExitStack() as stack:
        large = [stack.enter_context(Account(worker_limits, f"192.0.2.{n}", trusted=False)) for n in range(4)]
        for stranger in large[:3]:
            stranger.hold(5 * SPOOL_FROM)
        with pytest.raises(Refused, match=r"^452 4\.3\.1 "):
            large[3].hold(2 * SPOOL_FROM)
        large[3].hold(SPOOL_FROM)
        with pytest.raises(Refused, match=r"^452 4\.3\.1 "):
            large[3].check(2 * SPOOL_FROM)
        with Account(worker_limits, "192.0.2.99", trusted=True) as trusted:
            trusted.hold(2 * SPOOL_FROM)


def test_the_largest_message_fits_into_the_smallest_memory() -> None:
    size = 10 * SPOOL_FROM
    worker_limits = Limits(SharedCounts(1), 0, connections=9, per_client=9, memory=size, largest=size)
    with Account(worker_limits, ANN, trusted=False) as stranger:
        stranger.check(size)
        stranger.hold(SPOOL_FROM)
        stranger.hold(size - SPOOL_FROM)


def test_what_others_hold_of_a_small_memory_does_not_keep_the_largest_message_out() -> None:
    size = 40 * SPOOL_FROM
    worker_limits = Limits(SharedCounts(1), 0, connections=99, per_client=9, memory=size * 5 // 4, largest=size)
    with ExitStack() as stack:
        for n in range(4):
            stack.enter_context(Account(worker_limits, f"192.0.2.{n}", trusted=False)).hold(SPOOL_FROM)
        with Account(worker_limits, "192.0.2.9", trusted=False) as stranger:
            stranger.hold(size)


async def test_memory_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    worker_limits = Limits(SharedCounts(1), 0, connections=9, per_client=9, memory=1000)
    with Account(worker_limits, ANN, trusted=False) as ann, Account(worker_limits, BOB, trusted=False) as bob:
        ann.hold(800)
        waiting = asyncio.create_task(bob.wait_to_hold(500))
        await asyncio.sleep(0.15)
        assert not waiting.done()
        ann.release()
        async with asyncio.timeout(10):
            await waiting
        assert bob.memory.held == 500
        monkeypatch.setattr("relay.receive.limits.MEMORY_PATIENCE", 0.2)
        with pytest.raises(Refused, match=r"^452 4\.3\.1 "):
            await ann.wait_to_hold(500)
        assert ann.memory.held == 0
