"""Adds up a profile by the stages of a message's way: pure arithmetic on what `pstats` reads.

A function of ours, or of a library that one stage alone uses, counts for that stage. What everybody uses (built-in
functions, `re`, `dataclasses` …) counts for the stages that call it, in the proportion of the time they make it spend.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

Function = tuple[str, int, str]  # file, line, name, as in a profile; built-in functions have the file "~"
Stats = Mapping[Function, tuple[int, int, float, float, Mapping[Function, Any]]]

INCOMING, CHECKS, INTAKE, QUEUE = "incoming dialogue", "checks", "intake, routes, rewriting", "queue"
SIGNING, RSA, OUTGOING, MESSAGE = "signing without RSA", "RSA", "outgoing dialogue", "message, addresses, replies"
LOG, SENDS, TASKS = "log and metrics", "send() of replies and mail", "tasks and timers"
STAGES = (INCOMING, CHECKS, INTAKE, QUEUE, OUTGOING, SIGNING, RSA, MESSAGE, LOG, SENDS, TASKS)

_OURS = {
    "receive": INCOMING,
    "accounts": INCOMING,
    "authenticate": CHECKS,
    "dns.py": CHECKS,
    "intake": INTAKE,
    "route": INTAKE,
    "rewrite": INTAKE,
    "srs": INTAKE,
    "rate.py": INTAKE,
    "known_clients.py": INTAKE,
    "network.py": INTAKE,
    "queue": QUEUE,
    "deliver": OUTGOING,
    "bounce": OUTGOING,
    "transport_security": OUTGOING,
    "sending_addresses.py": OUTGOING,
    "config": OUTGOING,
    "sign": SIGNING,
    "mail": MESSAGE,
    "log": LOG,
    "metrics.py": LOG,
    "process": TASKS,
    "cli": TASKS,
}
_LIBRARIES = {
    "spf.py": CHECKS,
    "dns": CHECKS,
    "greenlet": CHECKS,
    "sqlalchemy": QUEUE,
    "sqlite3": QUEUE,
    "asyncpg": QUEUE,
    "aiosmtplib": OUTGOING,
    "structlog": LOG,
    "orjson": LOG,
    "asyncio": TASKS,
    "uvloop": TASKS,
}
# The functions whose own time is that of the transport's write(), and so of the system call.
_SENDING = {
    ("relay/receive/stream.py", "_send"),
    ("relay/receive/stream.py", "flush"),
    ("aiosmtplib/protocol.py", "write"),
}


@dataclass(slots=True)
class Cost:
    """What one stage costs.

    Attributes:
        seconds: under the profiler, without what the functions call.
        python, builtin: calls of functions in Python, and of built-in ones.
    """

    seconds: float = 0.0
    python: float = 0.0
    builtin: float = 0.0


def by_stage(stats: Stats) -> dict[str, Cost]:
    """The cost of each stage."""
    return _Adding(stats).costs()


class _Adding:
    def __init__(self, stats: Stats) -> None:
        self._stats = stats
        self._shares: dict[Function, Mapping[str, float]] = {}

    def costs(self) -> dict[str, Cost]:
        costs = {stage: Cost() for stage in STAGES}
        for function, (_, calls, own, _, callers) in self._stats.items():
            weights = {caller: (each[2], each[0]) for caller, each in callers.items()}
            for stage, share in self._split(function, {by: time for by, (time, _) in weights.items()}).items():
                costs[stage].seconds += own * share
            for stage, share in self._split(function, {by: count for by, (_, count) in weights.items()}).items():
                if function[0] == "~":
                    costs[stage].builtin += calls * share
                else:
                    costs[stage].python += calls * share
        return costs

    def _split(self, function: Function, callers: Mapping[Function, float]) -> Mapping[str, float]:
        """The stages that a function counts for, with their shares, which add up to one."""
        if stage := stage_of(function):
            return {stage: 1.0}
        total = sum(callers.values())
        if not total:
            callers, total = dict.fromkeys(callers, 1.0), len(callers)
        shares: dict[str, float] = defaultdict(float)
        for caller, weight in callers.items():
            for stage, share in self._of_caller(caller).items():
                shares[stage] += share * weight / total
        return shares or {TASKS: 1.0}  # the loop itself has called it

    def _of_caller(self, function: Function) -> Mapping[str, float]:
        if function not in self._shares:
            self._shares[function] = {TASKS: 1.0}  # for a circle of calls that no stage has begun
            callers = self._stats[function][4] if function in self._stats else {}
            self._shares[function] = self._split(function, {by: each[3] for by, each in callers.items()})
        return self._shares[function]


def stage_of(function: Function) -> str:
    """The stage that a function belongs to; empty where it depends on who calls it."""
    file, _, name = function
    if file == "~":
        if "RSAPrivateKey" in name or "RSAPublicKey" in name:
            return RSA
        return QUEUE if "sqlite3" in name else ""
    for folder in ("/relay/", "/site-packages/", "/dist-packages/", "/lib/"):
        _, found, inside = file.rpartition(folder)
        if found:
            break
    else:
        return ""
    if folder == "/relay/":
        return SENDS if (f"relay/{inside}", name) in _SENDING else _OURS.get(inside.partition("/")[0], "")
    if folder == "/lib/":
        inside = inside.partition("/")[2]  # below python3.11
    return SENDS if (inside, name) in _SENDING else _LIBRARIES.get(inside.partition("/")[0], "")
