"""SRS recipients: home to the sender, refused with the reason, and never faster than the rates."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from relay.config_sections import Srs
from relay.message import Client
from relay.rate import FORGERIES, Rates
from relay.reply import Refused
from relay.rewrite.srs import Scheme, SrsError, forward, forward_token
from relay.route.bounces import Question, WayHome

NOW = 1577836860.0
DAY = 86400
SCHEME = Scheme(domain="fwd.example", secrets=(b"tops3cr3t",))
STORED = {"id7": "a-very-long-sender@origin.example"}
STRANGER, TRUSTED = Client("192.0.2.1", 25), Client("192.0.2.2", 25, trusted=True)


async def lookup(token_id: str) -> str | None:
    return STORED.get(token_id)


def bounces(lookup: Callable[[str], Any] = lookup, **srs: object) -> WayHome:
    config = Srs.model_validate({"domain": "fwd.example", "secrets_file": "srs.secret", **srs})
    return WayHome(config, SCHEME, Rates(config), lookup)


def forwarded(sender: str, age: int = 0) -> str:
    return forward(sender, SCHEME, NOW - age * DAY)


def forged(number: int = 0) -> str:
    """One of many addresses that lack the right hash."""
    tag, _, rest = forwarded(f"joe{number}@origin.example").partition("=")
    return f"{tag}=AAAA{rest[4:]}"


async def answers(
    door: WayHome, *recipients: str, sender: str = "", client: Client | None = STRANGER, now: float = NOW
) -> list[str]:
    """For each recipient the target, or the beginning of the reply."""
    found = []
    for recipient in recipients:
        try:
            found.append(await door.admit(recipient, Question(recipient, sender, client, now)))
        except Refused as refused:
            found.append(f"{refused.reply.code} {refused.reply.enhanced}")
    return found


@pytest.mark.parametrize(
    ("address", "target"),
    [
        (forwarded("joe@origin.example"), "joe@origin.example"),
        (forwarded("joe@origin.example").lower(), "joe@origin.example"),
        (forwarded("joe@origin.example", age=21), "joe@origin.example"),
        (forwarded("SRS0=opaque=x=y=joe@hop.example"), "SRS0=opaque=x=y=joe@hop.example"),
        (forwarded("SRS1=HHHH=first.example==opaque@hop.example"), "SRS0=opaque@first.example"),
        (forwarded(forwarded("joe@origin.example").replace("@fwd.", "@hop.")), None),
        (forward_token("id7", SCHEME, NOW), STORED["id7"]),
    ],
)
async def test_home(address: str, target: str | None) -> None:
    assert await bounces().target(address, NOW) == (target or forwarded("joe@origin.example").replace("@fwd.", "@hop."))


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
        (forwarded("SRS1=HHHH=fwd.example==AAAA=2W=origin.example=joe@hop.example"), "forged"),
    ],
)
async def test_refused_with_the_reason(address: str, reason: str) -> None:
    with pytest.raises(SrsError, match=reason):
        await bounces().target(address, NOW)
    with pytest.raises(Refused) as refused:
        await bounces().admit(address, Question(address, "", STRANGER, NOW))
    reply = refused.value.reply
    assert (reply.code, reply.enhanced) == (550, "5.1.1")
    assert reason in reply.text and f"<{address}>" in reply.text


# rates


async def test_mail_and_bounces_to_one_sender_have_a_rate_each() -> None:
    door = bounces(reverse_rate=2, bounce_rate=3)
    joe, ann = forwarded("joe@origin.example"), forwarded("ann@origin.example")
    home, later = "joe@origin.example", "450 4.7.1"
    assert await answers(door, joe, joe.lower(), joe, sender="s@sender.example") == [home, home, later]
    assert await answers(door, forwarded("JOE@origin.example", age=1), sender="t@else.example", client=TRUSTED) == [
        later
    ]
    assert await answers(door, *[joe] * 4) == [home, home, home, later]
    assert await answers(door, ann) == ["ann@origin.example"]
    assert await answers(door, joe, now=NOW + 20) == [home]


async def test_mail_of_our_own_is_never_held_up() -> None:
    joe = forwarded("joe@origin.example")
    assert await answers(bounces(bounce_rate=1), *[joe] * 5, client=None) == ["joe@origin.example"] * 5


async def test_a_client_that_makes_up_addresses_learns_nothing_any_more() -> None:
    door = bounces(forged_rate=2)
    good = forwarded("joe@origin.example")
    guesses = [forged(number) for number in range(FORGERIES)]
    assert await answers(door, *guesses) == ["550 5.1.1"] * FORGERIES
    assert (
        await answers(door, forged(), good, "SRS0=junk@fwd.example", forwarded("joe@x.example", age=30))
        == ["450 4.7.1"] * 4
    )
    assert await answers(door, good, client=Client("192.0.2.3", 25)) == ["joe@origin.example"], "another client"
    assert await answers(door, good, forged(), good, forged(), now=NOW + 30) == [
        "joe@origin.example",
        "550 5.1.1",
        "450 4.7.1",
        "450 4.7.1",
    ]


async def test_what_is_not_forged_does_not_count() -> None:
    door = bounces()
    others = [forwarded("joe@origin.example"), forwarded("joe@origin.example", age=30), "SRS0=junk@fwd.example"]
    for _ in range(FORGERIES):
        await answers(door, *others)
    assert await answers(door, others[0]) == ["joe@origin.example"]


async def test_an_ipv6_client_is_its_network() -> None:
    door = bounces()
    await answers(door, *[forged()] * FORGERIES, client=Client("2001:db8:0:1::1", 25))
    assert await answers(door, forged(), client=Client("2001:db8:0:1:ffff::2", 25)) == ["450 4.7.1"]
    assert await answers(door, forged(), client=Client("2001:db8:0:2::1", 25)) == ["550 5.1.1"]


async def test_trusted_clients_may_be_wrong_as_often_as_they_like() -> None:
    assert await answers(bounces(), *[forged()] * 100, client=TRUSTED) == ["550 5.1.1"] * 100
