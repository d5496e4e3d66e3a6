"""One mail transaction over an open connection: MAIL, RCPT, DATA, and what each recipient's outcome is.

The message leaves as it is. Lines are stuffed block by block (RFC 5321 section 4.5.2) and nothing else happens to
them: no conversion to seven bits where the server does not offer 8BITMIME, which would break every signature that
covers the body.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import structlog

from relay.config.sections import DeliverySection
from relay.deliver.classify import CLOSING, Phase, classify, is_negative, refuses_session, silence
from relay.deliver.deadline import Bound
from relay.deliver.reply_parser import NoReply, ServerReply
from relay.deliver.smtp_connection import Connection, HostFailed
from relay.mail.address import normal_domain, split
from relay.mail.message import Recipient
from relay.mail.outcome import Outcome, deferral, failure, temporary

BLOCK = 65536  # octets written at a time: what a socket takes at once, and a stall that nobody notices

# An address that stays inside its angle brackets: a quoted local part or one without specials, no control characters.
_SAFE = re.compile(
    r"""(?:"(?:[^"\\\x00-\x1f\x7f\ud800-\udfff]|\\[^\x00-\x1f\x7f\ud800-\udfff])*"|[^\s<>"\x00-\x1f\x7f\ud800-\udfff]+)"""
    r"""(?:@[^\s<>"\x00-\x1f\x7f\ud800-\udfff]+)?"""
)
_PARAMETER = re.compile(r"[!-~]+")  # RFC 3461 section 4: xtext and the words of NOTIFY and RET

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Job:
    """What is to be handed to one next hop.

    Attributes:
        id: of the message, for the log.
        sender: empty for the null sender.
        size: octets of the whole content, or a close upper estimate (RFC 1870).
        needs_smtputf8: whether a header field needs RFC 6531; the addresses are looked at here.
        ret, envid: DSN parameters (RFC 3461), passed on where the server offers DSN.
        content: awaited after a recipient was accepted; every line ends in CRLF. If it raises, the recipients are
            deferred.
        bound: how long the attempt may take, and what may give it up.
    """

    sender: str
    recipients: tuple[Recipient, ...]
    size: int
    is_8bit: bool
    needs_smtputf8: bool
    ret: str
    envid: str
    content: Callable[[], Awaitable[Iterable[bytes]]]
    id: str = ""
    bound: Bound = field(default_factory=Bound)


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
    """The chunks joined and cut to blocks, so that a small message goes out in one write and a large one bit by bit."""
    pending = b""
    for chunk in chunks:
        start = 0
        while len(pending) + len(chunk) - start > BLOCK:
            end = start + BLOCK - len(pending)
            yield pending + chunk[start:end]
            pending, start = b"", end
        pending += chunk[start:]
    if pending:
        yield pending


async def transact(connection: Connection, job: Job, timeouts: DeliverySection) -> tuple[Outcome, ...]:
    """Deliver the message; one outcome for each recipient, in their order.

    Raises:
        HostFailed: 421, a refusal of our session, no usable reply before the final dot was sent, or the attempt was
            given up before that; `settled` holds what is certain already.
    """
    return await _Transaction(connection, job, timeouts, probing=False).run()


async def probe(connection: Connection, job: Job, timeouts: DeliverySection) -> tuple[Outcome, ...]:
    """Ask whether the recipients would be accepted (`delivered` means yes), without sending anything.

    `failed` is a refusal of RCPT and nothing else.

    Raises:
        HostFailed: as `transact`.
    """
    return await _Transaction(connection, job, timeouts, probing=True).run()


class _Transaction:
    """One transaction: `_phase` is what the server was last asked, `_outcomes` what it has answered for good, and
    `_elsewhere` holds the recipients that another host may take, with the reason why this one does not."""

    def __init__(self, connection: Connection, job: Job, timeouts: DeliverySection, *, probing: bool) -> None:
        self._connection = connection
        self._job = job
        self._timeouts = timeouts
        self._probing = probing
        self._pipelining = connection.offers("pipelining")
        self._phase: Phase = "mail"
        self._outcomes: list[Outcome | None] = [None] * len(job.recipients)
        self._elsewhere: dict[int, Outcome] = {}

    async def run(self) -> tuple[Outcome, ...]:
        try:
            self._rule_out()
            if wanted := self._unsettled():
                await self._converse(wanted)
        except asyncio.CancelledError as cancelled:
            if not self._job.bound.over or self._job.bound.final:
                raise
            self._connection.abort()
            raise self._failed(silence(self._phase, "timeout")) from cancelled
        except NoReply as problem:
            if self._phase != "message":
                raise self._failed(silence(self._phase, problem.kind)) from problem
            # The final dot was sent: another host would deliver twice, so only time can tell.
            self._settle(self._unsettled(), silence("message", problem.kind))
            self._connection.abort()
        if self._elsewhere:
            raise self._failed(next(iter(self._elsewhere.values())))
        return tuple(outcome for outcome in self._outcomes if outcome is not None)

    def _unsettled(self) -> list[int]:
        return [n for n, outcome in enumerate(self._outcomes) if outcome is None and n not in self._elsewhere]

    def _settle(self, recipients: Iterable[int], outcome: Outcome) -> None:
        if self._probing and self._phase != "rcpt":
            outcome = temporary(outcome)
        outcome = self._connection.stamp(outcome)
        for index in recipients:
            self._outcomes[index] = outcome

    def _failed(self, outcome: Outcome) -> HostFailed:
        return HostFailed(self._connection.stamp(outcome), self._outcomes)

    def _refusal(self, reply: ServerReply, awaited: int = 2) -> Outcome | None:
        """The outcome of a 4xx or 5xx reply; None for the awaited one, named by its first digit.

        Raises:
            HostFailed: 421, or another refusal of our session, where it is not for one recipient only, or of a content
                that was sent.
            NoReply: a positive reply that this command never gets.
        """
        if reply.code == CLOSING or (self._phase in ("mail", "data") and self._refuses_session(reply)):
            raise self._failed(self._classified(reply))
        if is_negative(reply.code):
            return self._classified(reply)
        if reply.code // 100 != awaited:
            raise NoReply("garbage")
        return None

    def _classified(self, reply: ServerReply) -> Outcome:
        return classify(self._phase, reply.code, reply.message, fallback=bool(self._connection.fallback))

    def _refuses_session(self, reply: ServerReply) -> bool:
        return refuses_session(self._phase, reply.code, reply.message, fallback=bool(self._connection.fallback))

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

    async def _converse(self, wanted: Sequence[int]) -> None:
        """MAIL, RCPT and DATA, all in one go where the server offers PIPELINING (RFC 2920 section 3.1)."""
        connection, job = self._connection, self._job
        addresses = [job.sender, *(job.recipients[index].address for index in wanted)]
        utf8 = job.needs_smtputf8 or not all(_ascii_form(address).isascii() for address in addresses)
        rset = [b"RSET"] if connection.in_transaction else []
        mail = self._mail(utf8)
        rcpt = [self._rcpt(job.recipients[index], utf8) for index in wanted]
        data = [] if self._probing else [b"DATA"]
        connection.in_transaction = True
        connection.used += 1
        if self._pipelining:
            connection.send(*rset, mail, *rcpt, *data)
        accepted = await self._envelope(rset, mail, dict(zip(wanted, rcpt, strict=True)))
        if self._probing:
            for index, reply in accepted.items():
                self._settle([index], classify("rcpt", reply.code, reply.message))
        elif accepted or self._pipelining:
            await self._data(accepted)

    async def _envelope(self, rset: Sequence[bytes], mail: bytes, rcpt: dict[int, bytes]) -> dict[int, ServerReply]:
        """The recipients that were accepted, with the reply to each."""
        for command in rset:
            if self._refusal(await self._answer(command)) is not None:
                raise NoReply("garbage")
        refusal = self._refusal(await self._answer(mail))
        if refusal is not None:
            self._settle(rcpt, refusal)
            if not self._pipelining:
                return {}
        self._phase = "rcpt"
        accepted = {}
        for index, command in rcpt.items():
            reply = await self._answer(command)
            refusal = self._refusal(reply)
            if self._outcomes[index] is not None:
                continue  # the sender was refused, and so was this then
            if refusal is None:
                accepted[index] = reply
            elif self._refuses_session(reply):
                self._elsewhere[index] = refusal
            else:
                self._settle([index], refusal)
        return accepted

    async def _answer(self, command: bytes) -> ServerReply:
        if not self._pipelining:
            self._connection.send(command)
        patience = self._timeouts.data_timeout if self._phase == "data" else self._timeouts.command_timeout
        return await self._connection.reply(patience)

    def _mail(self, utf8: bool) -> bytes:
        job, offers = self._job, self._connection.offers
        line = [b"MAIL FROM:" + _path(job.sender, utf8)]
        if job.size and offers("size"):
            line.append(b"SIZE=%d" % job.size)
        if job.is_8bit and offers("8bitmime"):
            line.append(b"BODY=8BITMIME")
        if utf8:
            line.append(b"SMTPUTF8")
        return b" ".join(line + self._dsn(RET=job.ret, ENVID=job.envid))

    def _rcpt(self, recipient: Recipient, utf8: bool) -> bytes:
        parameters = self._dsn(NOTIFY=recipient.notify, ORCPT=recipient.orcpt)
        return b" ".join([b"RCPT TO:" + _path(recipient.address, utf8), *parameters])

    def _dsn(self, **parameters: str) -> list[bytes]:
        """What of RFC 3461 was asked for, the server knows, and can stand on a command line."""
        if not self._connection.offers("dsn"):
            return []
        return [f"{name}={value}".encode() for name, value in parameters.items() if _PARAMETER.fullmatch(value)]

    async def _data(self, accepted: Collection[int]) -> None:
        """DATA, the content, and the server's verdict on it."""
        connection, timeouts = self._connection, self._timeouts
        self._phase = "data"
        reply = await self._answer(b"DATA")
        if not accepted and is_negative(reply.code) and reply.code != CLOSING:
            return  # what it says of a transaction without recipients is no news
        refusal = self._refusal(reply, awaited=3)
        if refusal is not None:
            self._settle(accepted, refusal)
            return
        if not accepted:  # a final dot now might bring an empty message to somebody (RFC 2920 section 3.1)
            connection.abort()
            return
        bound = self._job.bound
        bound.extend(self._job.size)
        try:
            await self._send(stuffed(await self._job.content()))
        except NoReply:
            self._settle(accepted, await self._parting_reply())
            connection.abort()
            return
        except Exception:
            log.exception("message_not_built", id=self._job.id)
            self._settle(accepted, deferral("4.3.0", "the message could not be built"))
            connection.abort()  # without the final dot the server must discard what it has
            return
        self._phase = "message"
        bound.final_dot()
        for recipients in [[index] for index in accepted] if connection.lmtp else [accepted]:
            reply = await connection.reply(timeouts.final_timeout)
            self._settle(recipients, self._refusal(reply) or classify("message", reply.code, reply.message))
        connection.in_transaction = False

    async def _send(self, blocks: Iterable[bytes]) -> None:
        """The content, block by block; the time to take the last one is the server's to answer in.

        Raises:
            NoReply: the server takes nothing more, or has answered before the end.
        """
        for number, block in enumerate(blocks):
            if number:
                await self._connection.drain(self._timeouts.data_timeout)
                await asyncio.sleep(0)  # other sessions get their turn between the blocks of a large message
            self._connection.send_raw(block)

    async def _parting_reply(self) -> Outcome:
        """Why a server hung up in the middle of the content, or answered there.

        Raises:
            NoReply: it has not said so.
            HostFailed: 421.
        """
        reply = await self._connection.reply(timeout=0)
        if reply.code == CLOSING:
            raise self._failed(self._classified(reply))
        if not is_negative(reply.code):
            raise NoReply("garbage")
        return classify("message", reply.code, reply.message)  # what is refused here is the content


def _path(address: str, utf8: bool) -> bytes:
    return b"<%b>" % (address if utf8 else _ascii_form(address)).encode()


def _ascii_form(address: str) -> str:
    """The address with its domain in A-labels (RFC 5890); still not ASCII where only SMTPUTF8 can carry it."""
    if address.isascii():
        return address
    mailbox = split(address)
    return f"{mailbox.local}@{normal_domain(mailbox.domain)}"
