"""Stored senders for a command that looks and changes nothing."""

from __future__ import annotations

import secrets

from relay.queue.connect import connect
from relay.queue.store import Store


class StoredSenders:
    """Finds stored senders in the queue of the configuration, and stores none."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._tokens: dict[str, str] = {}

    async def sender_of(self, token: str, now: float) -> str | None:
        queue = await connect(self._url, create=False)
        try:
            return await Store(queue, "command").sender_of(token, now)
        finally:
            await queue.close()

    async def token_for(self, sender: str, now: float, lifetime: float) -> str:
        return self._tokens.setdefault(sender, secrets.token_hex(8))

    async def keep_author(self, author: str, token: str, now: float, lifetime: float) -> str:
        return token
