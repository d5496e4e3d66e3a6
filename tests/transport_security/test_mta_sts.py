"""MTA-STS as a sender: which policy holds, from a real policy host and a real database, and what is asked for it."""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from relay import https
from relay.deliver.mx import is_public
from relay.dns import Answer, DnsFailure, StaticResolver
from relay.metrics import Metrics
from relay.queue.connect import connect
from relay.queue.schema import mta_sts as table
from relay.queue.store import Store
from relay.transport_security import mta_sts, policy_host, policy_memory
from relay.transport_security.mta_sts import DAY, RETRY_AFTER, MtaStsPolicies
from relay.transport_security.mta_sts_policy import Policy
from relay.transport_security.policy_host import PolicyHosts
from tests import https_server
from tests.https_server import Authority, HttpsServer, plain

DOMAIN, HOST = "fwd.test", "mta-sts.fwd.test"
TXT, A = ("_mta-sts.fwd.test", "TXT"), (HOST, "A")
WEEK = 7 * DAY


def text(mode: str = "enforce", mx: str = "mx.fwd.test", max_age: float = WEEK) -> bytes:
    return plain(f"version: STSv1\r\nmode: {mode}\r\nmx: {mx}\r\nmax_age: {max_age:.0f}\r\n")


class Dns:
    """A resolver whose zone may change, and which remembers what it was asked."""

    def __init__(self) -> None:
        self.zone: dict[tuple[str, str], list[Any] | Exception] = {TXT: [(b"v=STSv1; id=1;",)], A: ["127.0.0.1"]}
        self.asked: list[tuple[str, str]] = []

    async def query(self, name: str, rdtype: str) -> Answer:
        self.asked.append((name, rdtype))
        return await StaticResolver(self.zone).query(name, rdtype)


class World:
    """The domain, its policy host, and a relay's database."""

    def __init__(self, server: HttpsServer, answers: dict[str, https_server.Answer], store: Store) -> None:
        self.server, self.answers, self.store = server, answers, store
        self.dns = Dns()
        self.now = 1_800_000_000.0
        self.metrics = Metrics()
        self._workers: list[MtaStsPolicies] = []

    def worker(self, is_allowed: Callable[[Any], bool] | None = None, store: Store | None = None) -> MtaStsPolicies:
        """A worker that has just started."""
        hosts = PolicyHosts(self.dns, is_allowed=is_allowed)
        worker = MtaStsPolicies(self.dns, hosts, (store or self.store).mta_sts, self.metrics, clock=lambda: self.now)
        self._workers.append(worker)
        return worker

    def publish(self, policy_id: str, policy: https_server.Answer) -> None:
        self.dns.zone[TXT] = [(b"v=STSv1; id=" + policy_id.encode(),)]
        self.answers[HOST] = policy

    def vanish(self) -> None:
        """The record is gone, and the policy host is away."""
        del self.dns.zone[TXT]
        self.answers[HOST] = plain("", "404 Not Found")

    @property
    def fetches(self) -> int:
        return len(self.server.requests)

    async def close(self) -> None:
        for worker in self._workers:
            await worker.close()


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Path]]:
    authority = Authority(tmp_path_factory.mktemp("ca"))
    names = [HOST, "mta-sts.xn--bcher-kva.test", *(f"mta-sts.d{n}.test" for n in range(8))]
    certificate = authority.issue(*names)
    return authority.file, dict.fromkeys(names, certificate)


@pytest.fixture
def server(
    files: tuple[Path, dict[str, Path]], monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[HttpsServer, dict[str, https_server.Answer]]]:
    authority, certificates = files
    answers: dict[str, https_server.Answer] = {HOST: text()}
    server = HttpsServer(certificates, answers).start()
    monkeypatch.setattr(https, "PORT", server.port)
    monkeypatch.setenv("SSL_CERT_FILE", str(authority))
    yield server, answers
    server.stop()


@pytest.fixture
async def world(server: tuple[HttpsServer, dict[str, https_server.Answer]], tmp_path: Path) -> AsyncIterator[World]:
    store = Store(await connect(f"sqlite:///{tmp_path / 'queue.db'}"), "worker-1/")
    world = World(*server, store)
    yield world
    await world.close()
    await store.close()


async def test_a_policy_is_found_and_asked_for_once(world: World) -> None:
    worker = world.worker()
    expected = Policy("enforce", int(WEEK), ("mx.fwd.test",))
    for domain in (DOMAIN, "FWD.test.", DOMAIN):
        assert await worker.policy(domain) == expected
    assert world.fetches == 1 and worker.problem(DOMAIN) is None
    assert world.server.requests[0][1].startswith("GET /.well-known/mta-sts.txt HTTP/1.1\r\n")


