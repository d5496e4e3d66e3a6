"""What limits a destination, where mail goes today, and a next hop that refuses us.

Dispatchers between a real queue and next hops that a script plays. Several of them are the workers of one host."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from relay.config.model import Config
from relay.deliver import dispatcher as dispatch
from relay.deliver import next_hop_health as health
from relay.deliver.classify import classify
from relay.deliver.destination_limits import limited_tables
from relay.deliver.shared_limits import SharedLimits
from relay.mail.outcome import Outcome
from relay.queue.connect import connect
from relay.queue.store import Change, Delivery, Due, Store
from tests.deliver.test_dispatcher import DELIVERED, UNREACHABLE, House

REFUSED = classify("mail", 550, "5.7.1 your network is on our list")


class Host:
    """The workers of one host, with one queue, and what their next hops see.

    Attributes:
        at_once, most: transactions under way, and the most there ever were, by domain; "" for all together.
        leases: how many deliveries were leased from the queue.
    """

    def __init__(self, config: Config, workers: Sequence[House]) -> None:
        self.config, self.workers, self.store = config, workers, workers[0].store
        self.at_once: dict[str, int] = {}
        self.most: dict[str, int] = {}
        self.leases = 0
        self.seconds = 0.0
        self.answer: Callable[[str], Outcome] = lambda recipient: DELIVERED
        for worker in workers:
            self._watch(worker)

    def _watch(self, worker: House) -> None:
        deliver, lease = worker.hops.deliver, worker.store.lease
        worker.hops.answer = lambda recipient: self.answer(recipient)

        async def watched_delivery(next_hop: Any, job: Any) -> tuple[Outcome, ...]:
            names = ("", job.recipients[0].address.partition("@")[2])
            for name in names:
                self.at_once[name] = self.at_once.get(name, 0) + 1
                self.most[name] = max(self.most.get(name, 0), self.at_once[name])
            try:
                await asyncio.sleep(self.seconds)
                return await deliver(next_hop, job)
            finally:
                for name in names:
                    self.at_once[name] -= 1

        async def watched_lease(wanted: Sequence[Due], until: float) -> list[Delivery]:
            leased = await lease(wanted, until)
            self.leases += len(leased)
            return leased

        worker.hops.deliver = watched_delivery  # type: ignore[method-assign]
        worker.store.lease = watched_lease  # type: ignore[method-assign]

    def recipients(self) -> list[str]:
        return sorted(each for worker in self.workers for each in worker.hops.recipients())

    async def until(self, condition: Callable[[], bool | Awaitable[bool]]) -> None:
        await self.workers[0].until(condition)

    async def store_all(self, *recipients: str, **more: Any) -> None:
        """A message for each recipient."""
        for recipient in recipients:
            await self.store.apply(self.workers[0].arrival(recipient, **more))

    async def store_at_once(self, *recipients: str, **more: Any) -> None:
        """As `store_all`, in one transaction."""
        changes = [self.workers[0].arrival(recipient, **more) for recipient in recipients]
        arrived = [stored for change in changes for stored in change.arrived]
        await self.store.apply(Change(arrived, [each for change in changes for each in change.deliveries]))


@asynccontextmanager
async def running(folder: Path, workers: int = 2, **delivery: Any) -> AsyncIterator[Host]:
    config = Config.model_validate(
        {
            "hostname": "mx.test",
            "listen": [{"address": "127.0.0.1:0"}],
            "srs": {"domain": "fwd.test", "secrets_file": "/dev/null"},
            "delivery": delivery,
        }
    )
    shared = SharedLimits(workers)
    shared.adopt(limited_tables(config))
    houses = []
    for row in range(workers):
        store = Store(await connect(f"sqlite:///{folder}/queue.db"), f"worker/{row}/")
        houses.append(House(config, store, shared, row))
    host = Host(config, houses)
    tasks = [asyncio.create_task(house.dispatcher.run()) for house in houses]
    try:
        yield host
    finally:
        for house in houses:
            await house.dispatcher.stop(5)
        await asyncio.wait_for(asyncio.gather(*tasks), 5)
        for house in houses:
            await house.store.close()


def entry(*domains: str, **numbers: int) -> dict[str, Any]:
    return {"domains": list(domains), **numbers}


# the numbers of a destination


@pytest.mark.parametrize("concurrency", [1, 3])
async def test_all_domains_and_all_workers_together_have_so_many_transactions(tmp_path: Path, concurrency: int) -> None:
    tables = [entry("a.test", ".b.test", concurrency=concurrency)]
    async with running(tmp_path, destinations=tables) as host:
        host.seconds = 0.01
        names = ["a.test", "x.b.test", "y.b.test"]
        await host.store_all(*(f"r{n}@{name}" for n in range(20) for name in names), "r@free.test")
        await host.until(lambda: len(host.recipients()) == 61)
        assert host.most[""] <= concurrency + 1 and max(host.most[name] for name in names) <= concurrency
        assert concurrency == 1 or max(host.most.values()) == concurrency + 1 or host.most["a.test"] >= 1
        await host.workers[0].counts()
        assert host.leases < 61 + 10, "hardly anything was leased in vain"


async def test_a_full_destination_holds_up_no_other_and_its_mail_leaves_when_there_is_room(tmp_path: Path) -> None:
    async with running(tmp_path, concurrency_total=20, destinations=[entry("a.test", concurrency=1)]) as host:
        gate = host.workers[0].hops.gates["a.test"] = host.workers[1].hops.gates["a.test"] = asyncio.Event()
        with capture_logs() as lines:
            await host.store_all(*(f"r{n}@a.test" for n in range(300)))
            await host.until(lambda: host.at_once.get("a.test") == 1)
            await host.store_all(*(f"r{n}@free.test" for n in range(50)))
            await host.until(lambda: sum(r.endswith("@free.test") for r in host.recipients()) == 50)
        assert not [line for line in lines if line["event"] in ("deferred", "attempt_failed")]
        assert host.leases <= 51 + 2
        gate.set()
        await host.until(lambda: len(host.recipients()) == 350)
        await host.workers[0].counts()


async def test_a_new_message_waits_behind_those_that_wait_already(tmp_path: Path) -> None:
    async with running(tmp_path, workers=1, destinations=[entry("a.test", "b.test", concurrency=1)]) as host:
        house = host.workers[0]
        gate = house.hops.gates["a.test"] = asyncio.Event()
        await host.store_all("first@a.test", "second@a.test")
        await host.until(lambda: host.at_once.get("a.test") == 1)
        change = house.arrival("late@b.test")
        assert house.dispatcher.lease_at_once(change.deliveries, 100) == []
        await host.store.apply(change)
        gate.set()
        await house.counts()
        assert house.hops.jobs[0][1].recipients[0].address == "first@a.test"


async def test_a_new_message_has_a_place_from_memory_and_gives_it_back_if_it_cannot_be_stored(tmp_path: Path) -> None:
    async with running(tmp_path, workers=1, destinations=[entry("a.test", concurrency=1)]) as host:
        house = host.workers[0]
        change = house.arrival("r@a.test")
        assert house.dispatcher.lease_at_once(change.deliveries, 100)
        other = house.arrival("s@a.test")
        assert not house.dispatcher.lease_at_once(other.deliveries, 100)
        await host.store.apply(other)
        house.dispatcher.leave(change.arrived[0].id)
        await house.counts()
        assert host.recipients() == ["s@a.test"]
        again = house.arrival("t@a.test")
        leased = house.dispatcher.lease_at_once(again.deliveries, 100)
        await host.store.apply(Change(arrived=again.arrived, deliveries=leased))
        house.dispatcher.take(again.arrived[0], leased)
        await house.counts()


async def test_a_rate_of_ten_does_not_churn_a_queue_of_thousands(tmp_path: Path) -> None:
    async with running(tmp_path, destinations=[entry("a.test", ".b.test", rate=10)]) as host:
        recipients = [f"r{n}@a.test" for n in range(2000)] + [f"r{n}@d{n}.b.test" for n in range(500)]
        for start in range(0, 2500, 100):
            changes = [host.workers[0].arrival(each) for each in recipients[start : start + 100]]
            await asyncio.gather(*(host.store.apply(change) for change in changes))
        await host.until(lambda: len(host.recipients()) >= 1)
        await asyncio.sleep(7)
        assert host.leases == len(host.recipients()) == 2


async def test_a_rate_holds_over_all_domains_and_workers(tmp_path: Path) -> None:
    async with running(tmp_path, destinations=[entry("a.test", "b.test", rate=300)]) as host:
        await host.store_all(*(f"r{n}@{name}" for n in range(30) for name in ("a.test", "b.test")))
        await host.until(lambda: bool(host.recipients()))
        began = time.monotonic()
        await host.until(lambda: len(host.recipients()) == 60)
        assert (60 - 5) / 5 * 0.97 < time.monotonic() - began < (60 - 5) / 5 * 1.15
        assert host.leases == 60


async def test_no_domain_of_a_destination_starves(tmp_path: Path) -> None:
    async with running(tmp_path, workers=1, destinations=[entry(".a.test", concurrency=1)]) as host:
        house = host.workers[0]
        gate = house.hops.gates["big.a.test"] = asyncio.Event()
        await host.store_all(*(f"r{n}@big.a.test" for n in range(100)))
        await host.until(lambda: len(house.hops.jobs) == 1)
        await host.store_all(*(f"r@small{n}.a.test" for n in range(3)))
        (table,) = host.config.destinations
        await host.until(lambda: house.dispatcher._rooms.waiting.count(table.name) == 4)
        gate.set()
        await house.counts()
        order = [domain for domain, _ in house.hops.jobs]
        assert len(order) == 103
        assert max(place for place, domain in enumerate(order) if domain != "big.a.test") < 20, "after the other domain"


async def test_a_message_with_several_recipients_at_a_destination_counts_once(tmp_path: Path) -> None:
    async with running(tmp_path, workers=1, destinations=[entry("a.test", rate=1)]) as host:
        house = host.workers[0]
        await host.store.apply(house.arrival(*(f"r{n}@a.test" for n in range(5))))
        await house.counts()
        assert len(house.hops.jobs) == 1 and len(host.recipients()) == 5


async def test_the_mx_hosts_say_which_table_holds_before_anything_is_leased(tmp_path: Path) -> None:
    async with running(tmp_path, destinations=[entry("mx:*.big.test", rate=10)]) as host:
        (table,) = host.config.destinations
        for house in host.workers:
            house.hops.by_mx |= {f"d{n}.test": table for n in range(300)}
        await host.store_all(*(f"r@d{n}.test" for n in range(300)), "r@free.test")
        await host.until(lambda: "r@free.test" in host.recipients() and len(host.recipients()) >= 2)
        await asyncio.sleep(3)
        assert host.leases == len(host.recipients()) == 2


@pytest.mark.parametrize("doubtful", [False, True])
async def test_mx_hosts_that_are_found_by_the_attempt_put_it_back_unseen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, doubtful: bool
) -> None:
    """DNS was silent when the dispatcher asked."""
    apart = {"helo": "mx2.test"}
    async with running(tmp_path, destinations=[entry("mx:*.big.test", concurrency=1)], doubtful=apart) as host:
        (table,) = host.config.destinations
        found = host.config.destinations.for_mail(table, doubtful=doubtful)
        assert found is not None and (found is table) is not doubtful
        for house in host.workers:
            house.hops.by_mx |= {"a.test": found, "b.test": found}
            monkeypatch.setattr(house, "table_of", None)

            async def nothing(hops: object) -> None:
                pass

            monkeypatch.setattr(house.dispatcher._limits, "find_out", nothing)
        host.seconds = 0.05
        with capture_logs() as lines:
            recipients = [f"r{n}@{name}" for n in range(10) for name in ("a.test", "b.test")]
            await host.store_all(*recipients, doubtful=doubtful)
            await host.until(lambda: len([line for line in lines if line["event"] == "delivered"]) >= 20)
            await host.workers[0].counts()
        assert host.most[""] == 1 and len(host.recipients()) == 20
        assert len([line for line in lines if line["event"] == "delivered"]) == 20
        assert len([line for line in lines if line["event"] == "attempt"]) == 20
        assert not [line for line in lines if line["event"] == "deferred"]
        assert host.leases < 60, "what waits for the table is not leased again and again"


async def test_a_delivery_that_was_put_back_has_not_been_attempted(tmp_path: Path) -> None:
    async with running(tmp_path, workers=1, destinations=[entry("mx:*.big.test", rate=1)]) as host:
        house = host.workers[0]
        (table,) = host.config.destinations
        house.hops.by_mx["a.test"] = table
        house.dispatcher._limits.note("a.test", None)
        await host.store_all("r0@a.test", "r1@a.test", "r2@a.test")
        await host.until(lambda: len(host.recipients()) == 1)

        async def put_back() -> bool:
            return len(await host.store.due(time.time(), 10)) == 2

        await host.until(put_back)
        rows = await host.store.lease(await host.store.due(time.time(), 10), time.time() + 60)
        assert [row.attempts for row in rows] == [0, 0] and [row.last for row in rows] == [None, None]


async def test_mail_to_a_smarthost_that_no_table_limits_does_not_wait_behind_mail_that_one_does(tmp_path: Path) -> None:
    tables = [entry("a.test", concurrency=1)]
    async with running(tmp_path, smarthost={"url": "smtp://hub.test:25"}, destinations=tables) as host:
        for house in host.workers:
            house.hops.gates[""] = asyncio.Event()
        await host.store_all(*(f"r{n}@a.test" for n in range(10)), *(f"r{n}@b.test" for n in range(5)))
        await host.until(lambda: host.at_once.get("b.test") == 5)
        await host.until(lambda: host.at_once.get("a.test") == 1)
        for house in host.workers:
            house.hops.gates[""].set()
        await host.until(lambda: len(host.recipients()) == 15)


# where mail goes today


async def test_mail_that_was_stored_for_another_next_hop_shares_the_fate_of_todays(tmp_path: Path) -> None:
    async with running(tmp_path, workers=1) as host:
        house = host.workers[0]
        host.answer = lambda r: UNREACHABLE if r.endswith("@dead.test") else DELIVERED
        old = [house.arrival(f"r{n}@{name}") for n in range(100) for name in ("dead.test", "well.test")]
        for change in old:
            moved = [replace(d, hop="smtp://gone.test:25") for d in change.deliveries]
            await host.store.apply(replace(change, deliveries=moved))
        await host.until(lambda: sum(each.endswith("@well.test") for each in host.recipients()) == 100)

        async def all_deferred() -> bool:
            return not await host.store.due(time.time() + 200, 1)

        await host.until(all_deferred)
        assert sum(each.endswith("@dead.test") for each in host.recipients()) < 20
        rows = await host.store.due(time.time() + 400, 1000)
        assert {row.hop for row in rows} == {"dead.test"}


async def test_a_dead_smarthost_of_yesterday_holds_nothing_back(tmp_path: Path) -> None:
    """It is still the next hop of other mail, and cannot be reached."""
    hub = "smtp://hub.test:25"
    async with running(tmp_path, workers=1, destinations=[{"domains": ["via.test"], "next_hop": hub}]) as host:
        house = host.workers[0]
        host.answer = lambda r: UNREACHABLE if r.endswith("@via.test") else DELIVERED
        await host.store_all(*(f"r{n}@via.test" for n in range(30)))
        await host.until(lambda: len(host.recipients()) >= 1)
        for n in range(50):
            change = house.arrival(f"r{n}@free.test")
            await host.store.apply(replace(change, deliveries=[replace(d, hop=hub) for d in change.deliveries]))
        began = time.monotonic()
        await host.until(lambda: sum(each.endswith("@free.test") for each in host.recipients()) == 50)
        assert time.monotonic() - began < 5


async def test_a_domain_that_goes_to_a_smarthost_now_is_stored_anew_under_it(tmp_path: Path) -> None:
    async with running(tmp_path, workers=1, smarthost={"url": "smtp://hub.test:25"}) as host:
        house = host.workers[0]
        host.answer = lambda r: UNREACHABLE
        for n in range(50):
            change = house.arrival(f"r@d{n}.test")
            await host.store.apply(
                replace(change, deliveries=[replace(d, hop=f"d{n}.test") for d in change.deliveries])
            )

        async def all_deferred() -> bool:
            return not await host.store.due(time.time() + 200, 1)

        await host.until(all_deferred)
        assert len(host.recipients()) < 15, "one try for all"
        assert {row.hop for row in await host.store.due(time.time() + 400, 100)} == {"smtp://hub.test:25"}


# a next hop that refuses us


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "PROBE", 1.0)
    monkeypatch.setattr(dispatch, "PAUSE", 0.2)


async def test_a_next_hop_that_refuses_us_is_suspended_and_resumed(tmp_path: Path, quick: None) -> None:
    async with running(tmp_path, workers=1) as host:
        house = host.workers[0]
        refuses = True
        host.answer = lambda r: REFUSED if refuses and r.endswith("@d.test") else DELIVERED
        with capture_logs() as lines:
            for n in range(5):
                await host.store_all(f"r{n}@d.test", sender=f"s@origin{n}.test")
            await host.until(lambda: house.metrics.suspended.cells[0] == 1)
            await host.store_at_once(*(f"w{n}@d.test" for n in range(40)), sender="")  # before the next try

            async def deferred() -> bool:
                soon, later = [await host.store.due(time.time() + wait, 100) for wait in (200, 1000)]
                return (len(soon), len(later)) == (0, 39)

            await host.until(deferred)
            assert len([each for each in host.recipients() if each.startswith("w")]) == 1, (
                "the others share its outcome"
            )
            await asyncio.sleep(1.5)
            refuses = False
            await host.store_all("last@d.test")
            await host.until(lambda: "last@d.test" in host.recipients())
            await host.until(lambda: house.metrics.suspended.cells[0] == 0)
        assert len([line for line in lines if line["event"] == "bounced"]) == 5, "these had their own answer"
        suspended = [line for line in lines if line["event"] == "destination_suspended"]
        (line,) = suspended
        assert (line["destination"], line["code"]) == ("d.test", 550)
        assert line["transactions"] == line["sender_domains"] == 5
        assert line["log_level"] == "warning" and line["text"] == "your network is on our list"
        (resumed,) = [line for line in lines if line["event"] == "destination_resumed"]
        assert resumed["destination"] == "d.test" and resumed["after"] >= 2


async def test_own_messages_and_others_share_what_is_known(tmp_path: Path, quick: None) -> None:
    async with running(tmp_path, workers=1) as host:
        house = host.workers[0]
        host.answer = lambda r: REFUSED if r.endswith("@d.test") else DELIVERED
        for n in range(5):
            await host.store_all(f"r{n}@d.test", sender=f"s@origin{n}.test")
        await host.until(lambda: house.metrics.suspended.cells[0] == 1)
        host.answer = lambda r: replace(REFUSED, status="deferred")
        own = [house.arrival(f"own{n}@d.test", sender="") for n in range(20)]
        for change in own:
            keys = [replace(d, hop=house.next_hops.key(d.recipient, own=True)) for d in change.deliveries]
            await host.store.apply(replace(change, deliveries=keys))
        await host.store_all(*(f"w{n}@d.test" for n in range(20)))
        await asyncio.sleep(2.5)
        assert len([each for each in host.recipients() if each.startswith(("w", "own"))]) <= 3


async def test_senders_of_spam_never_suspend_a_next_hop(tmp_path: Path, quick: None) -> None:
    async with running(tmp_path, workers=1) as host:
        host.answer = lambda r: REFUSED if r.startswith("spam") else DELIVERED
        with capture_logs() as lines:
            await host.store_all(*(f"spam{n}@d.test" for n in range(100)), sender="s@spam.test")
            await host.until(lambda: sum(each.startswith("spam") for each in host.recipients()) == 100)
            await host.store_all("good@d.test")
            await host.until(lambda: "good@d.test" in host.recipients())
        assert not [line for line in lines if line["event"] == "destination_suspended"]
