"""Replies to rewritten authors: home to the author, whoever sends, under the rules of SRS addresses."""

from __future__ import annotations

import pytest

from relay.config.sections import SrsSection
from relay.mail.envelope import Client
from relay.mail.reply import Refused
from relay.rate import FORGERIES, Rates
from relay.route.srs_reverse import ReturnAddresses, RouteRequest, counted_as
from relay.srs.address import Scheme, Token
from relay.srs.address import forward as srs_forward
from relay.srs.reply_address import forward, forward_token

NOW = 1577836860.0
SCHEME = Scheme(domain="fwd.example", secrets=(b"tops3cr3t",))
STORED = {"id7": '"a long author"@origin.example'}
STRANGER, TRUSTED = Client("192.0.2.1", 25), Client("192.0.2.2", 25, trusted=True)
AUTHOR = "joe@origin.example"


async def lookup(token_id: str) -> str | None:
    return STORED.get(token_id)


def way_home(**srs: object) -> ReturnAddresses:
    config = SrsSection.model_validate({"domain": "fwd.example", "secrets_file": "srs.secret", **srs})
    return ReturnAddresses(config, SCHEME, Rates(config), lookup)


def reply_to(author: str = AUTHOR, scheme: Scheme = SCHEME) -> str:
    found = forward(author, scheme)
    assert not isinstance(found, Token)
    return found


async def answers(
    door: ReturnAddresses, *recipients: str, sender: str = "r@reader.example", client: Client | None = STRANGER
) -> list[str]:
    """For each recipient, of a message of its own that is taken, the target or the beginning of the reply."""
    found = []
    for recipient in recipients:
        try:
            request = RouteRequest(recipient, sender, client, NOW)
            home = await door.reverse(recipient, request)
            door.refuse_over_rate(home, request)
        except Refused as refused:
            found.append(f"{refused.reply.code} {refused.reply.enhanced}")
            continue
        assert door.count([home], sender, counted_as(client), NOW) and not home.forged
        found.append(home.address)
    return found


@pytest.mark.parametrize("sender", ["", "r@reader.example"])
@pytest.mark.parametrize("client", [STRANGER, TRUSTED, None])
@pytest.mark.parametrize(
    ("address", "author"),
    [
        (reply_to(), AUTHOR),
        (reply_to().upper(), AUTHOR.upper()),
        (f'"{reply_to().split("@")[0]}"@FWD.example', AUTHOR),
        (forward_token("id7", SCHEME), STORED["id7"]),
        (forward_token("id7", SCHEME).upper(), STORED["id7"]),
        (reply_to("SRS0=opaque=x=y=joe@hop.example"), "SRS0=opaque=x=y=joe@hop.example"),
        (reply_to(reply_to().replace("@fwd.", "@f.")), reply_to().replace("@fwd.", "@f.")),
    ],
)
async def test_home_to_the_author(address: str, author: str, sender: str, client: Client | None) -> None:
    assert await answers(way_home(), address, sender=sender, client=client) == [author]


@pytest.mark.parametrize(
    ("address", "reason"),
    [
        (reply_to().replace("joe", "jim"), "forged"),
        (reply_to(scheme=Scheme("fwd.example", (b"another",))), "forged"),
        (forward_token("id7", SCHEME).replace("id7", "id8"), "forged"),
        (forward_token("gone", SCHEME), "expired"),
        ("reply=joe@fwd.example", "malformed"),
        ("reply=unknown@fwd.example", "malformed"),
    ],
)
async def test_refused_with_the_reason(address: str, reason: str) -> None:
    for client in (STRANGER, TRUSTED, None):
        with pytest.raises(Refused) as refused:
            await way_home().reverse(address, RouteRequest(address, "r@reader.example", client, NOW))
        reply = refused.value.reply
        assert (reply.code, reply.enhanced) == (550, "5.1.1")
        assert f"<{address}>: {reason} reply address" in reply.text


async def test_a_door_for_bounces_alone_lets_replies_in() -> None:
    door = way_home(accept="null")
    assert await answers(door, reply_to(), srs_forward(AUTHOR, SCHEME, NOW)) == [AUTHOR, "550 5.7.1"]


async def test_mail_to_one_author_has_a_rate_however_it_is_addressed() -> None:
    door = way_home(reverse_rate=3)
    addresses = reply_to(), reply_to().upper(), srs_forward(AUTHOR, SCHEME, NOW), reply_to()
    assert await answers(door, *addresses) == [AUTHOR, AUTHOR.upper(), AUTHOR, "450 4.7.1"]
    assert await answers(door, reply_to("ann@origin.example")) == ["ann@origin.example"]


async def test_looking_an_address_up_uses_up_no_rate() -> None:
    door = way_home(reverse_rate=1)
    for _ in range(3):
        await door.reverse(reply_to(), RouteRequest(reply_to(), "r@reader.example", STRANGER, NOW))
    assert await answers(door, reply_to()) == [AUTHOR]


async def test_forgeries_of_replies_and_of_srs_addresses_count_together() -> None:
    door = way_home()
    bad = reply_to().replace("joe", "jim")
    half = [bad] * (FORGERIES // 2), [srs_forward(AUTHOR, SCHEME, NOW).replace("joe", "jim")] * (FORGERIES // 2)
    assert await answers(door, *half[0], *half[1]) == ["550 5.1.1"] * FORGERIES
    later = "450 4.7.1"
    found = await answers(door, bad, reply_to(), "reply=unknown@fwd.example", srs_forward(AUTHOR, SCHEME, NOW))
    assert found == [later, AUTHOR, later, later], "no reply address is found by guessing: a good one is taken"
    assert await answers(door, reply_to(), client=Client("192.0.2.3", 25)) == [AUTHOR]
    assert await answers(door, *[bad] * FORGERIES, client=TRUSTED) == ["550 5.1.1"] * FORGERIES