async def test_a_domain_without_a_record_costs_one_question(world: World) -> None:
    del world.dns.zone[TXT]
    assert await world.worker().policy(DOMAIN) is None
    assert world.dns.asked == [TXT] and world.server.names == []


@pytest.mark.parametrize("domain", ["[192.0.2.1]", "[IPv6:2001:db8::1]", "", "a..b", "under score.test", "." + DOMAIN])
async def test_what_is_no_domain_name_has_none(world: World, domain: str) -> None:
    assert await world.worker().policy(domain) is None
    assert world.dns.asked == []


async def test_a_longer_name_than_dns_has(world: World) -> None:
    assert await world.worker().policy(".".join(["a" * 60] * 4)) is None


async def test_a_domain_in_u_labels(world: World) -> None:
    world.dns.zone |= {
        ("_mta-sts.xn--bcher-kva.test", "TXT"): [(b"v=STSv1; id=1",)],
        ("mta-sts.xn--bcher-kva.test", "A"): ["127.0.0.1"],
    }
    world.answers["mta-sts.xn--bcher-kva.test"] = text()
    policy = await world.worker().policy("Bücher.test")
    assert policy is not None and policy.mode == "enforce"


@pytest.mark.parametrize(
    "records",
    [
        [(b"v=STSv1; id=1",), (b"v=STSv1; id=2",)],
        [(b"v=STSv1; id=",)],
        [(b"id=1; v=STSv1",)],
        DnsFailure("SERVFAIL"),
    ],
)
async def test_a_record_that_does_not_count_is_none(world: World, records: list[Any] | Exception) -> None:
    world.dns.zone[TXT] = records
    assert await world.worker().policy(DOMAIN) is None
    assert world.fetches == 0


async def test_it_holds_until_its_end_over_a_restart_without_record_and_host(world: World) -> None:
    assert await world.worker().policy(DOMAIN)
    world.vanish()
    world.now += WEEK - 1
    restarted = world.worker()
    policy = await restarted.policy(DOMAIN)
    assert policy is not None and policy.mode == "enforce"
    world.dns.zone[TXT] = DnsFailure("SERVFAIL")
    assert await restarted.policy(DOMAIN) == policy
    world.now += 1
    assert await restarted.policy(DOMAIN) is None
    assert await world.worker().policy(DOMAIN) is None
    assert world.fetches == 1


async def test_a_policy_that_has_ended_is_fetched_again_by_the_same_id(world: World) -> None:
    worker = world.worker()
    world.answers[HOST] = text(max_age=10)
    assert await worker.policy(DOMAIN)
    world.now += 11
    assert await worker.policy(DOMAIN)
    assert world.fetches == 2


async def test_another_id_brings_another_policy(world: World) -> None:
    worker = world.worker()
    assert await worker.policy(DOMAIN)
    world.publish("2", text(mode="testing"))
    with capture_logs() as logs:
        policy = await worker.policy(DOMAIN)
    assert policy is not None and policy.mode == "testing" and world.fetches == 2
    line = next(line for line in logs if line["event"] == "mta_sts_policy")
    assert (line["domain"], line["was"], line["mode"], line["policy_id"]) == (DOMAIN, "enforce", "testing", "2")
    world.publish("3", text(mode="none"))
    policy = await worker.policy(DOMAIN)
    assert policy is not None and policy.mode == "none"


async def test_a_newer_policy_that_cannot_be_had_leaves_the_older_one(world: World) -> None:
    worker = world.worker()
    await worker.policy(DOMAIN)
    world.publish("2", plain("", "503 Service Unavailable"))
    with capture_logs() as logs:
        for _ in range(3):
            policy = await worker.policy(DOMAIN)
            assert policy is not None and policy.mode == "enforce"
    assert world.fetches == 2
    (line,) = [line for line in logs if line["event"] == "mta_sts_not_fetched"]
    assert line["log_level"] == "warning" and "503" in line["problem"] and line["mode"] == "enforce"
    world.now += RETRY_AFTER
    world.answers[HOST] = text(mode="none")
    policy = await worker.policy(DOMAIN)
    assert policy is not None and policy.mode == "none"


