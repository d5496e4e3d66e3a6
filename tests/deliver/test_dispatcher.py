"""The dispatcher between a real queue and next hops that a script plays."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import replace
from functools import partial
from itertools import repeat
from pathlib import Path

import pytest

from relay.bounce.notifier import Notifier
from relay.config.destinations import Destination
from relay.config.model import Config
from relay.deliver import attempts as attempt
from relay.deliver import dispatcher as dispatch
from relay.deliver import due_deliveries, recorder
from relay.deliver.attempts import Attempts
from relay.deliver.current_hops import CurrentHops
from relay.deliver.destination_limits import DestinationLimits, limited_tables
from relay.deliver.dispatcher import Dispatcher
from relay.deliver.host_failover import Job
from relay.deliver.next_hop import NextHop, NextHops
from relay.deliver.outgoing import OutgoingMessages
from relay.deliver.recorder import Recorder
from relay.deliver.shaping import Shaping
from relay.deliver.shared_limits import SharedLimits
from relay.dns import StaticResolver
from relay.mail.message import Message
from relay.mail.outcome import Outcome
from relay.mail.queue_id import QueueIds
from relay.metrics import Metrics
from relay.queue.connect import connect
from relay.queue.database import QueueUnavailable
from relay.queue.retry_schedule import RetrySchedule
from relay.queue.store import Change, Delivery, Due, Store, StoredMessage
from relay.queue.stored_verdict import StoredVerdict
from relay.rate import TokenBuckets
from relay.rewrite.from_decision import FromDecisions
from relay.rewrite.senders import Senders
from relay.route.router import Target
from relay.sign.signer import Signer
from relay.sign.signing_table import SigningTable
from relay.srs.address import Scheme

DELIVERED = Outcome("delivered", 250, "2.0.0", "Ok", remote=True)
DEFERRED = Outcome("deferred", 451, "4.3.0", "later", remote=True)
UNREACHABLE = Outcome("deferred", 451, "4.4.1", "connection refused", unreachable=True)
FAILED = Outcome("failed", 550, "5.1.1", "hidden@mailbox.test unknown", remote=True)


class Hops:
    """Plays every next hop: `answer` says what becomes of a recipient, `gate` holds the domains it names."""

    def __init__(self) -> None:
        self.jobs: list[tuple[str, Job]] = []
        self.by_mx: dict[str, Destination] = {}
        self.answer: Callable[[str], Outcome] = lambda recipient: DELIVERED
        self.gates: dict[str, asyncio.Event] = {}
        self.mx: dict[str, Sequence[str]] = {}

    async def destination(self, next_hop: NextHop) -> Destination | None:
        return next_hop.destination or self.by_mx.get(next_hop.domain)

    async def deliver(self, next_hop: NextHop, job: Job) -> tuple[Outcome, ...]:
        domain = next_hop.domain
        self.jobs.append((domain, job))
        if domain in self.gates:
            await self.gates[domain].wait()
        return tuple(self.answer(r.address) for r in job.recipients)

    def recipients(self) -> list[str]:
        return sorted(r.address for _, job in self.jobs for r in job.recipients)


async def store_author(author: str, token: str) -> str:
    return token


class House:
    """One worker.

    Args:
        shared, row: what the workers of a host count together; by default it is alone.
    """

    def __init__(
        self,
        config: Config,
        store: Store,
        shared: SharedLimits | None = None,
        row: int = 0,
        hops: Hops | None = None,
    ) -> None:
        self.config, self.store, self.hops = config, store, hops or Hops()
        self.ids = QueueIds(time.time)
        self.patience = RetrySchedule()
        self.away = 0  # how many times more the queue does not answer when it is asked for the sender's route
        self.next_hops = NextHops(config)
        own_key = partial(self.next_hops.key, own=True)
        self.notifier = Notifier("mx.test", "fwd.test", self.patience, self.ids, own_key, TokenBuckets(1, 10))
        scheme, metrics = Scheme("fwd.test", (b"secret",)), Metrics()
        self.metrics = metrics
        from_decisions = FromDecisions(config, lambda domain: False)
        messages = OutgoingMessages(config, from_decisions, Signer(SigningTable((), ())), scheme, store_author)
        senders = Senders(config, scheme, store, StaticResolver({}))
        self.outcomes = outcomes = Recorder(store, self.notifier, self.patience, self.home, metrics)
        attempts = Attempts(self.hops, self.next_hops, messages, senders, outcomes, self.patience, metrics)
        if shared is None:
            shared = SharedLimits(1)
            shared.adopt(limited_tables(config))
        limits = DestinationLimits(config.destinations, shared, row, self.table_of)
        current = CurrentHops(store, self.next_hops, time.time())
        shaping = Shaping(config.shaping, config.destinations, self.mx_of)
        self.dispatcher = Dispatcher(
            config, store, attempts, outcomes, limits, current, shaping, metrics, memory=2 * 10**7
        )

    async def table_of(self, domain: str) -> Destination | None:
        return await self.hops.destination(NextHop(domain=domain))

    async def mx_of(self, domain: str) -> Sequence[str]:
        return self.hops.mx.get(domain, (domain,))

    async def home(self, sender: str) -> tuple[Target, ...]:
        if self.away:
            self.away -= 1
            raise QueueUnavailable("gone for a moment")
        return (Target(sender),)

    def arrival(
        self,
        *recipients: str,
        sender: str = "bob@origin.test",
        spf: str = "pass",
        received: float | None = None,
        notify: str = "",
        original: str = "alias@fwd.test",
        warned: bool = False,
        body: bytes = b"Hi.\r\n",
        doubtful: bool = False,
    ) -> Change:
        number = self.ids.new() if received is None else QueueIds(repeat(received).__next__).new()
        received = time.time() if received is None else received
        message = Message(b"From: bob@origin.test\r\nSubject: hello\r\n\r\n" + body)
        stored = StoredMessage(number, received, sender, b"", message, StoredVerdict(spf=spf))
        return Change(
            arrived=[stored],
            deliveries=[
                Delivery(
                    number,
                    n,
                    recipient=recipient,
                    original=original,
                    hop=self.next_hops.key(recipient, doubtful=doubtful),
                    next_attempt=received,
                    expires=self.patience.expires(received, sender),
                    notify=notify,
                    warned=warned,
                )
                for n, recipient in enumerate(recipients)
            ],
        )

    async def until(self, condition: Callable[[], bool | Awaitable[bool]]) -> None:
        async with asyncio.timeout(20):
            while True:
                found = condition()
                if found if isinstance(found, bool) else await found:
                    return
                await asyncio.sleep(0.01)

    async def counts(self, **expected: int) -> None:
        async def equal() -> bool:
            return await self.store.counts() == expected

        await self.until(equal)

    async def deferred(self) -> Due:
        """The only delivery, once its attempt has put it off."""
        found: list[Due] = []

        async def put_off() -> bool:
            found[:] = await self.store.due(time.time() + 400, 10)
            return bool(found) and found[0].next_attempt > time.time() + 200

        await self.until(put_off)
        return found[0]


@pytest.fixture
async def house(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[House]:
    monkeypatch.setattr(dispatch, "PAUSE", 0.2)
    config = Config.model_validate(
        {
            "hostname": "mx.test",
            "listen": [{"address": "127.0.0.1:0"}],
            "srs": {"domain": "fwd.test", "secrets_file": "/dev/null"},
            "delivery": {"concurrency": 2, "concurrency_total": 10},
        }
    )
    store = Store(await connect(f"sqlite:///{tmp_path}/queue.db"), "worker/1/")
    house = House(config, store)
    running = asyncio.create_task(house.dispatcher.run())
    yield house
    for gate in house.hops.gates.values():
        gate.set()
    await house.dispatcher.stop(5)
    await asyncio.wait_for(running, 5)
    await store.close()


async def test_what_the_queue_holds_is_delivered_with_a_rewritten_sender(house: House) -> None:
    await house.store.apply(house.arrival("c@d.test"))
    await house.counts()
    ((domain, job),) = house.hops.jobs
    assert (domain, [r.address for r in job.recipients]) == ("d.test", ["c@d.test"])
    assert job.sender.startswith("SRS0=") and job.sender.endswith("=origin.test=bob@fwd.test")
    assert b"".join(await job.content()).endswith(b"Subject: hello\r\n\r\nHi.\r\n")


async def test_recipients_at_one_next_hop_share_a_transaction(house: House) -> None:
    await house.store.apply(house.arrival("a@d.test", "b@d.test", "c@e.test"))
    await house.counts()
    assert sorted(len(job.recipients) for _, job in house.hops.jobs) == [1, 2]


async def test_a_deferral_waits_and_keeps_its_reply(house: House) -> None:
    house.hops.answer = lambda recipient: DEFERRED
    await house.store.apply(house.arrival("c@d.test"))
    due = await house.deferred()
    assert 235 < due.next_attempt - time.time() < 365
    (row,) = await house.store.lease([due], time.time() + 60)
    assert row.attempts == 1 and row.last is not None and (row.last["code"], row.last["text"]) == (451, "later")


async def test_one_of_three_refused_is_one_bounce_that_hides_the_mailbox(house: House) -> None:
    house.hops.answer = lambda r: FAILED if r.startswith("hidden@") else DELIVERED
    await house.store.apply(house.arrival("a@one.test", "hidden@mailbox.test", "b@two.test"))
    await house.until(lambda: "bob@origin.test" in house.hops.recipients())
    await house.counts()
    ((_, bounce),) = [(d, job) for d, job in house.hops.jobs if job.sender == ""]
    content = b"".join(await bounce.content())
    assert [r.address for r in bounce.recipients] == ["bob@origin.test"]
    assert b"alias@fwd.test" in content and b"550" in content and b"hidden" not in content
    assert house.hops.recipients() == ["a@one.test", "b@two.test", "bob@origin.test", "hidden@mailbox.test"]


@pytest.mark.parametrize(
    ("sender", "spf"), [("", "none"), ("bob@origin.test", "fail"), ("bob@origin.test", "softfail")]
)
async def test_what_may_not_be_bounced_is_kept_as_dead(house: House, sender: str, spf: str) -> None:
    house.hops.answer = lambda r: FAILED
    await house.store.apply(house.arrival("c@d.test", sender=sender, spf=spf))
    await house.counts(dead=1)
    assert house.hops.recipients() == ["c@d.test"]


async def test_a_bounce_that_cannot_be_delivered_is_never_bounced_again(house: House) -> None:
    house.hops.answer = lambda r: FAILED
    await house.store.apply(house.arrival("c@d.test"))
    await house.counts(dead=1)
    assert house.hops.recipients() == ["bob@origin.test", "c@d.test"]


async def test_the_end_of_patience_is_a_bounce(house: House) -> None:
    house.hops.answer = lambda r: DEFERRED if r == "c@d.test" else DELIVERED
    await house.store.apply(house.arrival("c@d.test", received=time.time() - 6 * 86400))
    await house.counts()
    ((_, bounce),) = [(d, job) for d, job in house.hops.jobs if job.sender == ""]
    assert b"4.4.7" in b"".join(await bounce.content()) or b"4.3.0" in b"".join(await bounce.content())


async def test_never_means_never(house: House) -> None:
    house.hops.answer = lambda r: FAILED
    await house.store.apply(house.arrival("c@d.test", notify="NEVER"))
    await house.counts()
    assert house.hops.recipients() == ["c@d.test"]


@pytest.mark.parametrize(
    ("takes_over", "original", "told"),
    [
        (False, "c@d.test", ["bob@origin.test", "c@d.test"]),
        (True, "c@d.test", ["c@d.test"]),
        (True, "alias@fwd.test", ["bob@origin.test", "c@d.test"]),
    ],
)
async def test_success_is_told_by_us_only_where_the_next_hop_will_not_or_would_show_the_mailbox(
    house: House, takes_over: bool, original: str, told: list[str]
) -> None:
    house.hops.answer = lambda r: replace(DELIVERED, dsn=takes_over)
    await house.store.apply(house.arrival("c@d.test", notify="SUCCESS,FAILURE", original=original))
    await house.counts()
    assert house.hops.recipients() == told
    shown = next(r for _, job in house.hops.jobs for r in job.recipients if r.address == "c@d.test")
    assert shown.notify == ("SUCCESS,FAILURE" if original == "c@d.test" else "FAILURE")


@pytest.mark.parametrize(
    ("notify", "warned", "told"),
    [("DELAY", False, True), ("DELAY", True, False), ("FAILURE", False, False), ("", False, False)],
)
async def test_a_delay_is_told_once_and_only_where_it_was_asked_for(
    house: House, notify: str, warned: bool, told: bool
) -> None:
    house.hops.answer = lambda r: DEFERRED if r == "c@d.test" else DELIVERED
    await house.store.apply(house.arrival("c@d.test", notify=notify, warned=warned, received=time.time() - 5 * 3600))
    await house.deferred()
    if told:
        await house.until(lambda: "bob@origin.test" in house.hops.recipients())
        content = b"".join(await house.hops.jobs[-1][1].content())
        assert b"Attempts go on until" in content and b"given up." not in content
    await house.counts(queued=1)
    assert house.hops.recipients() == (["bob@origin.test"] if told else []) + ["c@d.test"]


async def test_a_slow_next_hop_does_not_hold_up_the_others(house: House) -> None:
    house.hops.gates["slow.test"] = asyncio.Event()
    for n in range(700):
        await house.store.apply(house.arrival(f"r{n}@slow.test"))
    await house.until(lambda: len(house.hops.jobs) >= 2)
    await house.store.apply(house.arrival("r@quick.test"))
    await house.until(lambda: "r@quick.test" in house.hops.recipients())
    assert sum(domain == "slow.test" for domain, _ in house.hops.jobs) <= 2 * house.config.delivery.concurrency
    house.hops.gates["slow.test"].set()
    await house.counts()


async def test_what_waits_for_a_dead_next_hop_is_put_off_by_a_few_tries(house: House) -> None:
    house.hops.answer = lambda r: UNREACHABLE if r.endswith("@dead.test") else DELIVERED
    for n in range(500):
        await house.store.apply(house.arrival(f"r{n}@dead.test"))
    await house.store.apply(house.arrival("r@quick.test"))
    await house.until(lambda: "r@quick.test" in house.hops.recipients())

    async def all_put_off() -> bool:
        return not await house.store.due(time.time() + 200, 1)

    await house.until(all_put_off)
    assert len(house.hops.jobs) < 20
    rows = await house.store.lease(await house.store.due(time.time() + 400, 1000), time.time() + 500)
    assert len(rows) == 500 and {row.attempts for row in rows} == {1}
    assert {row.last["text"] for row in rows if row.last} == {
        "connection refused",
        "delivery temporarily suspended: connection refused",
    }


async def test_what_falls_due_after_a_try_in_vain_gets_a_try_of_its_own(house: House) -> None:
    house.hops.answer = lambda r: UNREACHABLE
    await house.store.apply(house.arrival("early@dead.test"))
    await house.deferred()
    house.hops.answer = lambda r: DELIVERED
    await house.store.apply(house.arrival("late@dead.test"))
    await house.until(lambda: house.hops.recipients() == ["early@dead.test", "late@dead.test"])
    await house.counts(queued=1)


async def test_mail_that_expires_while_its_next_hop_is_dead_is_bounced(house: House) -> None:
    house.hops.answer = lambda r: UNREACHABLE if r.endswith("@dead.test") else DELIVERED
    for n in range(10):
        await house.store.apply(house.arrival(f"r{n}@dead.test", received=time.time() - 6 * 86400))
    await house.until(lambda: house.hops.recipients().count("bob@origin.test") == 10)
    await house.counts()
    assert sum(domain == "dead.test" for domain, _ in house.hops.jobs) < 10


async def test_next_hops_that_say_nothing_leave_half_of_the_places_to_those_that_answer(house: House) -> None:
    await house.store.apply(house.arrival("first@quick.test"))
    await house.counts()
    for n in range(10):
        house.hops.gates[f"tarpit{n}.test"] = asyncio.Event()
        await house.store.apply(house.arrival(f"r@tarpit{n}.test"))
    tarpits = house.config.delivery.concurrency_total // 2
    await house.until(lambda: len(house.hops.jobs) == 1 + tarpits)
    await house.store.apply(house.arrival("second@quick.test"))
    await house.until(lambda: "second@quick.test" in house.hops.recipients())
    assert len(house.hops.jobs) == 2 + tarpits


async def test_an_alias_with_many_mailboxes_that_refuse_is_one_bounce(house: House) -> None:
    house.hops.answer = lambda r: DELIVERED if r == "bob@origin.test" else FAILED
    await house.store.apply(house.arrival(*(f"hidden@m{n}.test" for n in range(5))))
    await house.counts()
    ((_, bounce),) = [(d, job) for d, job in house.hops.jobs if job.sender == ""]
    assert b"".join(await bounce.content()).count(b"Final-Recipient:") == 1


async def test_a_failure_does_not_wait_for_ever_for_the_other_transactions(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attempt, "TOGETHER", 0.05)
    house.hops.answer = lambda r: FAILED if r == "hidden@mailbox.test" else DELIVERED
    house.hops.gates["slow.test"] = asyncio.Event()
    await house.store.apply(house.arrival("hidden@mailbox.test", "r@slow.test"))
    await house.until(lambda: "bob@origin.test" in house.hops.recipients())
    await house.counts(queued=1)


async def test_a_bounce_waits_for_the_queue_to_say_where_its_sender_is(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recorder, "RETRY", 0.01)
    house.hops.answer = lambda r: DELIVERED if r == "bob@origin.test" else FAILED
    house.away = 3
    await house.store.apply(house.arrival("c@d.test"))
    await house.until(lambda: "bob@origin.test" in house.hops.recipients())
    await house.counts()


async def test_an_outcome_that_was_recorded_late_is_not_overlooked(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the time it is in the queue its delivery is due again, earlier than what was looked at since."""
    monkeypatch.setattr(recorder, "RETRY", 0.5)
    monkeypatch.setattr(house.outcomes, "_patience", RetrySchedule(first=0.1, longest=0.1))
    first = iter([DEFERRED])
    house.hops.answer = lambda r: next(first, DELIVERED) if r == "c@d.test" else DELIVERED
    apply, failures = house.store.apply, list[Change]()

    async def away_at_first(change: Change) -> None:
        if change.updated and len(failures) < 3:
            failures.append(change)
            raise QueueUnavailable("gone for a moment")
        await apply(change)

    monkeypatch.setattr(house.store, "apply", away_at_first)
    await house.store.apply(house.arrival("c@d.test"))
    await house.until(lambda: len(failures) == 2)
    await house.store.apply(house.arrival("e@f.test"))
    await house.until(lambda: "e@f.test" in house.hops.recipients())
    await house.counts()


