"""One mail transaction over an open connection: MAIL, RCPT, DATA, and what each recipient's outcome is.

The message leaves as it is. Lines are stuffed block by block (RFC 5321 section 4.5.2) and nothing else happens to
them: no conversion to seven bits where the server does not offer 8BITMIME, which would break every signature that
covers the body.
"""

from __future__ import annotations

import asyncio
import dataclasses
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass

import structlog

from relay.address import normal_domain, split
from relay.config import Delivery
from relay.deliver.reply import CLOSING, Outcome, Phase, classify, deferral, failure, is_negative, silence
from relay.deliver.smtp import Connection, HostFailed, NoReply, Reply
from relay.message import Recipient

BLOCK = 65536  # octets written at a time: what a socket takes at once, and a stall that nobody notices

# An address that stays inside its angle brackets: a quoted local part or one without specials, no control characters.
_SAFE = re.compile(
    r"""(?:"(?:[^"\\\x00-\x1f\x7f\ud800-\udfff]|\\[^\x00-\x1f\x7f\ud800-\udfff])*"|[^\s<>"\x00-\x1f\x7f\ud800-\udfff]+)"""
    r"""(?:@[^\s<>"\x00-\x1f\x7f\ud800-\udfff]+)?"""
)
_PARAMETER = re.compile(r"[!-~]+")  # RFC 3461 section 4: xtext and the words of NOTIFY and RET

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
    """The content as it goes over the wire, in blocks of about `BLOCK` octets, the final dot within the last one.

    A dot at the start of a line is doubled; a line starts after CRLF only, and at the beginning. A content that does
    not end in CRLF gets one.
    """
    held = b"\r\n"  # a line end whose next octet is not known yet; this one stands for the beginning and is not sent
    unsent = 2
    ready = b""
    for block in _blocks(chunks):
        if ready:
            yield ready
        block = held + block
        held = b"\r\n" if block.endswith(b"\r\n") else b"\r" if block.endswith(b"\r") else b""
        ready = block[: len(block) - len(held)].replace(b"\r\n.", b"\r\n..")[unsent:]
        unsent = 0
    end = held if held == b"\r\n" else held + b"\r\n"
    yield ready + end[unsent:] + b".\r\n"


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
    """Ask whether the recipients would be accepted (`delivered` means yes), without sending anything.

    Raises:
        HostFailed: as `transact`.
    """
    return await _Transaction(connection, job, timeouts).run(with_data=False)


