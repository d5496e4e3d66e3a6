"""The wait of a session for the outcome of its offer: who has the message in the end."""

from __future__ import annotations

import asyncio

import pytest

from relay.deliver.attempts import Attempt, Batch
from relay.deliver.in_session import ClientGone, Offer
from relay.deliver.settlement import Result
from relay.mail.message import Message
from relay.mail.outcome import Outcome, deferral, failure
from relay.queue.store import Delivery, StoredMessage
from relay.queue.stored_verdict import StoredVerdict

TAKEN = Outcome("delivered", 250, "2.0.0", "taken")
REFUSED = failure(550, "5.1.1", "no such user")
PUT_OFF = deferral("4.2.1", "later")


def stays() -> asyncio.Future[None]:
    """A client that waits."""
    return asyncio.get_running_loop().create_future()


def leaves() -> asyncio.Future[None]:
    """A client that has left."""
    left = stays()
    left.set_result(None)
    return left


def offer() -> Offer:
    stored = StoredMessage(1, 0.0, "joe@origin.test", b"", Message(b"x\r\n"), StoredVerdict())
    delivery = Delivery(1, 0, "ann@far.test", "ann@fwd.test", "far.test")
    return Offer(Attempt(stored, [Batch([delivery])]))


def ended(an_offer: Offer, outcome: Outcome) -> None:
    an_offer.ended(Result(an_offer.batch.deliveries[0], outcome))


@pytest.mark.parametrize(("outcome", "final"), [(TAKEN, TAKEN), (REFUSED, REFUSED), (PUT_OFF, None)])
async def test_a_final_outcome_ends_the_wait(outcome: Outcome, final: Outcome | None) -> None:
    an_offer = offer()
    asyncio.get_running_loop().call_soon(ended, an_offer, outcome)
    assert await an_offer.outcome(stays) is final


async def test_past_the_patience_the_attempt_goes_on() -> None:
    an_offer = offer()
    assert await an_offer.outcome(stays, patience=0.01) is None
    assert an_offer.batch.bound.open and not an_offer.batch.bound.withdrawn


async def test_a_client_that_left_before_the_final_dot_ends_the_attempt() -> None:
    an_offer = offer()
    asyncio.get_running_loop().call_later(0.01, ended, an_offer, PUT_OFF)
    with pytest.raises(ClientGone):
        await an_offer.outcome(leaves)
    assert an_offer.batch.bound.over and an_offer.batch.bound.withdrawn


@pytest.mark.parametrize("outcome", [TAKEN, PUT_OFF])
async def test_after_the_final_dot_the_outcome_counts(outcome: Outcome) -> None:
    """The next hop may have it: an outcome that leaves that open is stored, never thrown away."""
    an_offer = offer()
    an_offer.batch.bound.final_dot()
    asyncio.get_running_loop().call_later(0.01, ended, an_offer, outcome)
    assert await an_offer.outcome(leaves) is (TAKEN if outcome is TAKEN else None)
    assert not an_offer.batch.bound.over


async def test_a_message_that_cannot_be_stored_is_given_up_unless_its_final_dot_is_out() -> None:
    early, late = offer(), offer()
    late.batch.bound.final_dot()
    asyncio.get_running_loop().call_later(0.01, ended, early, PUT_OFF)
    asyncio.get_running_loop().call_later(0.01, ended, late, TAKEN)
    assert await early.abandon("the disk is full") is None and early.batch.bound.over
    assert await late.abandon("the disk is full") is TAKEN and not late.batch.bound.over


@pytest.mark.parametrize("outcome", [TAKEN, REFUSED])
async def test_a_final_outcome_needs_no_decision(outcome: Outcome) -> None:
    an_offer = offer()
    ended(an_offer, outcome)
    assert not await an_offer.is_stored()


@pytest.mark.parametrize("stored", [False, True])
@pytest.mark.parametrize("outcome", [TAKEN, PUT_OFF])
async def test_while_the_message_is_being_stored_every_outcome_waits_for_the_decision(
    outcome: Outcome, stored: bool
) -> None:
    an_offer = offer()
    an_offer.is_being_stored = True
    ended(an_offer, outcome)
    waiting = asyncio.create_task(an_offer.is_stored())
    await asyncio.sleep(0)
    assert not waiting.done()
    (an_offer.keep if stored else an_offer.drop)()
    an_offer.drop()
    assert await waiting is stored


async def test_a_decision_that_came_first_counts() -> None:
    an_offer = offer()
    an_offer.keep()
    ended(an_offer, PUT_OFF)
    assert await an_offer.is_stored()


async def test_in_a_hurry_nobody_waits_for_the_reply_to_a_final_dot_either() -> None:
    an_offer = offer()
    an_offer.batch.bound.final_dot()
    an_offer.hurry()
    assert await asyncio.wait_for(an_offer.outcome(leaves), 5) is None


async def test_the_wait_leaves_nothing_behind_at_the_connection() -> None:
    an_offer, connection = offer(), stays()
    asyncio.get_running_loop().call_soon(ended, an_offer, TAKEN)
    assert await an_offer.outcome(lambda: connection) is TAKEN
    assert not connection.cancelled() and not connection._callbacks