@pytest.mark.parametrize(
    ("answer", "fault"),
    [
        (plain("", "404 Not Found"), "sts-policy-fetch-error"),
        (plain("x", "301 Moved", more=f"Location: https://{HOST}/other\r\n"), "sts-policy-fetch-error"),
        (text().replace(b"text/plain", b"text/html"), "sts-policy-fetch-error"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", "sts-policy-fetch-error"),
        (plain("x" * (policy_host.OCTETS + 1)), "sts-policy-fetch-error"),
        (plain("<html>"), "sts-policy-invalid"),
        (text(mx=""), "sts-policy-invalid"),
        (text(max_age=31557601), "sts-policy-invalid"),
        (plain(b"\xff\xfe\0"), "sts-policy-invalid"),
    ],
)
async def test_without_a_stored_policy_one_that_cannot_be_had_is_none(world: World, answer: bytes, fault: str) -> None:
    worker = world.worker()
    world.answers[HOST] = answer
    with capture_logs() as logs:
        for _ in range(3):
            assert await worker.policy(DOMAIN) is None
    problem = worker.problem(DOMAIN)
    assert world.fetches == 1 and problem is not None and problem[0] == fault
    assert [(line["event"], line["log_level"]) for line in logs] == [("mta_sts_not_fetched", "info")]
    assert f'srs_relay_mta_sts_fetches_total{{result="{fault}"}} 1.0' in world.metrics.render().decode()
    world.now += RETRY_AFTER
    world.answers[HOST] = text()
    assert worker.problem(DOMAIN) is None
    assert await worker.policy(DOMAIN)


async def test_another_version_is_tried_at_once(world: World) -> None:
    worker = world.worker()
    world.answers[HOST] = plain("", "404 Not Found")
    assert await worker.policy(DOMAIN) is None
    world.publish("2", text())
    assert await worker.policy(DOMAIN)


async def test_a_clock_that_is_put_back_keeps_no_failure(world: World) -> None:
    worker = world.worker()
    world.answers[HOST] = plain("", "404 Not Found")
    assert await worker.policy(DOMAIN) is None
    world.answers[HOST] = text()
    world.now -= 3600
    assert worker.problem(DOMAIN) is None
    assert await worker.policy(DOMAIN)


async def test_a_certificate_that_is_not_good(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SSL_CERT_FILE")
    worker = world.worker()
    assert await worker.policy(DOMAIN) is None
    assert (worker.problem(DOMAIN) or ("", ""))[0] == "sts-webpki-invalid"


@pytest.mark.parametrize(
    ("addresses", "said"),
    [([], "has no address"), (DnsFailure("SERVFAIL"), "DNS has no answer")],
)
async def test_a_policy_host_without_address(world: World, addresses: list[str] | Exception, said: str) -> None:
    world.dns.zone[A] = addresses
    worker = world.worker()
    assert await worker.policy(DOMAIN) is None
    assert said in (worker.problem(DOMAIN) or ("", ""))[1]


async def test_private_policy_hosts_are_not_connected_to(world: World) -> None:
    world.dns.zone |= {A: ["127.0.0.1", "10.0.0.1"], (HOST, "AAAA"): ["::1", "::ffff:127.0.0.1", "fe80::1"]}
    worker = world.worker(is_allowed=is_public)
    assert await worker.policy(DOMAIN) is None
    assert "no public address" in (worker.problem(DOMAIN) or ("", ""))[1]
    assert world.server.names == []


async def test_a_max_age_of_nothing_holds_for_those_who_waited(world: World) -> None:
    worker = world.worker()
    world.answers[HOST] = text(max_age=0)
    policies = await asyncio.gather(*(worker.policy(DOMAIN) for _ in range(5)))
    assert None not in policies and world.fetches == 1
    world.vanish()
    assert await worker.policy(DOMAIN) is None


async def test_deliveries_share_one_fetch_and_wait_a_bounded_time(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mta_sts, "PATIENCE", 0.2)
    may_answer = asyncio.Event()
    loop = asyncio.get_running_loop()

    def late(connection: ssl.SSLSocket) -> None:
        asyncio.run_coroutine_threadsafe(may_answer.wait(), loop).result(10)
        connection.sendall(text())

    world.answers[HOST] = late
    worker = world.worker()
    started = time.monotonic()
    assert await asyncio.gather(*(worker.policy(DOMAIN) for _ in range(20))) == [None] * 20
    assert time.monotonic() - started < 2
    may_answer.set()
    monkeypatch.setattr(mta_sts, "PATIENCE", 5.0)
    assert await worker.policy(DOMAIN)
    assert world.fetches == 1


async def test_a_delivery_that_is_given_up_takes_nobody_elses_policy(world: World) -> None:
    worker = world.worker()
    first = asyncio.create_task(worker.policy(DOMAIN))
    second = asyncio.create_task(worker.policy(DOMAIN))
    while world.fetches == 0:
        await asyncio.sleep(0.001)
    first.cancel()
    assert await second and world.fetches == 1


async def test_a_worker_takes_what_another_has_fetched(world: World, tmp_path: Path) -> None:
    store = Store(await connect(f"sqlite:///{tmp_path / 'queue.db'}"), "worker-2/")
    first, second = world.worker(), world.worker(store=store)
    del world.dns.zone[TXT]
    assert await second.policy(DOMAIN) is None  # and it remembers that there is none
    world.publish("1", text())
    assert await first.policy(DOMAIN)
    assert await second.policy(DOMAIN)
    assert world.fetches == 1
    await store.close()


async def test_a_worker_looks_into_the_database_again(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(policy_memory, "LIFETIME", 0.3)
    first, second = world.worker(), world.worker()
    del world.dns.zone[TXT]
    assert await second.policy(DOMAIN) is None
    world.publish("1", text())
    assert await first.policy(DOMAIN)
    world.vanish()
    assert await second.policy(DOMAIN) is None  # from memory
    await asyncio.sleep(0.3)
    assert await second.policy(DOMAIN)


@pytest.mark.parametrize("damage", ["", "version: STSv1\nmode: enf", "\0"])
async def test_a_damaged_policy_is_ignored_and_replaced(world: World, damage: str) -> None:
    await world.worker().policy(DOMAIN)
    await world.store._database.write(lambda c: c.execute(table.update().values(policy=damage)), durable=False)
    worker = world.worker()
    with capture_logs() as logs:
        assert await worker.policy(DOMAIN)
    assert world.fetches == 2
    assert "mta_sts_damaged" in [line["event"] for line in logs]
    with capture_logs() as logs:
        assert await world.worker().policy(DOMAIN)
    assert logs == []


async def test_a_policy_is_refreshed_daily_without_mail_and_without_another_id(world: World) -> None:
    worker = world.worker()
    await worker.policy(DOMAIN)
    world.now += DAY - 1
    await worker.refresh()
    assert world.fetches == 1
    world.now += 1
    world.answers[HOST] = text(mode="none")
    await worker.refresh()
    assert world.fetches == 2
    policy = await worker.policy(DOMAIN)
    assert policy is not None and policy.mode == "none"
    await worker.refresh()
    assert world.fetches == 2


async def test_a_refresh_that_fails_is_said_and_tried_again(world: World) -> None:
    worker = world.worker()
    await worker.policy(DOMAIN)
    world.now += DAY
    world.vanish()
    with capture_logs() as logs:
        await worker.refresh()
        await worker.refresh()
    assert world.fetches == 2
    (line,) = logs
    assert (line["event"], line["log_level"], line["mode"]) == ("mta_sts_not_fetched", "warning", "enforce")
    assert await worker.policy(DOMAIN)
    world.now += mta_sts.RETRY_REFRESH
    world.publish("1", text())
    await worker.refresh()
    world.vanish()
    world.now += WEEK - 1
    assert await world.worker().policy(DOMAIN)


async def test_a_policy_that_no_mail_needs_any_more_is_left_to_expire(world: World) -> None:
    world.answers[HOST] = text(max_age=200 * DAY)
    worker = world.worker()
    await worker.policy(DOMAIN)
    for _ in range(40):
        world.now += DAY
        await worker.refresh()
    assert world.fetches == 1 + 30


async def test_mail_keeps_a_policy_in_use(world: World) -> None:
    world.answers[HOST] = text(max_age=200 * DAY)
    worker = world.worker()
    for _ in range(40):
        await worker.policy(DOMAIN)
        world.now += DAY + 1
        await asyncio.sleep(0.01)
        await worker.refresh()
    assert world.fetches == 41


async def test_a_fault_of_ours_does_not_keep_mail(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    worker = world.worker()
    monkeypatch.setattr(worker, "_to_store", lambda *_: 1 / 0)
    with capture_logs() as logs:
        assert await worker.policy(DOMAIN) is None
    assert [line["event"] for line in logs] == ["mta_sts_failed"]


async def test_slow_hosts_leave_room_for_others(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mta_sts, "FETCHES", 3)
    monkeypatch.setattr(policy_host, "SECONDS", 0.5)
    worker = world.worker()
    running = most = 0

    def slow(connection: ssl.SSLSocket) -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        try:
            connection.recv(1)  # until the relay gives it up
        finally:
            running -= 1

    for n in range(8):
        world.dns.zone |= {
            (f"_mta-sts.d{n}.test", "TXT"): [(b"v=STSv1; id=1",)],
            (f"mta-sts.d{n}.test", "A"): ["127.0.0.1"],
        }
        world.answers[f"mta-sts.d{n}.test"] = slow
    others = [asyncio.create_task(worker.policy(f"d{n}.test")) for n in range(8)]
    await asyncio.sleep(0)
    assert await worker.policy(DOMAIN)
    assert await asyncio.gather(*others) == [None] * 8
    assert most <= 3