class _Transaction:
    """One transaction: `_phase` is what the server was last asked, `_outcomes` what it has answered for good."""

    def __init__(self, connection: Connection, job: Job, timeouts: Delivery) -> None:
        self._connection = connection
        self._job = job
        self._timeouts = timeouts
        self._phase: Phase = "mail"
        self._outcomes: list[Outcome | None] = [None] * len(job.recipients)

    async def run(self, *, with_data: bool) -> tuple[Outcome, ...]:
        try:
            self._rule_out()
            accepted = await self._envelope(with_data)
            if with_data and accepted:
                await self._data(accepted)
            else:
                for index, reply in accepted.items():
                    self._settle([index], classify("rcpt", reply.code, reply.message))
        except NoReply as problem:
            if self._phase != "message":
                raise self._failed(silence(self._phase, problem.kind)) from problem
            # The final dot was sent: another host would deliver twice, so only time can tell.
            self._settle(self._unsettled(), silence("message", problem.kind))
            self._connection.abort()
        return tuple(outcome for outcome in self._outcomes if outcome is not None)

    def _unsettled(self) -> list[int]:
        return [index for index, outcome in enumerate(self._outcomes) if outcome is None]

    def _settle(self, recipients: Iterable[int], outcome: Outcome) -> None:
        outcome = self._connection.stamp(outcome)
        for index in recipients:
            self._outcomes[index] = outcome

    def _failed(self, outcome: Outcome) -> HostFailed:
        return HostFailed(self._phase, self._connection.stamp(outcome), self._outcomes)

    def _refusal(self, reply: Reply, awaited: int = 2) -> Outcome | None:
        """The outcome of a 4xx or 5xx reply; None for the awaited one, named by its first digit.

        Raises:
            HostFailed: 421.
            NoReply: a positive reply that this command never gets.
        """
        if reply.code == CLOSING:
            raise self._failed(classify(self._phase, reply.code, reply.message))
        if is_negative(reply.code):
            return classify(self._phase, reply.code, reply.message)
        if reply.code // 100 != awaited:
            raise NoReply("garbage")
        return None

    def _rule_out(self) -> None:
        """Settle what the EHLO reply rules out, and addresses that cannot be written on a command line."""
        job = self._job
        limit = self._connection.size_limit()
        if 0 < limit < job.size:
            self._settle(self._unsettled(), failure(552, "5.3.4", f"{job.size} octets, the server takes {limit}"))
        utf8 = self._connection.offers("smtputf8")
        if job.sender and not _SAFE.fullmatch(job.sender):
            self._settle(self._unsettled(), failure(553, "5.1.7", "the sender address is malformed"))
        elif not utf8 and not _ascii_form(job.sender).isascii():
            self._settle(self._unsettled(), failure(553, "5.6.7", "the sender address needs SMTPUTF8, not offered"))
        for index in self._unsettled():
            address = job.recipients[index].address
            if not _SAFE.fullmatch(address):
                self._settle([index], failure(553, "5.1.3", "the recipient address is malformed"))
            elif not utf8 and not _ascii_form(address).isascii():
                self._settle([index], failure(553, "5.6.7", "the recipient address needs SMTPUTF8, not offered"))
        if job.needs_smtputf8 and not utf8:
            self._settle(self._unsettled(), failure(554, "5.6.9", "a header field needs SMTPUTF8, not offered"))

    async def _envelope(self, with_data: bool) -> dict[int, Reply]:
        """RSET where it is due, MAIL and RCPT; the recipients that were accepted, with the reply to each."""
        wanted = self._unsettled()
        if not wanted:
            return {}
        connection = self._connection
        opening = [*([b"RSET"] if connection.in_transaction else []), self._mail(wanted)]
        lines = [*opening, *(self._rcpt(index) for index in wanted)]
        connection.in_transaction = True
        connection.used += 1
        replies: list[Reply] = []
        silent: NoReply | None = None
        try:
            for group in [lines] if connection.offers("pipelining") else [[line] for line in lines]:  # RFC 2920
                await connection.exchange(group, replies, self._timeouts.command_timeout)
                code = replies[-1].code
                if code == CLOSING or (is_negative(code) and len(replies) <= len(opening)):
                    break
        except NoReply as problem:
            silent = problem
        for line, reply in zip(opening, replies, strict=False):
            refusal = self._refusal(reply)
            if refusal is not None and line == b"RSET":
                raise NoReply("garbage")
            if refusal is not None:
                # A server that refuses the sender of a probe has said nothing of the users it was asked about.
                self._settle(wanted, refusal if with_data else dataclasses.replace(refusal, status="deferred"))
                return {}
        accepted = {}
        for index, reply in zip(wanted, replies[len(opening) :], strict=False):
            self._phase = "rcpt"
            refusal = self._refusal(reply)
            if refusal is None:
                accepted[index] = reply
            else:
                self._settle([index], refusal)
        if silent is not None:
            self._phase = "mail" if len(replies) < len(opening) else "rcpt"
            raise silent
        return accepted

    def _mail(self, wanted: Sequence[int]) -> bytes:
        job, offers = self._job, self._connection.offers
        addresses = [job.sender, *(job.recipients[index].address for index in wanted)]
        self._utf8 = job.needs_smtputf8 or not all(_ascii_form(address).isascii() for address in addresses)
        line = [b"MAIL FROM:" + self._path(job.sender)]
        if job.size and offers("size"):
            line.append(b"SIZE=%d" % job.size)
        if job.is_8bit and offers("8bitmime"):
            line.append(b"BODY=8BITMIME")
        if self._utf8:
            line.append(b"SMTPUTF8")
        return b" ".join(line + self._dsn(RET=job.ret, ENVID=job.envid))

    def _rcpt(self, index: int) -> bytes:
        recipient = self._job.recipients[index]
        parameters = self._dsn(NOTIFY=recipient.notify, ORCPT=recipient.orcpt)
        return b" ".join([b"RCPT TO:" + self._path(recipient.address), *parameters])

    def _path(self, address: str) -> bytes:
        return b"<%b>" % (address if self._utf8 else _ascii_form(address)).encode()

    def _dsn(self, **parameters: str) -> list[bytes]:
        """What of RFC 3461 was asked for, the server knows, and can stand on a command line."""
        if not self._connection.offers("dsn"):
            return []
        return [f"{name}={value}".encode() for name, value in parameters.items() if _PARAMETER.fullmatch(value)]

    async def _data(self, accepted: Collection[int]) -> None:
        """DATA, the content, and the server's verdict on it."""
        connection, timeouts = self._connection, self._timeouts
        try:
            blocks = stuffed(self._job.content())
            block = next(blocks)
        except Exception:
            _log.exception("message not built")
            self._settle(accepted, deferral("4.3.0", "the message could not be built"))
            return
        self._phase = "data"
        replies: list[Reply] = []
        await connection.exchange([b"DATA"], replies, timeouts.data_timeout)
        refusal = self._refusal(replies[0], awaited=3)
        if refusal is not None:
            self._settle(accepted, refusal)
            return
        try:
            for following in blocks:
                await connection.write(block, timeouts.data_timeout)
                await asyncio.sleep(0)  # other sessions get their turn between the blocks of a large message
                block = following
        except NoReply:
            await self._parting_reply(accepted)
            return
        except Exception:
            _log.exception("message not built")
            self._settle(accepted, deferral("4.3.0", "the message could not be built"))
            connection.abort()  # without the final dot the server must discard what it has
            return
        self._phase = "message"
        await connection.write(block, timeouts.data_timeout)
        for recipients in [[index] for index in accepted] if connection.lmtp else [accepted]:
            reply = await connection.reply(timeouts.final_timeout)
            self._settle(recipients, self._refusal(reply) or classify("message", reply.code, reply.message))
        connection.in_transaction = False

    async def _parting_reply(self, accepted: Collection[int]) -> None:
        """A server that hung up in the middle of DATA may have said why.

        Raises:
            NoReply: it has not.
            HostFailed: 421.
        """
        refusal = self._refusal(await self._connection.reply(timeout=0), awaited=0)
        if refusal is not None:
            self._settle(accepted, refusal)
            self._connection.abort()


def _ascii_form(address: str) -> str:
    """The address with its domain in A-labels (RFC 5890); still not ASCII where only SMTPUTF8 can carry it."""
    if address.isascii():
        return address
    mailbox = split(address)
    return f"{mailbox.local}@{normal_domain(mailbox.domain)}"
