"""Callouts against a scripted mailbox host: what is asked, what is kept, and what a client is told."""

from __future__ import annotations

import asyncio

import pytest
import structlog

from relay.deliver.classify import classify
from relay.mail.outcome import Outcome, deferral
from relay.mail.reply import Refused
from relay.network import Endpoint, endpoint
from relay.rate import UNKNOWN_BURST, UNKNOWN_RATE, TokenBuckets
from relay.route import callout
from relay.route.callout import AT_ONCE, SILENT_FOR, UNKNOWN_FOR, Callout
from tests.peers import wait_for

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
        return Callout(self.probe, TokenBuckets(UNKNOWN_RATE, UNKNOWN_BURST), 3600.0, lambda: self.now)


@pytest.mark.parametrize(("outcome", "exists", "kept"), [(KNOWN, True, 3600.0), (UNKNOWN, False, UNKNOWN_FOR)])
async def test_an_answer_is_kept_for_its_time(outcome: Outcome, exists: bool, kept: float) -> None:
    host = Host(outcome)
    users = host.callout()
    assert await users.exists(HOP, "Bob@example.org", "") is exists
    host.now = kept - 1
    assert await users.exists(HOP, "bob@EXAMPLE.org", "") is exists
    assert host.asked == [(HOP, "Bob@example.org")]
    host.now = kept
    assert await users.exists(HOP, "bob@example.org", "") is exists
    assert len(host.asked) == 2


async def test_each_host_is_asked_for_itself() -> None:
    host = Host(KNOWN)
    users = host.callout()
    await users.exists(HOP, "bob@example.org", "")
    await users.exists(OTHER, "bob@example.org", "")
    assert [hop for hop, _ in host.asked] == [HOP, OTHER]


async def test_a_host_that_is_down_defers_and_is_left_alone_for_a_while() -> None:
    host = Host(DOWN)
    users = host.callout()
    for user in ("bob", "ann", "bob"):
        with pytest.raises(Refused) as refused:
            await users.exists(HOP, f"{user}@example.org", "")
        assert (refused.value.reply.code, refused.value.reply.enhanced) == (451, "4.4.1")
    assert len(host.asked) == 1
    host.outcome = KNOWN
    assert await users.exists(OTHER, "bob@example.org", "")
    host.now = SILENT_FOR
    assert await users.exists(HOP, "bob@example.org", "")


async def test_known_users_are_served_while_the_host_is_down() -> None:
    host = Host(KNOWN)
    users = host.callout()
    await users.exists(HOP, "bob@example.org", "")
    host.outcome = DOWN
    with pytest.raises(Refused):
        await users.exists(HOP, "ann@example.org", "")
    assert await users.exists(HOP, "bob@example.org", "")


async def test_a_deferral_of_one_user_says_nothing_of_the_next() -> None:
    host = Host(GREYLISTED)
    users = host.callout()
    with pytest.raises(Refused, match="451"):
        await users.exists(HOP, "bob@example.org", "")
    host.outcome = KNOWN
    assert await users.exists(HOP, "bob@example.org", "")


@pytest.mark.parametrize(
    "reply",
    [
        (550, ""),
        (551, "moved"),
        (553, "no"),
        (550, "5.1.1 no"),
        (554, "5.1.1 no"),
        (550, "5.1.10 no"),
        (551, "5.1.6 x"),
    ],
)
async def test_these_answers_mean_that_there_is_no_such_user(reply: tuple[int, str]) -> None:
    host = Host(classify("rcpt", *reply))
    users = host.callout()
    assert not await users.exists(HOP, "bob@example.org", "")
    assert not await users.exists(HOP, "bob@example.org", "")
    assert len(host.asked) == 1


