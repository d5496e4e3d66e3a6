"""Where due deliveries go today, and what it costs to know."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any, cast

import pytest

from relay.config.model import Config
from relay.deliver.current_hops import OVERLAP, CurrentHops
from relay.deliver.next_hop import NextHops
from relay.mail.queue_id import first_at
from relay.queue.hop_keys import limited_hop, own_hop
from relay.queue.store import Due, Store

NOW = time.time()
OLD, HUB = "smtp://old.test:25", "smtp://hub.test:25"


class NotingStore:
    """Has the recipients of some deliveries, and notes what it is asked and told."""

    def __init__(self, *recipients: str) -> None:
        self._recipients = recipients
        self.asked: list[Due] = []
        self.changed: dict[int, str] = {}

    async def recipients(self, wanted: Sequence[Due]) -> dict[tuple[int, int], str]:
        self.asked += wanted
        return {(due.message_id, due.n): self._recipients[due.n] for due in wanted if due.n < len(self._recipients)}

    async def rekey(self, changed: Sequence[Due]) -> None:
        self.changed |= {due.n: due.hop for due in changed}


def current(store: NotingStore, **delivery: Any) -> CurrentHops:
    config = Config.model_validate(
        {
            "hostname": "mx.test",
            "listen": [{"address": "127.0.0.1:0"}],
            "srs": {"domain": "fwd.test", "secrets_file": "/dev/null"},
            "delivery": delivery,
        }
    )
    return CurrentHops(cast(Store, store), NextHops(config), NOW)


def page(*hops: str, at: float = NOW - 86400) -> list[Due]:
    return [Due(first_at(at), n, hop, NOW) for n, hop in enumerate(hops)]


async def test_a_domain_says_by_itself_where_it_goes() -> None:
    store = NotingStore()
    found = await current(store, smarthost={"url": HUB}).of(page("a.test", own_hop("b.test")))
    assert [due.hop for due in found] == [HUB, own_hop(HUB)]
    assert store.changed == {0: HUB, 1: own_hop(HUB)} and store.asked == []


async def test_the_recipient_says_where_mail_for_a_url_goes() -> None:
    store = NotingStore("r@a.test", "r@b.test", "r@c.test", "r@hub.test")
    tables = [{"domains": ["c.test"], "next_hop": HUB}, {"domains": ["b.test"], "smarthost": "hub", "rate": 6}]
    hops = current(store, smarthosts={"hub": {"url": HUB}}, destinations=tables)
    found = await hops.of(page(OLD, own_hop(OLD), HUB, limited_hop(HUB, "hub.test"), "a.test"))
    expected = ["a.test", own_hop(limited_hop(HUB, "b.test")), HUB, "hub.test", "a.test"]
    assert [due.hop for due in found] == expected
    assert store.changed == {0: expected[0], 1: expected[1], 3: expected[3]}


async def test_a_delivery_that_is_gone_keeps_its_key() -> None:
    store = NotingStore()
    assert [due.hop for due in await current(store).of(page(OLD))] == [OLD] and store.changed == {}


@pytest.mark.parametrize(("since", "asked"), [(OVERLAP + 1, 0), (OVERLAP - 1, 1)])
async def test_what_was_stored_since_is_taken_as_it_is(since: float, asked: int) -> None:
    store = NotingStore("r@a.test")
    await current(store).of(page(OLD, at=NOW + since))
    assert len(store.asked) == len(store.changed) == asked


async def test_doubt_stays_whatever_the_configuration_says() -> None:
    store = NotingStore("a@a.test", "b@b.test")
    hops = current(store, destinations=[{"domains": ["a.test"], "next_hop": "smtp://10.0.0.1:25", "rate": 5}])
    found = [due.hop for due in await hops.of(page("?a.test", "?smtp://10.0.0.9:25"))]
    assert found == ["?smtp://10.0.0.1:25\ta.test", "?b.test"]
    assert store.changed == {0: found[0], 1: found[1]}
    apart = current(store, doubtful={"rate": 5}, smarthost={"url": "smtp://10.0.0.2:25"})
    assert [due.hop for due in await apart.of(page("?a.test"))] == ["?smtp://10.0.0.2:25\tdelivery.doubtful"]
