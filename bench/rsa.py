"""What RSA costs a message: the part of its processor time that no code of ours can change.

The costs of one signature and of one check are measured in this process, right beside the load, because a machine's
speed changes from minute to minute. How many a message needs is read from one message as it arrives.
"""

from __future__ import annotations

import asyncio
import re
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key

from bench.load import Workload, content_of, pushing
from bench.running_relay import relay
from bench.sink import OwnSink

ROUNDS, TIMES = 9, 50
_OURS = re.compile(rb"^(?:DKIM-Signature|ARC-Message-Signature|ARC-Seal):(?:.|\r\n[ \t])*?\bd=fwd\.test;", re.M)
_DATA = b"x" * 1500  # about as many octets as the canonical header of a message


@dataclass(frozen=True, slots=True)
class RsaCost:
    """Milliseconds of processor time, with RSA-2048 and SHA-256."""

    signature: float
    check: float


@dataclass(frozen=True, slots=True)
class Operations:
    """How many of them a message needs."""

    signatures: int
    checks: int

    def cost(self, rsa: RsaCost) -> float:
        """Milliseconds of processor time a message."""
        return self.signatures * rsa.signature + self.checks * rsa.check


def measure() -> RsaCost:
    """What one of each costs now."""
    private = generate_private_key(65537, 2048)
    public, padding, digest = private.public_key(), PKCS1v15(), hashes.SHA256()
    signature = private.sign(_DATA, padding, digest)
    return RsaCost(
        _median(lambda: private.sign(_DATA, padding, digest)),
        _median(lambda: public.verify(signature, _DATA, padding, digest)),
    )


def _median(work: Callable[[], object]) -> float:
    rounds = []
    for _ in range(ROUNDS):
        began = time.thread_time()
        for _ in range(TIMES):
            work()
        rounds.append((time.thread_time() - began) / TIMES * 1000)
    return statistics.median(rounds)


async def operations(workload: Workload, settings: Sequence[str]) -> Operations:
    """How many a message of a workload needs, from the third one that arrives: the first may go another way."""
    came: list[bytes] = []
    sink = OwnSink(lambda address, recipients, content: came.append(content))
    port = await sink.start()
    async with (
        content_of(workload) as content,
        relay(port, signed=workload.signed, settings=settings) as running,
        asyncio.timeout(30),
    ):
        await (await pushing(running.port, 1, 3, content)).wait()
        await sink.reach(3)
    sink.stop()
    return Operations(made_by_us(came[2]), int(workload.signed))


def made_by_us(content: bytes) -> int:
    """How many RSA signatures the relay has put on a message: DKIM, and those of an ARC set."""
    return len(_OURS.findall(content.partition(b"\r\n\r\n")[0] + b"\r\n"))