PASSED_ON = [
    ((550, "5.2.1 disabled"), (550, "5.2.1")),
    ((550, "5.2.2 full"), (550, "5.2.2")),
    ((552, "5.2.2 full"), (552, "5.2.2")),
    ((554, "5.2.2 full"), (554, "5.2.2")),
    ((552, "full"), (552, "5.2.2")),
    ((550, "5.2.0 no"), (550, "5.2.0")),
    ((550, "5.2.3 large"), (550, "5.2.3")),
    ((452, "4.2.2 full"), (452, "4.2.2")),
    ((450, "4.2.1 not now"), (450, "4.2.1")),
    ((450, ""), (450, "4.2.0")),
    ((550, "5.1.0 rejected"), (550, "5.1.0")),
    ((550, "5.1.4 ambiguous"), (550, "5.1.4")),
    ((550, "5.4.1 Recipient address rejected: Access denied"), (550, "5.4.1")),
]
NOT_OF_THE_USER = [
    *((550, "5.7.1 client blocked"), (554, "5.7.1 blocked"), (550, "5.7.0 no"), (553, "5.7.1 no"), (571, "5.7.1 no")),
    *((530, "5.7.0 STARTTLS first"), (530, ""), (503, "5.5.1 sequence"), (535, "5.7.8 no"), (538, ""), (554, "no")),
    *((500, ""), (501, "5.5.4 what"), (502, ""), (550, "5.5.0 what"), (550, "5.3.2 closed"), (552, "5.3.1 disk full")),
    *(
        (550, "5.1.2 domain"),
        (550, "5.1.8 sender"),
        (553, "5.1.7 sender"),
        (550, "5.4.4 no route"),
        (550, "5.4.6 loop"),
    ),
    *((550, "5.0.0 no"), (451, "4.7.1 later"), (452, "4.3.1 disk full"), (451, "4.4.1 no connection"), (421, "")),
]


@pytest.mark.parametrize(("reply", "heard"), PASSED_ON)
async def test_the_state_of_a_mailbox_is_passed_on_in_our_words_and_not_kept(
    reply: tuple[int, str], heard: tuple[int, str]
) -> None:
    host = Host(classify("rcpt", *reply))
    users = host.callout()
    with pytest.raises(Refused) as refused:
        await users.exists(HOP, "bob@example.org", "192.0.2.1")
    answer = refused.value.reply
    assert (answer.code, answer.enhanced) == heard
    assert answer.text.startswith("<bob@example.org>: ") and "rejected" not in answer.text
    host.outcome = KNOWN
    assert await users.exists(HOP, "bob@example.org", "192.0.2.1")


@pytest.mark.parametrize("reply", NOT_OF_THE_USER)
async def test_policy_and_trouble_with_our_session_say_nothing_of_the_user_and_are_not_kept(
    reply: tuple[int, str],
) -> None:
    host = Host(classify("rcpt", *reply))
    users = host.callout()
    with structlog.testing.capture_logs() as logged:
        assert await refusal(users, "bob", "192.0.2.1") == (451, "4.4.1")
    outcome = host.outcome
    assert [line["answer"] for line in logged] == [f"{outcome.code} {outcome.enhanced} {outcome.text}"]
    host.outcome = KNOWN
    assert await users.exists(HOP, "ann@example.org", ""), "the host is not left alone for it"
    assert await users.exists(HOP, "bob@example.org", "")


async def test_a_host_that_says_nothing_defers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(callout, "TIMEOUT", 0.01)
    host = Host(KNOWN)
    host.answering.clear()
    with pytest.raises(Refused, match="451"):
        await host.callout().exists(HOP, "bob@example.org", "")


async def test_one_question_in_flight_survives_the_client_that_asked_first() -> None:
    host = Host(KNOWN)
    users = host.callout()
    host.answering.clear()
    first, *others = (asyncio.create_task(users.exists(HOP, "bob@example.org", "")) for _ in range(20))
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
        await users.exists(HOP, f"{user}@example.org", "")
    assert [address for _, address in host.asked].count("bob@example.org") == 1
    await users.exists(HOP, "u1@example.org", "")
    assert [address for _, address in host.asked].count("u1@example.org") == 2


async def refusal(users: Callout, user: str, stranger: str) -> tuple[int, str]:
    with pytest.raises(Refused) as refused:
        await users.exists(HOP, f"{user}@example.org", stranger)
    return refused.value.reply.code, refused.value.reply.enhanced


