"""SRS recipients: home to the sender, refused with the reason, and never faster than the rate."""

from __future__ import annotations

import pytest

from relay.reply import Refused
from relay.rewrite.srs import Scheme, forward, forward_token
from relay.route import bounces
from relay.route.bounces import ReverseLimiter, bounce_target

NOW = 1577836860.0
DAY = 86400
SCHEME = Scheme(domain="fwd.example", secrets=(b"tops3cr3t",))
STORED = {"id7": "a-very-long-sender@origin.example"}


async def lookup(token_id: str) -> str | None:
    return STORED.get(token_id)


def forwarded(sender: str, age: int = 0) -> str:
    return forward(sender, SCHEME, NOW - age * DAY)


@pytest.mark.parametrize(
    ("address", "target"),
    [
        (forwarded("joe@origin.example"), "joe@origin.example"),
        (forwarded("joe@origin.example").lower(), "joe@origin.example"),
        (forwarded("joe@origin.example", age=21), "joe@origin.example"),
        (forwarded("SRS0=opaque=x=y=joe@hop.example"), "SRS0=opaque=x=y=joe@hop.example"),
        (forwarded("SRS1=HHHH=first.example==opaque@hop.example"), "SRS0=opaque@first.example"),
        (forward_token("id7", SCHEME, NOW), STORED["id7"]),
    ],
)
async def test_home(address: str, target: str) -> None:
    assert await bounce_target(address, SCHEME, NOW, lookup) == target


@pytest.mark.parametrize(
    ("address", "reason"),
    [
        (forwarded("joe@origin.example").replace("joe", "jim"), "forged"),
        (forward("joe@origin.example", Scheme("fwd.example", (b"another",)), NOW), "forged"),
        (forwarded("joe@origin.example", age=22), "expired"),
        (forwarded("joe@origin.example", age=-1), "expired"),
        ("SRS0=joe@fwd.example", "malformed"),
        ("SRS1=x=y@fwd.example", "malformed"),
        (forward_token("gone", SCHEME, NOW), "expired"),
        (forward_token("id7", SCHEME, NOW - 22 * DAY), "expired"),
        (forward_token("id7", SCHEME, NOW).replace("id7", "id8"), "forged"),
    ],
)
async def test_refused_with_the_reason(address: str, reason: str) -> None:
    with pytest.raises(Refused) as refused:
        await bounce_target(address, SCHEME, NOW, lookup)
    reply = refused.value.reply
    assert (reply.code, reply.enhanced) == (550, "5.1.1")
    assert reason in reply.text


def admitted(limiter: ReverseLimiter, sender: str, now: float, tries: int = 100) -> int:
    count = 0
    for _ in range(tries):
        try:
            limiter.admit(sender, now)
        except Refused as refused:
            assert (refused.reply.code, refused.reply.enhanced) == (450, "4.7.1")
        else:
            count += 1
    return count


def test_the_rate_is_a_minutes_worth_refilled_evenly() -> None:
    limiter = ReverseLimiter(per_minute=6)
    assert admitted(limiter, "joe@origin.example", NOW) == 6
    assert admitted(limiter, "JOE@origin.example", NOW + 9) == 0
    assert admitted(limiter, "joe@origin.example", NOW + 10) == 1
    assert admitted(limiter, "ann@origin.example", NOW + 10) == 6
    assert admitted(limiter, "joe@origin.example", NOW + 1000) == 6


def test_a_clock_that_jumps_back_gives_nothing_away() -> None:
    limiter = ReverseLimiter(per_minute=6)
    assert admitted(limiter, "joe@origin.example", NOW) == 6
    assert admitted(limiter, "joe@origin.example", NOW - 3600) == 0
    assert admitted(limiter, "joe@origin.example", NOW - 3600 + 10) == 1


def test_the_limiter_forgets_who_was_written_to_longest_ago(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounces, "TRACKED", 2)
    limiter = ReverseLimiter(per_minute=1)
    for sender in ("a@x.example", "b@x.example", "a@x.example", "c@x.example"):
        admitted(limiter, sender, NOW, tries=1)
    assert admitted(limiter, "a@x.example", NOW) == 0
    assert admitted(limiter, "b@x.example", NOW) == 1
