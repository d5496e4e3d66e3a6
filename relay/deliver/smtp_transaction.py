"""One mail transaction over an open connection: MAIL, RCPT, DATA, and the outcome of each recipient."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Coroutine, Iterable, Sequence
from dataclasses import replace

import structlog

from relay.config.sections import DeliverySection
from relay.deliver.classify import CLOSING, Phase, classify, is_negative, refuses_session, silence
from relay.deliver.dot_stuffing import stuffed
from relay.deliver.envelope_commands import is_safe, mail_command, needs_smtputf8, rcpt_command
from relay.deliver.job import Job
from relay.deliver.reply_parser import NoReply, ServerReply
from relay.deliver.smtp_connection import Connection, HostFailed
from relay.mail.outcome import Outcome, deferral, failure, temporary

log = structlog.get_logger()


Outcomes = Coroutine[None, None, tuple[Outcome, ...]]  # to be awaited: one for each recipient, in their order


def transact(connection: Connection, job: Job, timeouts: DeliverySection) -> Outcomes:
    """Deliver the message.

    Raises:
        HostFailed: 421, a refusal of our session, no usable reply before the final dot was sent, or the attempt was
            given up before that; `settled` holds what is certain already.
    """
    return _OutgoingTransaction(connection, job, timeouts, probing=False).run()


def probe(connection: Connection, job: Job, timeouts: DeliverySection) -> Outcomes:
    """Ask whether the recipients would be accepted (`delivered` means yes), without sending a message.

    `failed` is a refusal of RCPT and nothing else.

    Raises:
        HostFailed: as `transact`.
    """
    return _OutgoingTransaction(connection, job, timeouts, probing=True).run()


class _OutgoingTransaction:
    """One transaction, or the probing part of one.

    `_phase` is the phase of the last command, `_outcomes` are final outcomes, and `_elsewhere` has the recipients that
    another host may take, with the reason why this host does not.
    """

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
            if recipients := self._unsettled():
                await self._converse(recipients)
        except asyncio.CancelledError as cancelled:
            if not self._job.bound.over or self._job.bound.final:
                raise
            self._connection.abort()
            raise self._failed(silence(self._phase, "timeout")) from cancelled
        except NoReply as problem:
            if self._phase != "message":
                raise self._failed(silence(self._phase, problem.kind)) from problem
            # The final dot was sent, and the message may have been delivered: no other host is tried now.
            self._settle(self._unsettled(), silence("message", problem.kind))
            self._connection.abort()
        if self._elsewhere:
            raise self._failed(next(iter(self._elsewhere.values())))
        return tuple([outcome for outcome in self._outcomes if outcome is not None])

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
        """The outcome of a 4xx or 5xx reply; None for the expected reply, whose first digit is `awaited`.

        Raises:
            HostFailed: 421, or a refusal of our session in reply to MAIL or DATA.
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
        """Settle recipients that the EHLO reply rules out, and addresses that cannot stand on a command line."""
        job = self._job
        utf8 = self._connection.offers("smtputf8")
        if (outcome := self._unsendable(utf8=utf8)) is not None:
            self._settle(self._unsettled(), outcome)
            return
        for index, recipient in enumerate(job.recipients):
            if not is_safe(recipient.address):
                self._settle([index], failure(553, "5.1.3", "the recipient address is malformed"))
            elif not utf8 and needs_smtputf8(recipient.address):
                self._settle([index], failure(553, "5.6.7", "the recipient address needs SMTPUTF8, not offered"))
        if job.needs_smtputf8 and not utf8:
            self._settle(self._unsettled(), failure(554, "5.6.9", "a header field needs SMTPUTF8, not offered"))

    def _unsendable(self, *, utf8: bool) -> Outcome | None:
        """Why the message cannot go to this server, whoever it is for; None where it can."""
        job = self._job
        limit = self._connection.size_limit
        if 0 < limit < job.size:
            return failure(552, "5.3.4", f"{job.size} octets, the server takes {limit}")
        if job.sender and not is_safe(job.sender):
            return failure(553, "5.1.7", "the sender address is malformed")
        if not utf8 and needs_smtputf8(job.sender):
            return failure(553, "5.6.7", "the sender address needs SMTPUTF8, not offered")
        return None

    async def _converse(self, recipients: Sequence[int]) -> None:
        """MAIL, RCPT and DATA, all in one go where the server offers PIPELINING (RFC 2920 section 3.1)."""
        connection, job = self._connection, self._job
        addresses = [job.sender, *[job.recipients[index].address for index in recipients]]
        utf8 = job.needs_smtputf8 or any(map(needs_smtputf8, addresses))
        rset = [b"RSET"] if connection.in_transaction else []
        require_tls = job.tls in ("require", "prefer") and connection.takes_requiretls
        mail = mail_command(job, connection.offers, utf8=utf8, require_tls=require_tls)
        rcpt = [rcpt_command(job.recipients[index], connection.offers, utf8=utf8) for index in recipients]
        data = [] if self._probing else [b"DATA"]
        connection.in_transaction = True
        connection.used += 1
        if self._pipelining:
            connection.send(*rset, mail, *rcpt, *data)
        accepted = await self._envelope([*rset, mail], dict(zip(recipients, rcpt, strict=True)))
        if self._probing:
            for index, reply in accepted.items():
                self._settle([index], classify("rcpt", reply.code, reply.message))
        elif accepted or self._pipelining:
            await self._data(accepted)

    async def _envelope(self, commands: Sequence[bytes], rcpt: dict[int, bytes]) -> dict[int, ServerReply]:
        """The accepted recipients, with the reply to each.

        Args:
            commands: those before RCPT, the last of which is MAIL.
        """
        *rset, mail = commands
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
                continue  # the sender was refused, and with it this recipient
            if refusal is None:
                accepted[index] = reply
            elif self._refuses_session(reply):
                self._elsewhere[index] = refusal
            else:
                self._settle([index], replace(refusal, individual=True))
        return accepted

    def _answer(self, command: bytes) -> Coroutine[None, None, ServerReply]:
        """The reply to a command, to be awaited; the command is sent where that is not done yet."""
        if not self._pipelining:
            self._connection.send(command)
        patience = self._timeouts.data_timeout if self._phase == "data" else self._timeouts.command_timeout
        return self._connection.reply(patience)

    async def _data(self, accepted: Collection[int]) -> None:
        """DATA, the content, and the server's reply to it."""
        connection, timeouts = self._connection, self._timeouts
        self._phase = "data"
        reply = await self._answer(b"DATA")
        if not accepted and is_negative(reply.code) and reply.code != CLOSING:
            return  # a refusal of DATA is expected in a transaction without recipients
        refusal = self._refusal(reply, awaited=3)
        if refusal is not None:
            self._settle(accepted, refusal)
            return
        if not accepted:  # a final dot now might deliver an empty message to somebody (RFC 2920 section 3.1)
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
            outcome = self._refusal(reply) or classify("message", reply.code, reply.message)
            self._settle(recipients, replace(outcome, individual=True) if connection.lmtp else outcome)
        connection.in_transaction = False

    async def _send(self, blocks: Iterable[bytes]) -> None:
        """Send the content block by block. The reply is awaited as soon as the last block is written.

        Raises:
            NoReply: the server takes nothing more, or has replied before the end.
        """
        for number, block in enumerate(blocks):
            if number:
                await self._connection.drain(self._timeouts.data_timeout)
                await asyncio.sleep(0)  # lets other sessions run between the blocks of a large message
            self._connection.send_raw(block)

    async def _parting_reply(self) -> Outcome:
        """The outcome of a reply that came in the middle of the content, where the server may have closed, too.

        Raises:
            NoReply: there is none.
            HostFailed: 421.
        """
        reply = await self._connection.reply(timeout=0)
        if reply.code == CLOSING:
            raise self._failed(self._classified(reply))
        if not is_negative(reply.code):
            raise NoReply("garbage")
        return classify("message", reply.code, reply.message)  # the content is refused
