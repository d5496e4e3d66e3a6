"""Counting sessions for TLS reports: in memory, with a limit, and without delaying or losing anything."""

from __future__ import annotations

import json
import ssl

import pytest

from relay.deliver import tls_results
from relay.deliver.tls_results import Published, Shortfall, TlsResults, shortfall_of
from relay.metrics import Metrics
from relay.queue.database import QueueUnavailable
from relay.queue.tls_results import TlsSession

DAY = 20_000
STS = Published("sts", "d.test", "d.test", ("version: STSv1", "mode: enforce"))


class Table:
    """Keeps what it is given; refuses it while `away`."""

    def __init__(self) -> None:
        self.away = False
        self.stored: dict[TlsSession, int] = {}
        self.largest = 0

    async def add(self, counts: dict[TlsSession, int]) -> None:
        if self.away:
            raise QueueUnavailable("away")
        self.largest = max(self.largest, len(counts))
        for session, count in counts.items():
            self.stored[session] = self.stored.get(session, 0) + count


def results(metrics: Metrics | None = None) -> TlsResults:
    return TlsResults(metrics or Metrics(), lambda: DAY * 86400 + 86399.9)


async def test_sessions_are_counted_by_what_a_report_asks_for() -> None:
    counts, table = results(), Table()
    for _ in range(3):
        counts.count(STS, "sts", None, mx="mx1.d.test", address="192.0.2.1", source="192.0.2.9")
    counts.count(
        STS,
        "sts",
        Shortfall("certificate-expired", "certificate has expired"),
        mx="mx1.d.test",
        address="192.0.2.1",
        source="192.0.2.9",
    )
    counts.count(None, "verify", None, mx="mail.d.test")
    await counts.flush(table)
    text = json.dumps(["version: STSv1", "mode: enforce"])
    success = TlsSession(DAY, "d.test", "sts", "d.test", text, "mx1.d.test", "success")
    expired = success._replace(
        result="certificate-expired", reason="certificate has expired", address="192.0.2.1", source="192.0.2.9"
    )
    assert table.stored == {success: 3, expired: 1}


async def test_failures_are_in_the_metrics_by_policy() -> None:
    metrics = Metrics()
    counts = results(metrics)
    counts.count(None, "verify", Shortfall("certificate-not-trusted"))
    counts.count(STS, "sts", Shortfall("validation-failure", "mx-mismatch"))
    text = metrics.render().decode()
    assert 'srs_relay_tls_failures_total{policy="verify",result="certificate-not-trusted"} 1.0' in text
    assert 'srs_relay_tls_failures_total{policy="sts",result="validation-failure"} 1.0' in text


async def test_what_the_queue_does_not_take_is_kept_for_the_next_time() -> None:
    counts, table = results(), Table()
    counts.count(STS, "sts", None, mx="mx1.d.test")
    table.away = True
    await counts.flush(table)
    counts.count(STS, "sts", None, mx="mx1.d.test")
    table.away = False
    await counts.flush(table)
    await counts.flush(table)
    assert list(table.stored.values()) == [2]


async def test_strangers_domains_take_little_memory_and_no_session_is_forgotten(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(tls_results, "PENDING", 500)
    counts, table = results(), Table()
    for number in range(2000):
        name = f"d{number}.test"
        counts.count(Published("no-policy-found", name, name), "may", None, mx=f"mx.{name}")
    assert len(counts._pending) == 501
    await counts.flush(table)
    assert sum(table.stored.values()) == 2000
    assert table.stored[TlsSession(DAY, "", "no-policy-found", "", "", "", "success")] == 1500
    assert table.largest <= 200


async def test_a_reason_is_short_and_printable() -> None:
    counts, table = results(), Table()
    counts.count(STS, "sts", Shortfall("validation-failure", "\x1b[2J" + "x" * 500))
    await counts.flush(table)
    (session,) = table.stored
    assert len(session.reason) <= 80 and session.reason.isprintable()


@pytest.mark.parametrize(
    ("code", "result"),
    [
        (10, "certificate-expired"),
        (9, "certificate-expired"),
        (62, "certificate-host-mismatch"),
        (64, "certificate-host-mismatch"),
        (18, "certificate-not-trusted"),
        (20, "certificate-not-trusted"),
    ],
)
def test_errors_of_openssl_in_the_words_of_reports(code: int, result: str) -> None:
    error = ssl.SSLCertVerificationError(1, "certificate verify failed")
    error.verify_code, error.verify_message = code, "why"
    assert shortfall_of(error) == Shortfall(result, "why")


def test_other_failures_of_the_handshake() -> None:
    error = ssl.SSLError(1, "wrong version number")
    error.reason = "WRONG_VERSION_NUMBER"
    assert shortfall_of(error) == Shortfall("validation-failure", "WRONG_VERSION_NUMBER")
    assert shortfall_of(ConnectionResetError())[0] == "validation-failure"


async def test_a_long_policy_is_cut_after_a_whole_line() -> None:
    counts, table = results(), Table()
    text = ("version: STSv1", *(f"mx: mx{number}.d.test" for number in range(5000)))
    counts.count(Published("sts", "d.test", "d.test", text), "sts", None, mx="mx1.d.test")
    await counts.flush(table)
    (session,) = table.stored
    kept = json.loads(session.policy_text)
    assert len(session.policy_text) <= 4000 and tuple(kept) == text[: len(kept)] and len(kept) > 100


async def test_a_kind_that_is_known_is_counted_as_itself_however_many_there_are(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(tls_results, "PENDING", 1)
    counts, table = results(), Table()
    for domain in ("d.test", "e.test", "d.test"):
        counts.count(Published("no-policy-found", domain, domain), "may", None, mx="mx.test")
    await counts.flush(table)
    assert {session.domain: count for session, count in table.stored.items()} == {"d.test": 2, "": 1}
