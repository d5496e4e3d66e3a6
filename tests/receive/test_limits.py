"""What clients may take, over several workers."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import ExitStack

import pytest

from relay.receive.limits import Account, Limits, SharedCounts
from relay.reply import Refused
from tests.receive.door import Door

ANN, BOB = "192.0.2.1", "192.0.2.2"


def limits(counts: SharedCounts, worker: int, memory: int = 1000) -> Limits:
    return Limits(counts, worker, connections=3, per_client=2, memory=memory)


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
    one = Limits(SharedCounts(1), 0, connections=10, per_client=2, memory=1000)
    with ExitStack() as stack:
        strangers = [stack.enter_context(Account(one, f"192.0.2.{n}", trusted=False)) for n in range(9)]
        assert [account.refusal for account in strangers] == [""] * 9
        with Account(one, "192.0.2.9", trusted=False) as stranger:
            assert stranger.refusal == "too many connections"
        with Account(one, "192.0.2.9", trusted=True) as trusted:
            assert trusted.refusal == ""


def test_an_ipv6_client_is_its_network() -> None:
    one = limits(SharedCounts(1), 0)
    addresses = ["2001:db8::1", "2001:db8::2", "2001:db8:0:0:ffff::"]
    accounts = [Account(one, ip, trusted=False).__enter__() for ip in addresses]
    assert accounts[-1].refusal == "too many connections from your address"
    with Account(one, "2001:db8:0:1::1", trusted=False) as other:
        assert other.refusal == "too many connections"


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
