"""How a message leaves: the one place that fixes the order in which it gets what stands on top of it.

Trace fields were made when it came. From is rewritten first, where it has to be; then it is signed as it now is; the
ARC seal goes over all of that. All of it is made once for each variant of a message that is attempted.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial

from relay.authenticate.results_field import without_comments
from relay.authenticate.trusted_results import find_trusted_results
from relay.config.model import Config
from relay.mail.address import domain_of
from relay.mail.message import Message
from relay.mail.off_loop import aside, read_header
from relay.queue.store import Delivery, StoredMessage
from relay.rewrite.from_field import author_addresses, with_rewritten_from
from relay.sign import arc_seal as arc
from relay.sign.signer import Signer
from relay.srs.address import Scheme
from relay.srs.reply_address import UNKNOWN, Keep, reply_addresses


@dataclass(slots=True)
class Leaving:
    """One variant of a message.

    Attributes:
        message: as it leaves, below what we put on top.
        octets: its size on the wire, estimated upwards (RFC 1870).
    """

    message: Message
    octets: int
    _trace: bytes
    _make: Callable[[Message], bytes]
    _turn: asyncio.Lock
    _signatures: bytes | None = field(default=None)

    async def on_top(self) -> bytes:
        """The fields that we add; signatures are made when this is first awaited."""
        if self._signatures is None:
            async with self._turn:
                if self._signatures is None:
                    self._signatures = await aside(self.message, partial(self._make, self.message))
                await asyncio.sleep(0)
        return self._signatures + self._trace

    def let_go(self) -> None:
        """Free the memory of the message, which was sent."""
        self.message, self._make = Message(b""), _nothing

    async def wire(self) -> Iterator[bytes]:
        """The octets that leave."""
        return self.message.wire(await self.on_top())


def _nothing(_: Message) -> bytes:
    return b""


class Departures:
    """Makes the variants, for one worker.

    Args:
        keep: stores the authors who do not fit into a reply address.
        clock: seconds since 1970.
    """

    def __init__(
        self,
        config: Config,
        signer: Signer,
        scheme: Scheme,
        keep: Keep,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._config = config
        self._signer = signer
        self._scheme = scheme
        self._keep = keep
        self._clock = clock
        self._turn = asyncio.Lock()  # RSA takes its time: of many messages that are ready at once, one signs in a turn

    def rewrites(self, stored: StoredMessage, one: Delivery) -> bool:
        """Whether From is rewritten on this way: DMARC would fail behind us, and the route has nothing against it."""
        return bool(stored.verdict.get("unforwardable")) and (
            self._config.unforwardable(domain_of(one.recipient)) == "rewrite-from"
        )

    async def prepare(self, stored: StoredMessage, *, rewrite_from: bool) -> Leaving:
        """One variant of a message. Raises QueueUnavailable."""
        message = stored.message
        await read_header(message)
        if rewrite_from:
            addresses = await self._addresses(stored, author_addresses(message))
            message = await aside(message, partial(with_rewritten_from, message, addresses, self._config.srs.domain))
            await read_header(message)
        testimony = self._testimony(stored)
        octets = await aside(message, partial(self._octets, stored, testimony, message))
        return Leaving(message, octets, stored.trace, partial(self._signatures, stored, testimony), self._turn)

    def _octets(self, stored: StoredMessage, testimony: bytes, message: Message) -> int:
        now = self._clock()
        signatures, octets = self._signer.octets(message, now, ours=stored.is_ours)
        key = self._signer.sealing_key(now)
        if testimony and key is not None:
            octets += arc.octets(message, signatures, key) + 2 * len(testimony)  # folded, at worst at every other octet
        return octets + len(message.content) + len(stored.trace)

    async def _addresses(self, stored: StoredMessage, found: Sequence[str]) -> dict[str, str]:
        """The addresses of ours for authors. Who is not of the domain that was proven gets none that leads anywhere."""
        nobody = f"{UNKNOWN}@{self._config.srs.domain}"
        proven = [author for author in found if domain_of(author) in stored.verdict.get("authors", ())]
        return dict.fromkeys(found, nobody) | await reply_addresses(proven, self._scheme, self._keep)

    def _signatures(self, stored: StoredMessage, testimony: bytes, message: Message) -> bytes:
        now = self._clock()
        proven = bool(stored.verdict.get("trusted") or stored.verdict.get("authors"))
        signatures = self._signer.fields(message, now, proven=proven, ours=stored.is_ours)
        key = self._signer.sealing_key(now)
        if not testimony or key is None:
            return signatures
        chain = stored.verdict["seal"]
        seal = arc.seal(message, signatures, testimony, chain["cv"], chain["instance"], key, int(now))
        return seal + signatures

    def _testimony(self, stored: StoredMessage) -> bytes:
        """The value of Authentication-Results that a seal repeats: ours, or that of a trusted client's MTA; nothing
        where the message is not to be sealed."""
        if not self._config.arc.seal or not stored.verdict.get("seal"):
            return b""
        values = [found.value for found in Message(stored.trace).all("authentication-results")]
        if not values and (word := find_trusted_results(stored.message, self._config.clients.authserv_ids)) is not None:
            values = [word.value]
        if not values:
            return b""
        return values[0] if self._config.arc.comments else without_comments(values[0])