async def test_who_tries_name_after_name_gets_no_more_questions_asked() -> None:
    host = Host(KNOWN)
    users = host.callout()
    await users.exists(HOP, "bob@example.org", "")
    host.outcome = UNKNOWN
    for number in range(UNKNOWN_BURST):
        assert not await users.exists(HOP, f"u{number}@example.org", "192.0.2.1")
    asked = len(host.asked)
    assert await refusal(users, "another", "192.0.2.1") == (450, "4.7.1")
    assert await users.exists(HOP, "bob@example.org", "192.0.2.1"), "what is known is no question"
    assert not await users.exists(HOP, "u0@example.org", "192.0.2.1")
    assert len(host.asked) == asked
    assert not await users.exists(HOP, "another@example.org", "192.0.2.2")
    host.now = 60 / UNKNOWN_RATE
    assert not await users.exists(HOP, "more@example.org", "192.0.2.1")
    assert await refusal(users, "another2", "192.0.2.1") == (450, "4.7.1")


async def test_users_that_exist_and_trusted_clients_are_not_counted() -> None:
    host = Host(KNOWN)
    users = host.callout()
    for number in range(UNKNOWN_BURST + 1):
        assert await users.exists(HOP, f"u{number}@example.org", "192.0.2.1")
    host.outcome = UNKNOWN
    for number in range(UNKNOWN_BURST + 1):
        assert not await users.exists(HOP, f"v{number}@example.org", "")


async def test_a_host_is_not_asked_too_much_at_once() -> None:
    host = Host(KNOWN)
    users = host.callout()
    host.answering.clear()
    waiting = [asyncio.create_task(users.exists(HOP, f"u{n}@example.org", "")) for n in range(3 * AT_ONCE)]
    other = asyncio.create_task(users.exists(OTHER, "bob@example.org", ""))
    await wait_for(lambda: len(host.asked) > AT_ONCE, "the first questions")
    assert [hop for hop, _ in host.asked].count(HOP) == AT_ONCE
    host.answering.set()
    assert all(await asyncio.gather(*waiting, other))


async def test_who_waits_for_a_turn_hears_that_the_host_is_down() -> None:
    host = Host(DOWN)
    users = host.callout()
    host.answering.clear()
    waiting = [asyncio.create_task(users.exists(HOP, f"u{n}@example.org", "")) for n in range(3 * AT_ONCE)]
    await wait_for(lambda: len(host.asked) == AT_ONCE, "the first questions")
    host.answering.set()
    answers = await asyncio.gather(*waiting, return_exceptions=True)
    assert all(isinstance(answer, Refused) for answer in answers)
    assert len(host.asked) == AT_ONCE


async def test_nobody_waits_for_a_turn_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    host = Host(KNOWN)
    users = host.callout()
    host.answering.clear()
    waiting = [asyncio.create_task(users.exists(HOP, f"u{n}@example.org", "")) for n in range(AT_ONCE)]
    await wait_for(lambda: len(host.asked) == AT_ONCE, "the first questions")
    monkeypatch.setattr(callout, "TIMEOUT", 0.01)
    assert await refusal(users, "late", "192.0.2.1") == (451, "4.4.1")
    host.answering.set()
    assert all(await asyncio.gather(*waiting))
    await wait_for(lambda: len(host.asked) > AT_ONCE, "the late question's turn")
    assert await users.exists(HOP, "late@example.org", "")
    assert len(host.asked) == AT_ONCE + 1


async def test_questions_of_clients_that_have_gone_do_not_pile_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(callout, "WAITING", AT_ONCE + 2)
    host = Host(KNOWN)
    users = host.callout()
    host.answering.clear()
    for number in range(AT_ONCE + 2):
        client = asyncio.create_task(users.exists(HOP, f"u{number}@example.org", "192.0.2.1"))
        await asyncio.sleep(0)
        client.cancel()
    assert await refusal(users, "late", "192.0.2.1") == (451, "4.4.1")
    host.answering.set()
    await wait_for(lambda: len(host.asked) == AT_ONCE + 2, "the questions")
    assert await users.exists(HOP, "late@example.org", "192.0.2.1")
