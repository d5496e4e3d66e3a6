"""Delivery in the session: a message is offered to its next hop while the client waits for the reply to its final dot.

Where the next hop takes the message, or refuses it for good, it is never stored, and no bounce is ever written. In
every other case it is stored before the client hears 250, and the attempt under way goes on as if it had been leased
from the queue. So a crash loses nothing that was acknowledged, and a message is delivered twice only where the final
reply of the next hop, or ours, is lost.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from relay.deliver.attempts import Attempt, Batch
from relay.deliver.settlement import Result
from relay.mail.outcome import Outcome

PATIENCE = 20.0  # seconds that the sender waits: a busy server takes a few, a client gives us minutes
LATELY = 600.0  # seconds since the last answer of a next hop that is asked in the session
_GONE = "the client has closed the connection"


def _future() -> asyncio.Future[Any]:
    return asyncio.get_running_loop().create_future()


@dataclass(eq=False, slots=True)
class Offer:
    """One message that its next hop is offered in the session, by the dispatcher that attempts it.

    Attributes:
        attempt: has one batch with one delivery, whose lease this worker holds once it is stored.
        result: what came of it, as soon as that is known; None where it was not tried for want of room. Cancelled where
            the attempt was cut, because the relay stops.
        stored: whether the message is in the queue: then the outcome is recorded there. The session decides it, in
            every case.
    """

    attempt: Attempt
    result: asyncio.Future[Result | None] = field(default_factory=_future)
    stored: asyncio.Future[bool] = field(default_factory=_future)
    _hurried: asyncio.Future[None] = field(default_factory=_future)

    @property
    def batch(self) -> Batch:
        """The one batch, with the one delivery."""
        return self.attempt.batches[0]

    async def outcome(self, gone: Callable[[], Awaitable[None]], patience: float = PATIENCE) -> Outcome | None:
        """The outcome that ends the wait of the session: delivered, or failed for good. None where the message has to
        be stored: it was deferred, or is still under way when the patience ends, or the relay stops.

        Args:
            gone: waits until the client is gone.

        Raises:
            ClientGone: the client is gone, and the attempt was given up before its final dot.
        """
        loop = asyncio.get_running_loop()
        ends = loop.time() + patience
        leaving = asyncio.ensure_future(gone())
        try:
            await self._wait(patience, leaving)
        finally:
            leaving.cancel()
        if not self.result.done() and leaving.done() and not leaving.cancelled():
            if self.give_up(_GONE):
                await asyncio.wait([self.result])
                if self._final_outcome() is None:
                    raise ClientGone
            else:
                await self._wait(max(0.0, ends - loop.time()))
        return self._final_outcome()

    async def _wait(self, patience: float, *others: asyncio.Future[None]) -> None:
        either: list[asyncio.Future[Any]] = [self.result, self._hurried, *others]
        await asyncio.wait(either, timeout=patience, return_when=asyncio.FIRST_COMPLETED)

    async def abandon(self, why: str) -> Outcome | None:
        """Give the attempt up because the message cannot be stored. Returns the outcome where the next hop has the
        message all the same, or has refused it for good: the final dot was out already."""
        self.give_up(why)
        await asyncio.wait([self.result])
        return self._final_outcome()

    def _final_outcome(self) -> Outcome | None:
        if not self.result.done() or self.result.cancelled():
            return None
        result = self.result.result()
        return None if result is None or result.outcome.status == "deferred" else result.outcome

    def hurry(self) -> None:
        """End the wait of the session now."""
        if not self._hurried.done():
            self._hurried.set_result(None)

    def drop(self) -> None:
        """Say that the message is not in the queue: nothing is recorded there."""
        if not self.stored.done():
            self.stored.set_result(False)

    def give_up(self, why: str) -> bool:
        """End the attempt, unless its final dot is out. Returns whether it was ended."""
        return self.batch.bound.withdraw(why)


class ClientGone(Exception):
    """The client is gone before its message was handed on. It will come again."""
