"""Makes messages as they leave: with From rewritten where that is needed, then signed, then sealed.

The order is fixed here. The trace fields were made when the message was accepted. Signatures and seal are made once for
each form of a message, with From as it came and with From rewritten.
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
from relay.mail.off_loop import read_header, run_off_loop
from relay.queue.store import Delivery, StoredMessage
from relay.queue.stored_verdict import NextSeal
from relay.rewrite.from_decision import FromDecisions
from relay.rewrite.from_field import author_addresses, with_rewritten_from
from relay.sign import arc_seal as arc
from relay.sign.signer import Signatures, Signer, Unsigned
from relay.srs.address import Scheme
from relay.srs.reply_address import UNKNOWN, Keep, reply_addresses


@dataclass(slots=True)
class OutgoingMessage:
    """A message as it leaves.

    Attributes:
        message: the message below the fields that we add.
        octets: its size on the wire, at most (RFC 1870).
        signed_by: the keys that signed it, as `domain:selector`; empty as long as it is not signed.
    """

    message: Message
    octets: int
    _trace: bytes
    _make: Callable[[], Signatures]
    _turn: asyncio.Lock
    _signatures: bytes | None = field(default=None)
    signed_by: tuple[str, ...] = ()

    async def on_top(self) -> bytes:
        """The fields that we add on top. Signatures are made when this is first awaited."""
        if self._signatures is None:
            await self._turn.acquire()
            try:
                if self._signatures is None:
                    made = await run_off_loop(self.message, self._make)
                    self._signatures, self._make = made.fields, _nothing
                    self.signed_by = tuple([f"{key.domain}:{key.selector}" for key in made.keys])
            finally:  # the next message signs in the next turn of the loop, while this one is sent
                asyncio.get_running_loop().call_soon(self._turn.release)
        return self._signatures + self._trace

    def free(self) -> None:
        """Free the memory of the message, which was sent."""
        self.message, self._make = Message(b""), _nothing

    async def wire(self) -> Iterator[bytes]:
        """The octets that leave."""
        return self.message.wire(await self.on_top())


def _nothing() -> Signatures:
    return Signatures()


class OutgoingMessages:
    """Makes the outgoing messages of one worker.

    Args:
        keep: stores the authors who do not fit into a reply address.
        clock: seconds since 1970.
    """

    def __init__(
        self,
        config: Config,
        from_decisions: FromDecisions,
        signer: Signer,
        scheme: Scheme,
        keep: Keep,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._config = config
        self._from_decisions = from_decisions
        self._signer = signer
        self._scheme = scheme
        self._keep = keep
        self._clock = clock
        self._turn = asyncio.Lock()  # RSA takes its time: one message signs in each turn of the event loop

    def rewrites_from(self, stored: StoredMessage, delivery: Delivery) -> bool:
        """Whether the message leaves with From rewritten on the way of a delivery."""
        return self._from_decisions.rewrites(stored.verdict, delivery.recipient)

    async def prepare(self, stored: StoredMessage, *, rewrite_from: bool) -> OutgoingMessage:
        """A message as it leaves.

        Raises:
            QueueUnavailable: an author cannot be stored now.
        """
        message = stored.message
        if not rewrite_from:
            return await run_off_loop(message, partial(self._outgoing, stored, message))
        await read_header(message)
        addresses = await self._reply_addresses(stored, author_addresses(message))

        def rewritten() -> OutgoingMessage:
            return self._outgoing(stored, with_rewritten_from(message, addresses, self._config.srs.domain))

        return await run_off_loop(message, rewritten)

    def _outgoing(self, stored: StoredMessage, message: Message) -> OutgoingMessage:
        """The outgoing message for one with the final From."""
        verdict = stored.verdict
        unsigned = self._signer.unsigned(message, proven=verdict.author_proven, ours=verdict.own)
        testimony = (
            b"" if unsigned.covered is None else self._testimony(stored, rewritten=message is not stored.message)
        )
        now = self._clock()
        signatures, octets = self._signer.estimate(unsigned, now)
        key = self._signer.sealing_key(now) if testimony else None
        if key is not None and unsigned.covered is not None:
            # The results are folded, at worst at every other octet.
            octets += arc.seal_octets(message, unsigned.covered, signatures, key) + 2 * len(testimony)
        octets += len(message.content) + len(stored.trace)
        make = partial(self._signatures, unsigned, testimony, verdict.seal)
        return OutgoingMessage(message, octets, stored.trace, make, self._turn)

    async def _reply_addresses(self, stored: StoredMessage, addresses: Sequence[str]) -> dict[str, str]:
        """The reply address of each author. An author whose domain is not proven gets one at which nobody is
        reached."""
        nobody = f"{UNKNOWN}@{self._config.srs.domain}"
        proven = [author for author in addresses if domain_of(author) in stored.verdict.authors]
        return dict.fromkeys(addresses, nobody) | await reply_addresses(proven, self._scheme, self._keep)

    def _signatures(self, unsigned: Unsigned, testimony: bytes, next_seal: NextSeal | None) -> Signatures:
        """The DKIM signatures, below the ARC set where there is one."""
        now = self._clock()
        signatures = self._signer.signatures(unsigned, now)
        key = self._signer.sealing_key(now) if testimony else None
        if key is None or next_seal is None or unsigned.covered is None:
            return signatures
        seal = arc.seal(
            unsigned.message,
            signatures.fields,
            testimony,
            next_seal.cv,
            next_seal.instance,
            key,
            int(now),
            unsigned.covered,
        )
        return Signatures(seal + signatures.fields, signatures.keys)

    def _testimony(self, stored: StoredMessage, *, rewritten: bool) -> bytes:
        """The Authentication-Results that a seal repeats: ours, or that of a trusted client's MTA; empty where the
        message is not to be sealed.

        Args:
            rewritten: From is, which breaks the signatures that the message came with.
        """
        wanted, next_seal = self._config.arc.seal, stored.verdict.seal
        if not wanted or next_seal is None or (wanted == "useful" and not (next_seal.useful or rewritten)):
            return b""
        values = [field.value for field in Message(stored.trace).all("authentication-results")]
        trusted_results = (
            find_trusted_results(stored.message, self._config.clients.authserv_ids) if not values else None
        )
        if trusted_results is not None:
            values = [trusted_results.value]
        if not values:
            return b""
        return values[0] if self._config.arc.comments else without_comments(values[0])
