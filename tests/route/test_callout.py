"""Callouts against a scripted mailbox host: what is asked, what is kept, and what a client is told."""

from __future__ import annotations

import asyncio

import pytest

from relay.deliver.reply import Outcome, classify, deferral
from relay.network import Endpoint, endpoint
from relay.reply import Refused
from relay.route import callout
from relay.route.callout import SILENT_FOR, UNKNOWN_FOR, Callout

HOP = endpoint("lmtp://10.0.0.5:24")
OTHER = endpoint("smtp://10.0.0.6:25")
KNOWN, UNKNOWN = classify("rcpt", 250, "2.1.5 OK"), classify("rcpt", 550, "5.1.1 no")
GREYLISTED, DOWN = classify("rcpt", 451, "4.7.1 later"), deferral("4.4.1", "connection refused")


class Host:
    """Answers every question with `outcome`, and keeps what it was asked. Time passes only as the test says."""

    def __init__(self, outcome: Outcome) -> None:
        self.outcome = outcome
        self.asked: list[tuple[Endpoint, str]] = []
        self.answering = asyncio.Event()
        self.answering.set()
        self.now = 0.0

    async def probe(self, next_hop: Endpoint, address: str) -> Outcome:
        self.asked.append((next_hop, address))
        await self.answering.wait()
        return self.outcome

    def callout(self) -> Callout:
        return Callout(self.probe, 3600.0, lambda: self.now)


@pytest.mark.parametrize(("outcome", "exists", "kept"), [(KNOWN, True, 3600.0), (UNKNOWN, False, UNKNOWN_FOR)])
async def test_an_answer_is_kept_for_its_time(outcome: Outcome, exists: bool, kept: float) -> None:
    host = Host(outcome)
    users = host.callout()
    assert await users.exists(HOP, "Bob@example.org") is exists
    host.now = kept - 1
    assert await users.exists(HOP, "bob@EXAMPLE.org") is exists
    assert host.asked == [(HOP, "Bob@example.org")]
    host.now = kept
    assert await users.exists(HOP, "bob@example.org") is exists
    assert len(host.asked) == 2


async def test_each_host_is_asked_for_itself() -> None:
    host = Host(KNOWN)
    users = host.callout()
    await users.exists(HOP, "bob@example.org")
    await users.exists(OTHER, "bob@example.org")
    assert [hop for hop, _ in host.asked] == [HOP, OTHER]


async def test_a_host_that_is_down_defers_and_is_left_alone_for_a_while() -> None:
    host = Host(DOWN)
    users = host.callout()
    for user in ("bob", "ann", "bob"):
        with pytest.raises(Refused) as refused:
            await users.exists(HOP, f"{user}@example.org")
        assert (refused.value.reply.code, refused.value.reply.enhanced) == (451, "4.4.1")
    assert len(host.asked) == 1
    host.outcome = KNOWN
    assert await users.exists(OTHER, "bob@example.org")
    host.now = SILENT_FOR
    assert await users.exists(HOP, "bob@example.org")


async def test_known_users_are_served_while_the_host_is_down() -> None:
    host = Host(KNOWN)
    users = host.callout()
    await users.exists(HOP, "bob@example.org")
    host.outcome = DOWN
    with pytest.raises(Refused):
        await users.exists(HOP, "ann@example.org")
    assert await users.exists(HOP, "bob@example.org")


async def test_a_deferral_of_one_user_says_nothing_of_the_next() -> None:
    host = Host(GREYLISTED)
    users = host.callout()
    with pytest.raises(Refused, match="451"):
        await users.exists(HOP, "bob@example.org")
    host.outcome = KNOWN
    assert await users.exists(HOP, "bob@example.org")


async def test_a_host_that_says_nothing_defers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(callout, "TIMEOUT", 0.01)
    host = Host(KNOWN)
    host.answering.clear()
    with pytest.raises(Refused, match="451"):
        await host.callout().exists(HOP, "bob@example.org")


async def test_one_question_in_flight_survives_the_client_that_asked_first() -> None:
    host = Host(KNOWN)
    users = host.callout()
    host.answering.clear()
    first, *others = (asyncio.create_task(users.exists(HOP, "bob@example.org")) for _ in range(20))
    await asyncio.sleep(0)
    first.cancel()
    await asyncio.sleep(0)
    host.answering.set()
    assert await asyncio.gather(*others) == [True] * 19
    assert first.cancelled()
    assert len(host.asked) == 1


async def test_the_memory_is_bounded_and_keeps_who_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(callout, "ENTRIES", 3)
    host = Host(KNOWN)
    users = host.callout()
    for user in ("bob", "u1", "u2", "bob", "u3", "u4", "bob"):
        await users.exists(HOP, f"{user}@example.org")
    assert [address for _, address in host.asked].count("bob@example.org") == 1
    await users.exists(HOP, "u1@example.org")
    assert [address for _, address in host.asked].count("u1@example.org") == 2
