"""How a profile is added up by stages."""

from __future__ import annotations

import pytest

from bench import profile, stages
from bench.profiled_relay import CALLS, added_to_a_call
from bench.running_relay import ROOT
from bench.stages import Function, by_stage, stage_of

SESSION: Function = ("/srv/relay/checkout/relay/receive/session.py", 58, "run")
STORE: Function = ("/usr/lib/python3/site-packages/relay/queue/store.py", 10, "apply")
LENGTH: Function = ("~", 0, "<built-in method builtins.len>")
REPLACE: Function = ("/usr/lib/python3.11/dataclasses.py", 1443, "replace")


@pytest.mark.parametrize(
    ("file", "name", "stage"),
    [
        ("/home/relay/tree/relay/receive/session.py", "run", stages.INCOMING),
        ("/home/relay/tree/relay/receive/stream.py", "_send", stages.SENDS),
        ("/opt/venv/lib/python3.11/site-packages/relay/dns.py", "query", stages.CHECKS),
        ("/opt/venv/lib/python3.13/site-packages/aiosmtplib/protocol.py", "write", stages.SENDS),
        ("/opt/venv/lib/python3.13/site-packages/aiosmtplib/protocol.py", "execute", stages.OUTGOING),
        ("/usr/lib/python3/dist-packages/structlog/_base.py", "bind", stages.LOG),
        ("/usr/lib/python3.11/asyncio/tasks.py", "gather", stages.TASKS),
        ("/usr/lib/python3.11/dataclasses.py", "replace", ""),
        ("/usr/lib/python3.11/email/utils.py", "parseaddr", ""),
        ("~", "<method 'sign' of 'cryptography.hazmat.bindings._rust.openssl.rsa.RSAPrivateKey' objects>", stages.RSA),
        ("~", "<method 'commit' of 'sqlite3.Connection' objects>", stages.QUEUE),
        ("~", "<built-in method builtins.len>", ""),
        ("<string>", "__init__", ""),
    ],
)
def test_a_file_belongs_to_a_stage(file: str, name: str, stage: str) -> None:
    assert stage_of((file, 1, name)) == stage


def test_what_sends_is_called_so_in_the_relay() -> None:
    """A function that gets another name would count for the dialogue, and nobody would notice."""
    source = (ROOT / "relay" / "receive" / "stream.py").read_text()
    names = [name for file, name in stages._SENDING if file == "relay/receive/stream.py"]
    assert any(f"def {name}(" in source for name in names)


STATS: stages.Stats = {
    SESSION: (10, 10, 1.0, 3.0, {}),
    STORE: (5, 5, 2.0, 4.0, {SESSION: (5, 5, 2.0, 4.0)}),
    REPLACE: (4, 4, 0.4, 0.8, {SESSION: (1, 1, 0.1, 0.2), STORE: (3, 3, 0.3, 0.6)}),
    LENGTH: (8, 8, 0.8, 0.8, {SESSION: (4, 4, 0.4, 0.4), REPLACE: (4, 4, 0.4, 0.4)}),
}


def test_what_everybody_uses_counts_for_its_callers() -> None:
    costs = by_stage(STATS)
    incoming, queue = costs[stages.INCOMING], costs[stages.QUEUE]
    assert incoming.seconds == pytest.approx(1.0 + 0.1 + 0.4 + 0.1)  # a quarter of what `replace` uses is its own
    assert queue.seconds == pytest.approx(2.0 + 0.3 + 0.3)
    assert (incoming.python, queue.python) == pytest.approx((11, 8))
    assert (incoming.builtin, queue.builtin) == pytest.approx((5, 3))


def test_nothing_is_lost_or_counted_twice() -> None:
    costs = by_stage(STATS).values()
    assert sum(cost.seconds for cost in costs) == pytest.approx(sum(own for _, _, own, *_ in STATS.values()))
    assert sum(cost.python + cost.builtin for cost in costs) == pytest.approx(27)


def test_what_only_calls_itself_counts_for_the_loop() -> None:
    first: Function = ("/usr/lib/python3.11/copy.py", 1, "deepcopy")
    second: Function = ("/usr/lib/python3.11/copy.py", 2, "_deepcopy_dict")
    stats = {
        first: (1, 1, 0.5, 1.0, {second: (1, 1, 0.5, 0.5)}),
        second: (1, 1, 0.5, 1.0, {first: (1, 1, 0.5, 0.5)}),
    }
    assert by_stage(stats)[stages.TASKS].seconds == pytest.approx(1.0)


def test_what_the_profiler_adds_is_taken_off() -> None:
    rows = profile.in_milliseconds(STATS, messages=100, python=0.01, builtin=0.02)
    assert rows[stages.INCOMING].ms == pytest.approx((1.6 - 11 * 0.01 - 5 * 0.02) * 10)
    assert rows[stages.INCOMING].calls == pytest.approx(0.16)
    assert profile.in_milliseconds(STATS, 100, 1.0, 1.0)[stages.INCOMING].ms == 0.0


def test_stages_are_scaled_to_what_the_relay_uses_without_the_profiler() -> None:
    rows = {"checks": profile.Row(1.0, 700), "queue": profile.Row(3.0, 300)}
    assert profile.scaled(rows, 2.0) == {"checks": profile.Row(0.5, 700), "queue": profile.Row(1.5, 300)}
    assert profile.scaled({"checks": profile.Row(0.0, 0)}, 2.0) == {"checks": profile.Row(0.0, 0)}


def test_the_table_has_two_columns_for_each_relay() -> None:
    before = profile.Profile({"checks": profile.Row(0.5, 700), "queue": profile.Row(1.0, 300)}, [], 0.0)
    after = profile.Profile({"checks": profile.Row(0.25, 350), "queue": profile.Row(0.5, 100)}, [], 0.0)
    rows = [line.split() for line in profile.table([before, after]).splitlines()]
    assert rows[1:] == [
        ["checks", "0.500", "700", "0.250", "350"],
        ["queue", "1.000", "300", "0.500", "100"],
        ["all", "1.500", "1000", "0.750", "450"],
    ]


def test_a_profiled_call_is_dearer() -> None:
    def calls() -> None:
        for _ in range(CALLS):
            len(())

    assert 0 < added_to_a_call(calls) < 1e-4