async def test_what_could_not_be_leased_is_looked_for_again_however_long_it_is_due(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when the database breaks during the lease, or another host that was about to lease it dies."""
    monkeypatch.setattr(due_deliveries, "MISSED", 0.3)
    lease, failures = house.store.lease, [QueueUnavailable("gone for a moment"), None]

    async def away_at_first(wanted: Sequence[Due], until: float) -> list[Delivery]:
        if not failures:
            return await lease(wanted, until)
        failure = failures.pop(0)
        if failure is not None:
            raise failure
        return []

    monkeypatch.setattr(house.store, "lease", away_at_first)
    await house.store.apply(house.arrival("c@d.test", received=time.time() - 1000))
    await house.until(lambda: len(failures) == 1)
    await house.store.apply(house.arrival("e@f.test"))
    await house.until(lambda: not failures)
    await house.counts()


async def test_a_message_that_was_just_stored_is_attempted_from_memory(house: House) -> None:
    change = house.arrival("c@d.test")
    deliveries = house.dispatcher.lease_at_once(change.deliveries, 100)
    assert deliveries
    await house.store.apply(Change(arrived=change.arrived, deliveries=deliveries))
    house.dispatcher.take(change.arrived[0], deliveries)
    await house.counts()
    assert house.hops.recipients() == ["c@d.test"]


async def test_no_room_beyond_the_memory_for_messages(house: House) -> None:
    assert not house.dispatcher.lease_at_once(house.arrival("c@d.test").deliveries, 2 * 10**7 + 1)


async def test_a_next_hop_that_throws_is_a_deferral(house: House) -> None:
    def broken(recipient: str) -> Outcome:
        raise RuntimeError("a bug")

    house.hops.answer = broken
    await house.store.apply(house.arrival("c@d.test"))
    await house.deferred()


# what a provider says of our speed

THROTTLED = Outcome("deferred", 421, "4.7.0", "wait", host="mx1.big.test", remote=True, words="wait", phase="mail")
TAKEN = replace(DELIVERED, host="mx1.big.test")


@pytest.fixture
async def throttled(tmp_path: Path) -> AsyncIterator[House]:
    """A worker that has learned to wait a second for the provider of d.test and e.test."""
    rule = {"name": "big", "mx": ["*.big.test"], "text": ["wait"], "action": "pause", "pause": "1s"}
    config = Config.model_validate(
        {
            "hostname": "mx.test",
            "listen": [{"address": "127.0.0.1:0"}],
            "srs": {"domain": "fwd.test", "secrets_file": "/dev/null"},
            "delivery": {"concurrency_total": 50, "shaping": [rule]},
        }
    )
    store = Store(await connect(f"sqlite:///{tmp_path}/queue.db"), "worker/1/")
    house = House(config, store)
    for domain in ("d.test", "e.test"):
        house.hops.mx[domain] = ["mx1.big.test"]
    house.hops.answer = lambda r: THROTTLED if r.endswith(("@d.test", "@e.test")) else DELIVERED
    running = asyncio.create_task(house.dispatcher.run())
    await store.apply(house.arrival("first@d.test"))
    await house.until(lambda: house.metrics.slowed.cells[0] == 1)
    yield house
    await house.dispatcher.stop(5)
    await asyncio.wait_for(running, 5)
    await store.close()


async def test_what_waits_for_a_provider_expires_and_its_sender_is_told(throttled: House) -> None:
    """It was never tried itself: each pause is a try of one message, whose outcome the others share."""
    old = time.time() - 6 * 86400
    for n in range(20):
        await throttled.store.apply(throttled.arrival(f"r{n}@{'de'[n % 2]}.test", received=old + n))
    await throttled.until(lambda: throttled.hops.recipients().count("bob@origin.test") == 20)
    await throttled.counts(queued=1)
    tried = [r for r in throttled.hops.recipients() if r.startswith("r")]
    assert len(tried) < 10
    bounce = next(job for _, job in throttled.hops.jobs if job.sender == "")
    assert b"".join(await bounce.content()).count(b"r0@") == 0, "the mailbox is behind an alias"


async def test_the_sender_of_what_waits_for_a_provider_hears_of_the_delay(throttled: House) -> None:
    late = time.time() - 5 * 3600
    for n in range(5):
        await throttled.store.apply(throttled.arrival(f"r{n}@e.test", received=late + n, notify="DELAY"))
    await throttled.until(lambda: throttled.hops.recipients().count("bob@origin.test") == 5)
    await throttled.counts(queued=6)


async def test_what_waits_for_a_provider_holds_up_nobody_and_leaves_after_the_pause(throttled: House) -> None:
    throttled.hops.answer = lambda r: TAKEN if r.endswith(("@d.test", "@e.test")) else DELIVERED
    ends, began = time.time() + 0.8, len(throttled.hops.jobs)
    for n in range(60):
        await throttled.store.apply(throttled.arrival(f"r{n}@{'de'[n % 2]}.test"))
    await throttled.store.apply(throttled.arrival("u@free.test"))
    await throttled.until(lambda: "u@free.test" in throttled.hops.recipients())
    if time.time() < ends:
        assert len(throttled.hops.jobs) == began + 1
    await throttled.until(lambda: len(throttled.hops.jobs) == began + 61)
    await throttled.until(lambda: throttled.metrics.slowed.cells[0] == 0)


async def test_a_message_that_was_blocked_is_the_only_one_that_fails(throttled: House) -> None:
    throttled.hops.answer = lambda r: (
        replace(THROTTLED, status="failed", code=550, enhanced="5.7.1")
        if r.endswith(".test") and "origin" not in r
        else TAKEN
    )
    old = time.time() - 60
    for n in range(50):
        await throttled.store.apply(throttled.arrival(f"r{n}@d.test", received=old + n / 10))
    await throttled.until(lambda: "bob@origin.test" in throttled.hops.recipients())
    await asyncio.sleep(0.5)
    assert throttled.hops.recipients().count("bob@origin.test") <= 2
    assert (await throttled.store.counts())["queued"] >= 48
