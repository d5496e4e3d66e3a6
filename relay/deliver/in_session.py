"""Delivery in the session: a message is offered to its next hop while the client waits for the reply to its final dot.

Where the next hop takes the message, or refuses it for good, it is never stored, and no bounce is ever written. In
every other case it is stored before the client hears 250, and the attempt under way goes on as if it had been leased
from the queue. So a crash loses nothing that was acknowledged, and a message is delivered twice only where the final
reply of the next hop, or ours, is lost.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from relay.deliver.attempts import Attempt
from relay.deliver.settlement import Result
from relay.mail.outcome import Outcome
from relay.queue.store import Delivery

PATIENCE = 20.0  # seconds that the sender waits: a busy server takes a few, a client gives us minutes
LATELY = 600.0  # seconds since the last answer of a next hop that is asked in the session
MEMORY_SHARE = 2  # of the memory for messages at most one part in so many is used while mail is offered
_GONE = "the client has closed the connection"


@dataclass(eq=False, slots=True)
class Offer:
    """One message that its next hop is offered in the session, by the dispatcher that attempts it.

    Attributes:
        attempt: has one batch with one delivery, whose lease this worker holds once it is stored.
        result: what came of it, as soon as that is known.
        stored: whether the message is in the queue: then the outcome is recorded there. The session decides it, in
            every case.
    """

    attempt: Attempt
    result: asyncio.Future[Result] = field(default_factory=lambda: asyncio.get_running_loop().create_future())
    stored: asyncio.Future[bool] = field(default_factory=lambda: asyncio.get_running_loop().create_future())

    @property
    def deliveries(self) -> Sequence[Delivery]:
        """The one delivery, as it is stored."""
        return self.attempt.batches[0].deliveries

    async def outcome(self, gone: Callable[[], Awaitable[None]], patience: float = PATIENCE) -> Outcome | None:
        """The outcome that ends the wait of the session: delivered, or failed for good. None where the message has to
        be stored: it was deferred, or is still under way when the patience ends.

        Args:
            gone: waits until the client is gone.

        Raises:
            ClientGone: the client is gone, and the attempt was given up before its final dot.
        """
        loop = asyncio.get_running_loop()
        ends = loop.time() + patience
        leaving = asyncio.ensure_future(gone())
        either: list[asyncio.Future[Any]] = [self.result, leaving]
        try:
            await asyncio.wait(either, timeout=patience, return_when=asyncio.FIRST_COMPLETED)
        finally:
            leaving.cancel()
        if not self.result.done() and leaving.done() and not leaving.cancelled():
            if self.give_up(_GONE):
                await asyncio.wait([self.result])
                if self._final_outcome() is None:
                    raise ClientGone
            else:
                await asyncio.wait([self.result], timeout=max(0.0, ends - loop.time()))
        return self._final_outcome()

    async def abandon(self, why: str) -> Outcome | None:
        """Give the attempt up because the message cannot be stored. Returns the outcome where the next hop has the
        message all the same, or has refused it for good: the final dot was out already."""
        self.give_up(why)
        await asyncio.wait([self.result])
        return self._final_outcome()

    def _final_outcome(self) -> Outcome | None:
        if not self.result.done():
            return None
        outcome = self.result.result().outcome
        return None if outcome.status == "deferred" else outcome

    def drop(self) -> None:
        """Say that the message is not in the queue: nothing is recorded there."""
        if not self.stored.done():
            self.stored.set_result(False)

    def give_up(self, why: str) -> bool:
        """End the attempt, unless its final dot is out. Returns whether it was ended."""
        (batch,) = self.attempt.batches
        if batch.bound.final:
            return False
        self.attempt.withdrawn = True
        batch.bound.end(why)
        return True


class ClientGone(Exception):
    """The client is gone before its message was handed on. It will come again."""
