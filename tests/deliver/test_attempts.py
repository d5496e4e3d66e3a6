"""Attempts: what leaves together, under which sender, and when outcomes are recorded."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, cast

import pytest
from structlog.testing import capture_logs

from relay.config.destinations import Destination
from relay.config.model import Config
from relay.deliver.attempts import RECIPIENTS, Attempt, Attempts, Batch
from relay.deliver.host_failover import Job
from relay.deliver.next_hop import NextHop, NextHops
from relay.deliver.outgoing import OutgoingMessages
from relay.deliver.recorder import Observer, Recorder
from relay.deliver.settlement import Result
from relay.dns import StaticResolver
from relay.mail.envelope import Recipient
from relay.mail.message import Message
from relay.mail.outcome import Outcome
from relay.mail.queue_id import QueueIds, id_text
from relay.metrics import Metrics
from relay.queue.database import QueueUnavailable
from relay.queue.hop_keys import own_hop
from relay.queue.retry_schedule import RetrySchedule
from relay.queue.store import Delivery, StoredMessage
from relay.queue.stored_verdict import StoredVerdict
from relay.rewrite.from_decision import FromDecisions
from relay.rewrite.senders import Senders
from relay.sign import keys
from relay.sign.keys import SigningKey
from relay.sign.signer import Signer
from relay.sign.signing_table import SigningTable
from relay.srs.address import Scheme
from tests import corpus

DELIVERED = Outcome("delivered", 250, "2.0.0", "Ok", remote=True)
FAILED = Outcome("failed", 550, "5.1.1", "no such user", remote=True)
NO_SMTPUTF8 = Outcome("failed", 550, "5.6.7", "the next hop offers no SMTPUTF8")
CONTENT = b"From: Joe <joe@origin.test>\r\nSubject: hello\r\n\r\nHi.\r\n"
IDS = QueueIds(time.time)


class Hops:
    """Plays every next hop.

    Attributes:
        answer: the outcome for a recipient of a job.
        gates: domains that answer once their event is set.
    """

    def __init__(self) -> None:
        self.jobs: list[tuple[NextHop, Job]] = []
        self.answer: Callable[[Job, str], Outcome] = lambda job, recipient: DELIVERED
        self.gates: dict[str, asyncio.Event] = {}

    async def destination(self, next_hop: NextHop) -> Destination | None:
        return next_hop.destination

    async def deliver(self, next_hop: NextHop, job: Job) -> tuple[Outcome, ...]:
        self.jobs.append((next_hop, job))
        if next_hop.domain in self.gates:
            await self.gates[next_hop.domain].wait()
        return tuple(self.answer(job, recipient.address) for recipient in job.recipients)

    @property
    def job(self) -> Job:
        """The only job."""
        ((_, job),) = self.jobs
        return job


class NotingRecorder:
    """Notes what it is to record, in the order in which it is asked."""

    def __init__(self) -> None:
        self.settled: list[tuple[StoredMessage, dict[str, str]]] = []
        self.results: list[Result] = []
        self.reloaded = 0

    async def settle(self, stored: StoredMessage, results: Sequence[Result], observer: Observer) -> None:
        if results:
            self.settled.append((stored, {r.delivery.recipient: r.outcome.status for r in results}))
            self.results += results

    async def whole(self, stored: StoredMessage, observer: Observer) -> StoredMessage:
        self.reloaded += 1
        return replace(stored, message=Message(CONTENT))


class Ended:
    """Notes the ends of batches."""

    def __init__(self) -> None:
        self.batches: list[tuple[str, Sequence[Outcome]]] = []
        self.put_aside: list[tuple[str, str]] = []

    def batch_ended(self, attempt: Attempt, batch: Batch, began: float, outcomes: Sequence[Outcome]) -> None:
        self.batches.append((batch.hop, outcomes))

    def put_back(self, batch: Batch, table: Destination) -> None:
        self.put_aside.append((batch.hop, table.name))

    def notification_queued(self) -> None: ...

    def recorded_late(self) -> None: ...


class Tokens:
    """Stores senders; `away` says whether the queue does not answer."""

    away = False

    async def token_for(self, sender: str, now: float, lifetime: float) -> str:
        if self.away:
            raise QueueUnavailable("the disk is gone")
        return "0123456789abcdef"


async def keep(author: str, token: str) -> str:
    return token


class House:
    def __init__(self, **delivery: Any) -> None:
        trusting = {"next_hop": "smtp://10.0.0.1", "recipients": "any", "srs": False}
        config = Config.model_validate(
            {
                "hostname": "mx.test",
                "listen": [{"address": "127.0.0.1:0"}],
                "srs": {"domain": "fwd.test", "secrets_file": "/dev/null"},
                "delivery": delivery,
                "routes": {"domains": {"trusts-us.test": trusting}},
            }
        )
        self.hops, self.recorder, self.ended, self.tokens = Hops(), NotingRecorder(), Ended(), Tokens()
        self.metrics, self.next_hops = Metrics(), NextHops(config)
        scheme = Scheme("fwd.test", (b"secret",))
        from_decisions = FromDecisions(config, lambda domain: False)
        self.messages = OutgoingMessages(config, from_decisions, Signer(SigningTable((), ())), scheme, keep)
        self.attempts = Attempts(
            self.hops,
            self.next_hops,
            self.messages,
            Senders(config, scheme, self.tokens, StaticResolver({})),
            cast(Recorder, self.recorder),
            RetrySchedule(),
            self.metrics,
        )

    def deliveries(self, stored: StoredMessage, *recipients: str, **more: Any) -> list[Delivery]:
        return [
            Delivery(
                stored.id,
                n,
                recipient=recipient,
                original=more.get("original", recipient),
                hop=self.next_hops.key(recipient),
                expires=9e9,
                lease_token=1,
                **{key: value for key, value in more.items() if key != "original"},
            )
            for n, recipient in enumerate(recipients)
        ]

    async def make(self, stored: StoredMessage, *recipients: str, **more: Any) -> Attempt:
        attempt = self.attempts.prepare(stored, self.deliveries(stored, *recipients, **more))
        async with asyncio.timeout(10):
            await self.attempts.make(attempt, self.ended)
        return attempt

    def count(self, line: str) -> float:
        lines = self.metrics.render().decode().splitlines()
        (value,) = [text.rpartition(" ")[2] for text in lines if text.startswith(f"srs_relay_{line} ")]
        return float(value)


def message(sender: str = "joe@origin.test", content: bytes = CONTENT, **more: Any) -> StoredMessage:
    verdict = more.pop("verdict", StoredVerdict(spf="pass"))
    return StoredMessage(IDS.new(), 1_790_000_000.0, sender, b"Received: x\r\n", Message(content), verdict, **more)


# batches


def test_deliveries_with_one_next_hop_share_a_batch() -> None:
    house, stored = House(), message()
    attempt = house.attempts.prepare(stored, house.deliveries(stored, "a@d.test", "b@e.test", "c@d.test"))
    assert [(b.hop, [d.recipient for d in b.deliveries]) for b in attempt.batches] == [
        ("d.test", ["a@d.test", "c@d.test"]),
        ("e.test", ["b@e.test"]),
    ]


def test_a_batch_has_no_more_recipients_than_every_server_takes() -> None:
    house, stored = House(), message()
    recipients = [f"r{n}@d.test" for n in range(2 * RECIPIENTS + 1)]
    attempt = house.attempts.prepare(stored, house.deliveries(stored, *recipients))
    assert [len(batch.deliveries) for batch in attempt.batches] == [RECIPIENTS, RECIPIENTS, 1]
    assert [d.recipient for batch in attempt.batches for d in batch.deliveries] == recipients


def test_deliveries_that_leave_in_another_form_or_from_another_sender_have_a_batch_of_their_own() -> None:
    house, stored = House(smarthost={"url": "smtp://hub.test"}), message(verdict=StoredVerdict(unforwardable=True))
    hub = house.next_hops.key("a@d.test")
    deliveries = [replace(d, hop=hub) for d in house.deliveries(stored, "a@d.test", "b@trusts-us.test", "c@e.test")]
    attempt = house.attempts.prepare(stored, [*deliveries, replace(deliveries[0], n=9, srs=False)])
    assert [[d.n for d in batch.deliveries] for batch in attempt.batches] == [[0, 2], [1], [9]]


# what leaves


async def test_a_job_has_all_that_the_next_hop_is_told() -> None:
    house = House()
    stored = message(ret="FULL", envid="e1", content=CONTENT + b"\xe9\r\n")
    with capture_logs() as lines:
        await house.make(stored, "carol@d.test", notify="FAILURE", orcpt="rfc822;carol@d.test", attempts=2)
    job = house.hops.job
    assert job.sender.startswith("SRS0=") and job.sender.endswith("=origin.test=joe@fwd.test")
    assert job.recipients == (Recipient("carol@d.test", "FAILURE", "rfc822;carol@d.test"),)
    assert (job.id, job.ret, job.envid, job.is_8bit, job.needs_smtputf8) == (
        id_text(stored.id),
        "FULL",
        "e1",
        True,
        False,
    )
    content = b"".join(await job.content())
    assert content == b"Received: x\r\n" + stored.message.content and job.size >= len(content)
    (line,) = [line for line in lines if line["event"] == "attempt"]
    assert line == {
        "event": "attempt",
        "log_level": "info",
        "id": id_text(stored.id),
        "hop": "d.test",
        "doubtful": None,
        "sender": job.sender,
        "rewriting": "srs",
        "from_rewritten": None,
        "to": ["carol@d.test"],
        "attempt": 3,
    }
    assert house.count('srs_addresses_total{step="rewritten"}') == 1


@pytest.mark.parametrize(
    ("notify", "original", "shown"),
    [
        ("SUCCESS,FAILURE,DELAY", "carol@d.test", "SUCCESS,FAILURE,DELAY"),
        ("SUCCESS,FAILURE,DELAY", "alice@fwd.test", "FAILURE"),
        ("SUCCESS", "alice@fwd.test", "NEVER"),
        ("NEVER", "alice@fwd.test", "NEVER"),
        ("", "alice@fwd.test", ""),
    ],
)
async def test_behind_an_alias_the_next_hop_is_asked_for_failures_only(notify: str, original: str, shown: str) -> None:
    house = House()
    await house.make(message(), "carol@d.test", notify=notify, original=original, orcpt="rfc822;alice@fwd.test")
    (recipient,) = house.hops.job.recipients
    assert recipient.notify == shown
    assert recipient.orcpt == ("rfc822;alice@fwd.test" if original == "carol@d.test" else "")


@pytest.mark.parametrize(("smtputf8", "needs"), [(True, True), (False, False)])
async def test_a_raw_header_needs_smtputf8_where_the_client_asked_for_it(smtputf8: bool, needs: bool) -> None:
    house = House()
    await house.make(message(content="Subject: é\r\n\r\nHi.\r\n".encode(), smtputf8=smtputf8), "carol@d.test")
    assert house.hops.job.needs_smtputf8 is needs


async def test_from_is_rewritten_for_those_who_need_it_and_the_log_says_so() -> None:
    house = House()
    verdict = StoredVerdict(spf="pass", unforwardable=True, authors=("origin.test",))
    with capture_logs() as lines:
        await house.make(message(verdict=verdict), "carol@d.test", "dan@e.test", "eve@trusts-us.test")
    contents = {job.recipients[0].address: b"".join(await job.content()) for _, job in house.hops.jobs}
    assert {address: b"via fwd.test" in content for address, content in contents.items()} == {
        "carol@d.test": True,
        "dan@e.test": True,
        "eve@trusts-us.test": False,
    }
    rewritten = {line["to"][0]: line["from_rewritten"] for line in lines if line["event"] == "attempt"}
    assert rewritten == {"carol@d.test": True, "dan@e.test": True, "eve@trusts-us.test": None}
    trusting = next(job for hop, job in house.hops.jobs if hop.endpoint is not None)
    assert trusting.sender == "joe@origin.test"
    assert house.count('srs_addresses_total{step="rewritten"}') == 2
    assert house.count('reply_addresses_total{step="written"}') == 1, "one form of the message serves both"


async def test_the_log_names_the_next_hop_of_today() -> None:
    house, stored = House(), message()
    (delivery,) = house.deliveries(stored, "carol@d.test")
    attempt = house.attempts.prepare(stored, [replace(delivery, hop=own_hop("old.test"))])
    with capture_logs() as lines:
        await house.attempts.make(attempt, house.ended)
    assert [hop for hop, _ in house.hops.jobs] == [NextHop(domain="d.test")]
    assert [line["hop"] for line in lines if line["event"] == "attempt"] == ["d.test"]


async def test_deliveries_that_were_stored_for_one_next_hop_part_where_they_have_several_today() -> None:
    """They waited for a smarthost that has been taken out of the configuration."""
    house, stored = House(), message()
    deliveries = house.deliveries(stored, "carol@d.test", "dan@e.test", "eve@d.test")
    attempt = house.attempts.prepare(stored, [replace(delivery, hop="smtp://old.test") for delivery in deliveries])
    await house.attempts.make(attempt, house.ended)
    assert [(hop.domain, [r.address for r in job.recipients]) for hop, job in house.hops.jobs] == [
        ("d.test", ["carol@d.test", "eve@d.test"]),
        ("e.test", ["dan@e.test"]),
    ]


async def test_the_result_names_the_keys_that_signed_though_the_content_was_freed() -> None:
    house = House()
    house.messages._signer = Signer(SigningTable((), (SigningKey("fwd.test", "relay1", keys.parse(corpus.RSA_PEM)),)))
    await house.make(message(), "carol@d.test")
    assert [result.signed_by for result in house.recorder.results] == [()]  # the next hop refused before DATA

    async def deliver(next_hop: NextHop, job: Job) -> tuple[Outcome, ...]:
        await job.content()
        attempt.free_content()
        return (DELIVERED,)

    house.hops.deliver = deliver  # type: ignore[method-assign]
    stored = message()
    attempt = house.attempts.prepare(stored, house.deliveries(stored, "carol@d.test"))
    await house.attempts.make(attempt, house.ended)
    assert house.recorder.results[-1].signed_by == ("fwd.test:relay1",)


@pytest.mark.parametrize(
    ("originals", "individual", "quotable"),
    [
        (("carol@d.test", "dan@d.test"), False, [True, True]),
        (("Carol@D.test", "dan@d.test"), False, [True, True]),
        (("carol@d.test", "alias@fwd.test"), False, [False, False]),
        (("carol@d.test", "alias@fwd.test"), True, [True, False]),
    ],
)
async def test_words_that_may_name_a_mailbox_behind_an_alias_are_not_quotable(
    originals: tuple[str, str], individual: bool, quotable: list[bool]
) -> None:
    house, stored = House(), message()

    async def deliver(next_hop: NextHop, job: Job) -> tuple[Outcome, ...]:
        return tuple(Outcome("failed", 550, "5.1.1", "no", remote=True, individual=individual) for _ in job.recipients)

    house.hops.deliver = deliver  # type: ignore[method-assign]
    deliveries = house.deliveries(stored, "carol@d.test", "dan@d.test")
    deliveries = [replace(one, original=original) for one, original in zip(deliveries, originals, strict=True)]
    await house.attempts.make(house.attempts.prepare(stored, deliveries), house.ended)
    assert [result.quotable for result in house.recorder.results] == quotable


# SMTPUTF8


async def test_a_next_hop_without_smtputf8_gets_a_stored_sender() -> None:
    house = House()
    house.hops.answer = lambda job, recipient: DELIVERED if job.sender.isascii() else NO_SMTPUTF8
    await house.make(message("jü@origin.test"), "carol@d.test")
    (_, first), (_, second) = house.hops.jobs
    assert not first.sender.isascii()
    assert second.sender.isascii() and "0123456789abcdef" in second.sender
    assert [status for _, status in house.recorder.settled] == [{"carol@d.test": "delivered"}]


async def test_an_ascii_sender_is_not_tried_twice() -> None:
    house = House()
    house.hops.answer = lambda job, recipient: NO_SMTPUTF8
    await house.make(message(), "carol@d.test")
    assert len(house.hops.jobs) == 1
    assert [status for _, status in house.recorder.settled] == [{"carol@d.test": "failed"}]


async def test_a_message_that_one_recipient_got_is_not_sent_again() -> None:
    house = House()
    house.hops.answer = lambda job, recipient: NO_SMTPUTF8 if recipient == "a@d.test" else DELIVERED
    await house.make(message("jü@origin.test"), "a@d.test", "b@d.test")
    assert len(house.hops.jobs) == 1


async def test_an_attempt_that_is_over_is_not_begun_again_with_another_sender() -> None:
    house, stored = House(), message("jü@origin.test")
    attempt = house.attempts.prepare(stored, house.deliveries(stored, "carol@d.test"))

    def ending(job: Job, recipient: str) -> Outcome:
        job.bound.end("it takes too long")
        return NO_SMTPUTF8

    house.hops.answer = ending
    await house.attempts.make(attempt, house.ended)
    assert len(house.hops.jobs) == 1
    ((_, (outcome,)),) = house.ended.batches
    assert (outcome.status, outcome.text) == ("deferred", "it takes too long")


# failures of our own


async def test_a_sender_that_cannot_be_stored_now_is_a_deferral() -> None:
    house = House()
    house.tokens.away = True
    await house.make(message("j" * 60 + "@origin.test"), "carol@d.test")
    ((hop, (outcome,)),) = house.ended.batches
    assert (hop, outcome.status, outcome.text) == ("d.test", "deferred", "queue: the disk is gone")
    assert house.hops.jobs == []
    assert [status for _, status in house.recorder.settled] == [{"carol@d.test": "deferred"}]


async def test_a_bug_of_ours_is_a_deferral_and_an_error_in_the_log() -> None:
    def broken(job: Job, recipient: str) -> Outcome:
        raise RuntimeError("a bug")

    house = House()
    house.hops.answer = broken
    with capture_logs() as lines:
        await house.make(message(), "carol@d.test")
    assert [line["log_level"] for line in lines if line["event"] == "attempt_failed"] == ["error"]
    assert house.ended.batches[0][1][0].text == "internal error"
    assert [status for _, status in house.recorder.settled] == [{"carol@d.test": "deferred"}]


# recording


async def test_each_batch_that_ends_is_told_with_its_outcomes() -> None:
    house = House()
    house.hops.answer = lambda job, recipient: FAILED if recipient == "b@e.test" else DELIVERED
    await house.make(message(), "a@d.test", "b@e.test")
    assert sorted(house.ended.batches) == [("d.test", (DELIVERED,)), ("e.test", (FAILED,))]


async def test_failures_wait_for_the_other_batches_and_deliveries_do_not() -> None:
    house, stored = House(), message()
    house.hops.answer = lambda job, recipient: DELIVERED if recipient == "a@d.test" else FAILED
    house.hops.gates["slow.test"] = asyncio.Event()
    attempt = house.attempts.prepare(stored, house.deliveries(stored, "a@d.test", "b@e.test", "c@slow.test"))
    making = asyncio.create_task(house.attempts.make(attempt, house.ended))
    async with asyncio.timeout(10):
        while len(house.ended.batches) < 2:
            await asyncio.sleep(0.001)
        assert [status for _, status in house.recorder.settled] == [{"a@d.test": "delivered"}]
        house.hops.gates["slow.test"].set()
        await making
    assert [status for _, status in house.recorder.settled[1:]] == [{"b@e.test": "failed", "c@slow.test": "failed"}]


async def test_the_only_batch_waits_for_nobody() -> None:
    house = House()
    house.hops.answer = lambda job, recipient: FAILED if recipient == "a@d.test" else DELIVERED
    await house.make(message(), "a@d.test", "b@d.test")
    assert [status for _, status in house.recorder.settled] == [{"a@d.test": "failed", "b@d.test": "delivered"}]


async def test_an_attempt_that_is_given_up_ends_its_batches() -> None:
    house, stored = House(), message()
    house.hops.gates = {"d.test": asyncio.Event(), "e.test": asyncio.Event()}
    attempt = house.attempts.prepare(stored, house.deliveries(stored, "a@d.test", "b@e.test"))
    making = asyncio.create_task(house.attempts.make(attempt, house.ended))
    async with asyncio.timeout(10):
        while len(house.hops.jobs) < 2:
            await asyncio.sleep(0.001)
        making.cancel()
        with pytest.raises(asyncio.CancelledError):
            await making
        while len(house.ended.batches) < 2:
            await asyncio.sleep(0.001)
    assert house.recorder.settled == []


# memory


async def test_content_that_is_there_is_not_loaded_for_a_notification() -> None:
    house = House()
    house.hops.answer = lambda job, recipient: FAILED
    await house.make(message(), "carol@d.test")
    assert house.recorder.reloaded == 0


@pytest.mark.parametrize(("outcome", "reloaded"), [(FAILED, 1), (DELIVERED, 0)])
async def test_content_that_was_freed_is_loaded_again_for_a_notification_only(outcome: Outcome, reloaded: int) -> None:
    house, stored = House(), message()
    attempt = house.attempts.prepare(stored, house.deliveries(stored, "carol@d.test"))

    def freeing(job: Job, recipient: str) -> Outcome:
        attempt.free_content()
        return outcome

    house.hops.answer = freeing
    await house.attempts.make(attempt, house.ended)
    assert house.recorder.reloaded == reloaded
    ((recorded, _),) = house.recorder.settled
    assert recorded.message.content == (CONTENT if reloaded else b"")


async def test_freeing_lets_go_of_every_copy_and_ends_the_batches() -> None:
    house, stored = House(), message()
    attempt = await house.make(stored, "carol@d.test")
    outgoing = attempt.outgoing[False]
    attempt.free_content()
    assert not attempt.has_content and attempt.stored.message.content == b"" and attempt.stored.id == stored.id
    assert attempt.outgoing == {} and outgoing.message.content == b""
    assert all(batch.bound.over for batch in attempt.batches)
