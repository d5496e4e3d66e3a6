"""SRS recipients: home to the sender, refused with the reason, and never faster than the rates."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from relay.config.sections import SrsSection
from relay.mail.envelope import Client
from relay.mail.reply import Refused
from relay.rate import CLIENTS, FORGERIES, Rates
from relay.route.srs_reverse import ReturnAddresses, RouteRequest, counted_as
from relay.srs import reply_address as replies
from relay.srs.address import Scheme, SrsError, forward, forward_token

NOW = 1577836860.0
DAY = 86400
SCHEME = Scheme(domain="fwd.example", secrets=(b"tops3cr3t",))
STORED = {"id7": "a-very-long-sender@origin.example"}
STRANGER, TRUSTED = Client("192.0.2.1", 25), Client("192.0.2.2", 25, trusted=True)


async def lookup(token_id: str) -> str | None:
    return STORED.get(token_id)


def bounces(lookup: Callable[[str], Any] = lookup, **srs: object) -> ReturnAddresses:
    config = SrsSection.model_validate({"domain": "fwd.example", "secrets_file": "srs.secret", **srs})
    return ReturnAddresses(config, SCHEME, Rates(config), lookup)


def forwarded(sender: str, age: int = 0) -> str:
    return forward(sender, SCHEME, NOW - age * DAY)


def forged(number: int = 0) -> str:
    """One of many addresses that lack the right hash."""
    tag, _, rest = forwarded(f"joe{number}@origin.example").partition("=")
    return f"{tag}=AAAA{rest[4:]}"


async def answers(
    door: ReturnAddresses, *recipients: str, sender: str = "", client: Client | None = STRANGER, now: float = NOW
) -> list[str]:
    """For each recipient, of a message of its own that is taken, the target or the beginning of the reply."""
    found = []
    for recipient in recipients:
        try:
            request = RouteRequest(recipient, sender, client, now)
            home = await door.reverse(recipient, request)
            door.refuse_over_rate(home, request)
        except Refused as refused:
            found.append(f"{refused.reply.code} {refused.reply.enhanced}")
            continue
        if client is not None:
            assert door.count([home], sender, counted_as(client), now)
        found.append("nowhere" if home.forged else home.address)
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
        await bounces().reverse(address, RouteRequest(address, "", STRANGER, NOW))
    reply = refused.value.reply
    assert (reply.code, reply.enhanced) == (550, "5.1.1")
    assert reason in reply.text and f"<{address}>" in reply.text


# rates


OTHERS = [Client(f"198.51.100.{number}", 25) for number in range(1, 10)]
JOE, LATER = "joe@origin.example", "450 4.7.1"


async def test_mail_and_bounces_to_one_sender_have_a_rate_each() -> None:
    door = bounces(reverse_rate=2, bounce_rate=3)
    joe, ann = forwarded(JOE), forwarded("ann@origin.example")
    assert await answers(door, joe, joe.lower(), joe, sender="s@sender.example") == [JOE, JOE, LATER]
    assert await answers(door, forwarded("JOE@origin.example", age=1), sender="t@else.example") == [LATER]
    assert await answers(door, *[joe] * 4) == [JOE, JOE, JOE, LATER]
    assert await answers(door, ann) == ["ann@origin.example"]
    assert await answers(door, joe, now=NOW + 20) == [JOE]


async def test_no_client_uses_up_the_rate_of_another_and_all_together_have_one() -> None:
    door = bounces(bounce_rate=3)
    joe = forwarded(JOE)
    for client in OTHERS[:CLIENTS]:
        assert await answers(door, *[joe] * 4, client=client) == [JOE, JOE, JOE, LATER]
    assert await answers(door, joe, client=OTHERS[CLIENTS]) == [LATER]
    assert await answers(door, joe, client=TRUSTED) == [LATER]
    assert await answers(door, joe, client=OTHERS[CLIENTS], now=NOW + 20) == [JOE]


async def test_only_messages_count_and_each_once_for_everybody_it_is_for() -> None:
    door = bounces(reverse_rate=2)
    sender = "s@sender.example"
    recipients = forwarded(JOE), forwarded("JOE@origin.example"), forwarded("ann@origin.example")
    for _ in range(100):
        homes = [await door.reverse(one, RouteRequest(one, sender, STRANGER, NOW)) for one in recipients]
    assert door.count(homes, sender, counted_as(STRANGER), NOW)
    assert await answers(door, recipients[0], recipients[0], sender=sender) == [JOE, LATER]
    assert not door.count(homes, sender, counted_as(STRANGER), NOW)
    assert await answers(door, recipients[2], sender=sender) == ["ann@origin.example"], "what was refused is free"


async def test_mail_of_our_own_is_never_held_up() -> None:
    joe = forwarded("joe@origin.example")
    assert await answers(bounces(bounce_rate=1), *[joe] * 5, client=None) == ["joe@origin.example"] * 5


async def guessed(door: ReturnAddresses, count: int = FORGERIES, client: Client = STRANGER) -> ReturnAddresses:
    """The door, after a client has tried so many forged addresses."""
    assert await answers(door, *map(forged, range(count)), client=client) == ["550 5.1.1"] * count
    return door


async def test_a_client_that_makes_up_addresses_learns_nothing_any_more() -> None:
    door = await guessed(bounces(forged_rate=2))
    good = forwarded(JOE)
    assert (
        await answers(
            door, forged(), good, "SRS0=junk@fwd.example", forwarded("joe@x.example", age=30), sender="s@x.example"
        )
        == [LATER] * 4
    )
    assert await answers(door, good, client=Client("192.0.2.3", 25), sender="s@x.example") == [JOE], "another client"
    assert await answers(door, good, forged(), good, forged(), now=NOW + 30, sender="s@x.example") == [
        JOE,
        "550 5.1.1",
        LATER,
        LATER,
    ]


async def test_past_the_rate_a_bounce_is_taken_whether_its_address_is_good_or_forged() -> None:
    door = await guessed(bounces())
    assert await answers(door, forwarded(JOE), forged()) == [JOE, "nowhere"]
    token = forward_token("id7", SCHEME, NOW)
    assert await answers(door, token, token[:5] + "AAAA" + token[9:]) == [STORED["id7"], "nowhere"]


SAME = [
    (forwarded(JOE), forged()),
    (forwarded(JOE, age=22), forwarded(JOE, age=22).replace("joe", "jim")),
    (forwarded(JOE).replace("=", "=====", 1), forwarded(JOE).replace("joe", "jim").replace("=", "=====", 1)),
    (forward_token("gone", SCHEME, NOW), forward_token("gone", SCHEME, NOW).replace("SRS0=", "SRS0=A")),
    ("SRS0=junk@fwd.example", "SRS0=more=junk@fwd.example"),
    (
        forwarded("SRS1=HHHH=fwd.example==AAAA=2W=origin.example=joe@hop.example"),
        "SRS1=AAAA=fwd.example==AAAA=2W=origin.example=joe@fwd.example",
    ),
]


@pytest.mark.parametrize(("good", "bad"), SAME)
@pytest.mark.parametrize("sender", ["", "s@sender.example"])
async def test_past_the_rate_the_reply_is_the_same_for_good_and_bad(good: str, bad: str, sender: str) -> None:
    """Also where the address is expired or malformed: whether its hash is right is not told."""

    async def reply(address: str) -> str:
        try:
            request = RouteRequest(address, sender, STRANGER, NOW)
            door.refuse_over_rate(await door.reverse(address, request), request)
        except Refused as refused:
            return str(refused.reply).replace(address, "")
        return ""

    door = await guessed(bounces())
    assert await reply(good) == await reply(bad)


async def test_past_the_rate_the_rates_of_bounces_hold_for_good_and_bad_alike() -> None:
    """So that a full rate tells nothing; and no forged address fills the rate of the person whom it names."""
    for address in (forwarded(JOE), forged()):
        door = await guessed(bounces(bounce_rate=2))
        (first, second, third) = await answers(door, *[address] * 3)
        assert first == second and third == LATER
    door = await guessed(bounces(bounce_rate=2))
    homes = [await door.reverse(one, RouteRequest(one, "", STRANGER, NOW)) for one in map(forged, range(3))]
    assert not door.count(homes, "", counted_as(STRANGER), NOW), "each guess counts, also of one message"
    door = await guessed(bounces(bounce_rate=2))
    await answers(door, forged(), forged())
    assert await answers(door, *[forwarded("joe0@origin.example")] * 2, client=OTHERS[0]) == ["joe0@origin.example"] * 2


@pytest.mark.parametrize("sender", ["", "s@sender.example"])
async def test_an_address_that_nobody_can_guess_is_judged_as_it_is(sender: str) -> None:
    long = Scheme(domain="fwd.example", secrets=SCHEME.secrets, hash_length=8)
    door = await guessed(bounces())
    good, reply = forward(JOE, long, NOW), str(replies.forward(JOE, SCHEME))
    for bad in (good.replace("joe", "jim"), reply.replace("joe", "jim")):
        assert await answers(door, good, bad, reply, sender=sender) == [JOE, LATER, JOE]


async def test_a_long_hash_around_a_short_one_tells_nothing_of_that_one() -> None:
    """Anybody can have us sign an SRS1 over what he likes."""
    long = Scheme(domain="fwd.example", secrets=SCHEME.secrets, hash_length=8)
    inner = forwarded(JOE).removesuffix("@fwd.example")
    door = await guessed(bounces())
    for guess, home in ((inner, JOE), (inner.replace("joe", "jim"), "nowhere")):
        signed = forward(f"SRS1=HHHH=fwd.example={guess[4:]}@evil.example", long, NOW)
        assert await answers(door, signed) == [home]
        assert await answers(door, signed, sender="s@sender.example") == [LATER]


async def test_what_is_not_forged_does_not_count() -> None:
    door = bounces()
    others = [forwarded("joe@origin.example"), forwarded("joe@origin.example", age=30), "SRS0=junk@fwd.example"]
    for _ in range(FORGERIES):
        await answers(door, *others)
    assert await answers(door, others[0]) == ["joe@origin.example"]


async def test_an_ipv6_client_is_its_network() -> None:
    door = bounces()
    await answers(door, *[forged()] * FORGERIES, client=Client("2001:db8:0:1::1", 25))
    assert await answers(door, forged(), client=Client("2001:db8:0:1:ffff::2", 25)) == ["nowhere"]
    assert await answers(door, forged(), client=Client("2001:db8:0:2::1", 25)) == ["550 5.1.1"]


async def test_trusted_clients_may_be_wrong_as_often_as_they_like() -> None:
    assert await answers(bounces(), *[forged()] * 100, client=TRUSTED) == ["550 5.1.1"] * 100
