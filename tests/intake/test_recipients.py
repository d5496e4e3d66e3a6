"""Where recipients lead, for clients and for messages of our own."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from relay.intake.recipients import Recipients
from relay.mail.reply import Refused
from relay.route.router import Routed, Target
from relay.route.srs_reverse import RouteRequest
from relay.srs.address import forward
from relay.srs.reply_address import reply_addresses
from tests.intake.arriving import CLIENT, FORGER, JOE, House


async def keep(author: str, token: str) -> str:
    return token


def counts(house: House) -> tuple[float, ...]:
    """Reversed and rejected SRS addresses, then reply addresses."""
    steps = ("reversed", "rejected")
    srs = (house.count(f'srs_addresses_total{{step="{step}"}}') for step in steps)
    return (*srs, *(house.count(f'reply_addresses_total{{step="{step}"}}') for step in steps))


async def test_a_sender_elsewhere_is_where_the_address_says(tmp_path: Path) -> None:
    house = House(tmp_path)
    assert await house.stages.recipients.targets_of_sender(JOE) == (Target(JOE),)
    assert counts(house) == (0, 0, 0, 0)


async def test_a_sender_of_ours_is_behind_the_alias(tmp_path: Path) -> None:
    house = House(tmp_path)
    targets = await house.stages.recipients.targets_of_sender("team@fwd.test")
    assert [target.address for target in targets] == ["carol@mailbox.test", "eve@mailbox.test"]


async def test_a_sender_whose_mail_would_be_refused_is_nowhere(tmp_path: Path) -> None:
    house = House(tmp_path)
    with capture_logs() as lines:
        assert await house.stages.recipients.targets_of_sender("nobody@fwd.test") == ()
    (line,) = lines
    assert (line["event"], line["sender"]) == ("sender_unreachable", "nobody@fwd.test")
    assert line["reply"].startswith("550 5.1.1 ")


async def test_a_sender_behind_a_return_address_is_counted(tmp_path: Path) -> None:
    house = House(tmp_path)
    address = forward(JOE, house.files.scheme, time.time())
    assert await house.stages.recipients.targets_of_sender(address) == (Target(JOE),)
    assert counts(house) == (1, 0, 0, 0)
    assert await house.stages.recipients.targets_of_sender(address.replace("=joe@", "=eve@")) == ()
    assert counts(house) == (1, 1, 0, 0)


async def routed_as(recipients: Recipients, request: RouteRequest) -> Routed:
    """Both steps of a RCPT."""
    return await recipients.router.route(request, await recipients.router.reverse(request))


async def test_the_router_decides_for_clients(tmp_path: Path) -> None:
    house = House(tmp_path)
    recipients, now = house.stages.recipients, time.time()
    routed = await routed_as(recipients, RouteRequest("alice@fwd.test", JOE, CLIENT, now))
    assert routed.targets == (Target("carol@mailbox.test"),)
    with pytest.raises(Refused, match="relaying denied"):
        await routed_as(recipients, RouteRequest("anyone@d.test", JOE, CLIENT, now))


async def test_accepted_and_refused_return_addresses_are_counted_and_nothing_else(tmp_path: Path) -> None:
    house = House(tmp_path)
    recipients, now = house.stages.recipients, time.time()
    srs = forward(JOE, house.files.scheme, now)
    reply = (await reply_addresses([JOE], house.files.scheme, keep))[JOE]
    for address in (srs, reply, "alice@fwd.test"):
        recipients.count_accepted(await routed_as(recipients, RouteRequest(address, "", FORGER, now)))
    assert counts(house) == (1, 0, 1, 0)
    for address in (srs, reply, "alice@fwd.test", "SRS0=AAAA=AA=else.test=joe@else.test"):
        recipients.count_refused(RouteRequest(address, "", FORGER, now))
    assert counts(house) == (1, 1, 1, 1)


async def test_a_forged_address_that_is_accepted_counts_as_rejected(tmp_path: Path) -> None:
    house = House(tmp_path)
    recipients, now = house.stages.recipients, time.time()
    forged = forward("ann@person.test", house.files.scheme, now).replace("=ann@", "=eve@")
    request = RouteRequest(forged, "", FORGER, now)
    for _ in range(30):
        try:
            routed = await routed_as(recipients, request)
            break
        except Refused:
            pass
    assert routed.returned is not None and routed.returned.forged
    recipients.count_accepted(routed)
    assert counts(house) == (0, 1, 0, 0)
