"""Delivery in the session: a message is offered to its next hop while the client waits for the reply to its final dot.

Where the next hop takes the message, or refuses it for good, it is never stored, and no bounce is ever written. In
every other case it is stored before the client hears 250, and the attempt under way goes on as if it had been leased
from the queue. So a crash loses nothing that was acknowledged, and a message is delivered twice only where the final
reply of the next hop, or ours, is lost.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from relay.deliver.attempts import Attempt, Batch
from relay.deliver.settlement import Result
from relay.mail.outcome import Outcome

PATIENCE = 20.0  # seconds that the sender waits: a busy server takes a few, a client gives us minutes
_GONE = "the client has closed the connection"


class Offer:
    """One message that its next hop is offered in the session, by the dispatcher that attempts it.

    The session decides in the end whether the message is in the queue, where its outcome is recorded then. No decision
    is needed where an outcome makes storing needless before the session has begun to store.

    Args:
        attempt: has one batch with one delivery; this worker holds a lease on it once it is stored.

    Attributes:
        result: what came of it; None while that is not known, and where it was not tried for want of room.
        is_being_stored: whether the session has begun to store the message.
        is_finished: whether nobody is there any more to record what comes of it.
    """

    __slots__ = ("_decision", "_hurried", "_is_over", "_news", "attempt", "is_being_stored", "is_finished", "result")

    def __init__(self, attempt: Attempt) -> None:
        self.attempt = attempt
        self.result: Result | None = None
        self.is_being_stored = self.is_finished = False
        self._is_over = self._hurried = False
        self._news: asyncio.Future[None] | None = None  # which somebody waits for
        self._decision: bool | asyncio.Future[bool] | None = None

    @property
    def batch(self) -> Batch:
        """The one batch, with the one delivery."""
        return self.attempt.batches[0]

    # what the session does

    async def outcome(self, gone: Callable[[], asyncio.Future[None]], patience: float = PATIENCE) -> Outcome | None:
        """The outcome that ends the wait of the session: delivered, or failed for good. None where the message has to
        be stored: it was deferred, or is still under way when the patience ends, or the relay stops.

        Args:
            gone: see `receive.handler.Gone`.

        Raises:
            ClientGone: the client is gone, and the attempt was given up before its final dot.
        """
        loop = asyncio.get_running_loop()
        ends = loop.time() + patience
        leaving = gone()
        leaving.add_done_callback(self._wake)
        try:
            await self._wait(loop, ends)
        finally:
            leaving.remove_done_callback(self._wake)
        if leaving.done() and not self._is_over:
            if self.give_up(_GONE):
                await self._end()
                if self.final_outcome is None:
                    raise ClientGone
            else:
                await self._wait(loop, ends)
        return self.final_outcome

    async def _wait(self, loop: asyncio.AbstractEventLoop, ends: float) -> None:
        """Wait until the attempt is over, or for `_wake`, or until a time by the clock of the loop."""
        if self._is_over or self._hurried:
            return
        self._news = loop.create_future()
        timer = loop.call_at(ends, self._wake)
        try:
            await self._news
        finally:
            timer.cancel()

    async def _end(self) -> None:
        while not self._is_over:
            self._news = asyncio.get_running_loop().create_future()
            await self._news

    def _wake(self, _: object = None) -> None:
        if self._news is not None and not self._news.done():
            self._news.set_result(None)

    @property
    def final_outcome(self) -> Outcome | None:
        """The outcome that makes storing needless; None where there is none yet."""
        if self.result is None or self.result.outcome.status == "deferred":
            return None
        return self.result.outcome

    async def abandon(self, why: str) -> Outcome | None:
        """Give the attempt up because the message cannot be stored. Returns the outcome where the next hop has the
        message all the same, or has refused it for good: the final dot was out already."""
        self.give_up(why)
        await self._end()
        return self.final_outcome

    def give_up(self, why: str) -> bool:
        """End the attempt, unless its final dot is out. Returns whether it was ended."""
        return self.batch.bound.withdraw(why)

    def drop(self) -> None:
        """Say that the message is not in the queue: nothing is recorded there."""
        self._decide(False)

    def keep(self) -> None:
        """Say that the message is in the queue: the outcome is recorded there."""
        self._decide(True)

    def _decide(self, is_stored: bool) -> None:
        if isinstance(self._decision, asyncio.Future):
            if not self._decision.done():
                self._decision.set_result(is_stored)
        elif self._decision is None:
            self._decision = is_stored

    # what the dispatcher does

    def ended(self, result: Result | None) -> None:
        """Say that the attempt is over, once."""
        if not self._is_over:
            self.result, self._is_over = result, True
            self._wake()

    async def is_stored(self) -> bool:
        """Whether the message is in the queue, as soon as that is decided."""
        if self._decision is None:
            if self.final_outcome is not None and not self.is_being_stored:
                return False
            self._decision = asyncio.get_running_loop().create_future()
        return self._decision if isinstance(self._decision, bool) else await self._decision

    def hurry(self) -> None:
        """End the wait of the session now."""
        self._hurried = True
        self._wake()


class ClientGone(Exception):
    """The client is gone before its message was handed on. It will come again."""
