"""One mail transaction over an open connection: MAIL, RCPT, DATA, and what each recipient's outcome is.

The message leaves as it is. Lines are stuffed block by block (RFC 5321 section 4.5.2) and nothing else happens to them:
no conversion to seven bits where the server does not offer 8BITMIME, which would break every signature that covers the body.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import structlog

from relay.address import normal_domain, split
from relay.config import Delivery
from relay.deliver.reply import CLOSING, Outcome, Phase, classify, deferral, failure, is_negative, silence
from relay.deliver.smtp import Connection, HostFailed, NoReply, Reply
from relay.message import Recipient

BLOCK = 65536  # octets written at a time: what a socket takes at once, and a stall that nobody notices

# An address that stays inside its angle brackets: a quoted local part or one without specials, and no control characters.
_SAFE = re.compile(r'(?:"(?:[^"\\\x00-\x1f\x7f]|\\[^\x00-\x1f\x7f])*"|[^\s<>"\x00-\x1f\x7f]+)(?:@[^\s<>"\x00-\x1f\x7f]+)?')
_CONTROL = re.compile(rb"[\x00-\x1f\x7f]")
_GO_AHEAD = 354

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Job:
    """What is to be handed to one next hop.

    Attributes:
        sender: empty for the null sender.
        size: octets of the whole content, or a close upper estimate (RFC 1870).
        needs_smtputf8: whether a header field needs RFC 6531; the addresses are looked at here.
        ret, envid: DSN parameters (RFC 3461), passed on where the server offers DSN.
        content: called after a recipient was accepted and before DATA; every line ends in CRLF. If it raises, the
            recipients are deferred.
    """

    sender: str
    recipients: tuple[Recipient, ...]
    size: int
    is_8bit: bool
    needs_smtputf8: bool
    ret: str
    envid: str
    content: Callable[[], Iterable[bytes]]


def stuffed(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """The content as it goes over the wire, final dot included, in blocks of about `BLOCK` octets.

    A dot at the start of a line is doubled; a line starts after CRLF only, and at the beginning. A content that does not
    end in CRLF gets one.
    """
    held = b"\r\n"  # a line end whose next octet is not known yet; this one stands for the beginning and is not sent
    unsent = 2
    for block in _blocks(chunks):
        block = held + block
        held = b"\r\n" if block.endswith(b"\r\n") else b"\r" if block.endswith(b"\r") else b""
        yield block[: len(block) - len(held)].replace(b"\r\n.", b"\r\n..")[unsent:]
        unsent = 0
    yield ((held if held == b"\r\n" else held + b"\r\n") + b".\r\n")[unsent:]


def _blocks(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """The chunks joined and cut to blocks, so that a small message goes out in one write."""
    pending = b""
    for chunk in chunks:
        pending = pending + chunk if pending else chunk
        start = 0
        while len(pending) - start > BLOCK:
            yield pending[start : start + BLOCK]
            start += BLOCK
        pending = pending[start:]
    if pending:
        yield pending


async def transact(connection: Connection, job: Job, timeouts: Delivery) -> tuple[Outcome, ...]:
    """Deliver the message; one outcome for each recipient, in their order.

    Raises:
        HostFailed: 421, or no usable reply before the final dot was sent; `settled` holds what is certain already.
    """
    return await _Transaction(connection, job, timeouts).run(with_data=True)


async def probe(connection: Connection, job: Job, timeouts: Delivery) -> tuple[Outcome, ...]:
    """Ask whether the recipients would be accepted, without sending anything (`delivered` means yes).

    Raises:
        HostFailed: as `transact`.
    """
    return await _Transaction(connection, job, timeouts).run(with_data=False)


class _Transaction:
    def __init__(self, connection: Connection, job: Job, timeouts: Delivery) -> None:
        self._connection = connection
        self._job = job
        self._timeouts = timeouts
        self._outcomes: list[Outcome | None] = [None] * len(job.recipients)

    async def run(self, *, with_data: bool) -> tuple[Outcome, ...]:
        try:
            self._rule_out()
            accepted = await self._envelope()
            if accepted and with_data:
                await self._data(accepted)
        except HostFailed as failed:
            failed.settled = tuple(self._outcomes)
            raise
        return tuple(outcome for outcome in self._outcomes if outcome is not None)

    def _settle(self, recipients: Iterable[int], outcome: Outcome) -> None:
        outcome = self._connection.stamp(outcome)
        for index in recipients:
            self._outcomes[index] = outcome

    def _failed(self, phase: Phase, outcome: Outcome) -> HostFailed:
        return HostFailed(phase, self._connection.stamp(outcome))

    @property
    def _open(self) -> list[int]:
        return [index for index, outcome in enumerate(self._outcomes) if outcome is None]

    def _rule_out(self) -> None:
        """Refuse what the EHLO reply rules out, and addresses that cannot be written on a command line."""
        job, connection = self._job, self._connection
        limit = connection.limit()
        if 0 < limit < job.size:
            self._settle(self._open, failure(552, "5.3.4", f"{job.size} octets, the server takes {limit}"))
        if job.sender and not _SAFE.fullmatch(job.sender):
            self._settle(self._open, failure(553, "5.1.7", "the sender address is malformed"))
        for index in self._open:
            if not _SAFE.fullmatch(job.recipients[index].address):
                self._settle([index], failure(553, "5.1.3", "the recipient address is malformed"))
        if connection.offers("smtputf8"):
            return
        if not split(job.sender).local.isascii():
            self._settle(self._open, failure(553, "5.6.7", "the sender address needs SMTPUTF8, not offered"))
        for index in self._open:
            if not split(job.recipients[index].address).local.isascii():
                self._settle([index], failure(553, "5.6.7", "the address needs SMTPUTF8, not offered"))
        if job.needs_smtputf8:
            self._settle(self._open, failure(554, "5.6.9", "a header field needs SMTPUTF8, not offered"))

    async def _envelope(self) -> list[int]:
        """MAIL and RCPT; the recipients that were accepted, their acceptance noted as outcome until DATA says more."""
        wanted = self._open
        if not wanted:
            return []
        connection = self._connection
        begin = [b"RSET"] if connection.in_transaction else []
        lines = [*begin, *_envelope_lines(connection, self._job, wanted)]
        connection.in_transaction = True
        connection.used += 1
        replies: list[Reply] = []
        for group in [lines] if connection.offers("pipelining") else [[line] for line in lines]:
            try:
                await connection.exchange(group, replies, self._timeouts.command_timeout)
            except NoReply as problem:
                phase: Phase = "mail" if len(replies) <= len(begin) else "rcpt"
                self._note_recipients(wanted, replies[len(begin) + 1 :])
                raise self._failed(phase, silence(phase, problem.kind)) from problem
            if replies[-1].code == CLOSING or (len(replies) <= len(begin) + 1 and is_negative(replies[-1].code)):
                break
        for reply in replies[: len(begin) + 1]:
            if reply.code == CLOSING:
                raise self._failed("mail", classify("mail", reply.code, reply.message))
            if is_negative(reply.code):
                self._settle(wanted, classify("mail", reply.code, reply.message))
                return []
            if reply.code >= 300:
                raise self._failed("mail", silence("mail", "garbage"))
        return self._note_recipients(wanted, replies[len(begin) + 1 :])

    def _note_recipients(self, wanted: Sequence[int], replies: Sequence[Reply]) -> list[int]:
        accepted = []
        for index, reply in zip(wanted, replies, strict=False):
            outcome = classify("rcpt", reply.code, reply.message)
            if reply.code == CLOSING or 300 <= reply.code < 400:
        return accepted
