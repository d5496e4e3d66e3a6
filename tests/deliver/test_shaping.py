"""What a worker learns from replies: how a provider or a next hop is slowed and paused, and how it recovers."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from relay.config.sections import ShapingSection
from relay.config.shaping import ShapingRules
from relay.deliver.classify import classify
from relay.deliver.concurrency import HopConcurrency
from relay.deliver.places import Place
from relay.deliver.shaping import CALM, FULL, Recovered, Shaped, Shaping
from relay.mail.outcome import Outcome, deferral
from tests.deliver.sending import config

NOW = 1_000_000.0
MINUTE = 60.0
OK = classify("message", 250, "2.0.0 ok")
NO_SUCH_USER = classify("rcpt", 550, "5.1.1 no such user")
SLOW, PAUSE, BLOCK = (classify("mail", code, text) for code, text in ((451, "slow"), (421, "wait"), (550, "blocked")))

RULES = [
    {"name": "slow", "provider": "big", "mx": ["*.big.example"], "text": ["slow"], "action": "slow", "rate": 600},
    {"name": "pause", "provider": "big", "text": ["wait"], "action": "pause", "pause": "10m"},
    {"name": "block", "provider": "big", "text": ["blocked"], "action": "block", "pause": "1h"},
    {"name": "every", "text": ["every host slow"], "action": "slow"},
    {"name": "every-pause", "text": ["every host wait"], "action": "pause", "pause": "10m"},
]


def rules() -> ShapingRules:
    return ShapingRules([ShapingSection.model_validate(rule) for rule in RULES], with_package=False)


class Sender:
    """One worker that has enough to send to every hop."""

    def __init__(self, **arguments: Any) -> None:
        self.now = NOW
        self.shaping = Shaping(rules(), **arguments)
        self.known = HopConcurrency(lambda hop: 20, 400, 10.0, self.shaping)
        self.events: list[object] = []

    def begin(self, hop: str) -> Place:
        return self.known.started(hop, self.now)

    def end(self, place: Place, outcome: Outcome, host: str, began: float | None = None) -> Sender:
        began = self.now if began is None else began
        self.events += self.known.ended(place, began, self.now, [replace(outcome, host=host)], "ann@sender.example")
        return self

    def sends(self, hop: str, outcome: Outcome = OK, host: str = "mx1.big.example", times: int = 1) -> Sender:
        for _ in range(times):
            self.now += 0.001
            self.end(self.begin(hop), outcome, host)
        return self

    def room(self, hop: str) -> int:
        return self.known.room(hop, self.now)

    def running(self, hop: str, number: int) -> list[Place]:
        return [self.begin(hop) for _ in range(number)]


def test_a_reply_halves_the_transactions_at_once() -> None:
    sender = Sender().sends("a.example", times=20)
    places = sender.running("a.example", 16)
    sender.now += 1
    sender.end(places.pop(), SLOW, "mx1.big.example", NOW)
    (event,) = sender.events
    assert isinstance(event, Shaped) and (event.group, event.rule.name, event.places) == ("big", "slow", 8)
    assert event.rate == 600 and event.until is None
    assert sender.room("a.example") == 0, "15 are under way"
    for place in places[:10]:
        sender.end(place, OK, "mx1.big.example", NOW)
    assert sender.room("a.example") == 3, "5 are under way"


def test_what_waits_for_a_connection_is_not_counted_with_what_is_under_way() -> None:
    """At full width a next hop has as many places again for what waits: half of all would be no less than before."""
    sender = Sender().sends("a.example", times=20)
    places = sender.running("a.example", 40)
    sender.now += 1
    sender.end(places.pop(), SLOW, "mx1.big.example", NOW)
    for place in places:
        sender.end(place, OK, "mx1.big.example", NOW)
    (event,) = sender.events
    assert isinstance(event, Shaped) and event.places == 10 and sender.room("a.example") == 10
    sender.now += MINUTE
    sent = 0
    while sender.shaping.is_active:
        sender.now += 1
        sender.sends("a.example")
        sent += 1
    assert sent == sum(range(10, 20)), "as many as before are 20"
    for place in sender.running("a.example", 30) + sender.running("b.example", 5):
        sender.end(place, OK, "mx1.big.example")
    group = sender.shaping.group_of("a.example")
    assert group is not None and (group.active, group.waiting) == (0, 0)


def test_what_waits_is_known_of_a_next_hop_without_a_provider_too() -> None:
    sender = Sender().sends("c.example", host="mx.c.example", times=20)
    places = sender.running("c.example", 40)
    sender.now += 1
    sender.end(places.pop(), classify("mail", 451, "every host slow"), "mx.c.example", NOW)
    (event,) = sender.events
    assert isinstance(event, Shaped) and event.places == 10


def test_replies_to_what_had_begun_before_slow_down_no_further() -> None:
    sender = Sender().sends("a.example", times=20)
    places = sender.running("a.example", 16)
    sender.now += 1
    for place in places:
        sender.end(place, SLOW, "mx1.big.example", NOW + 0.5)
    assert len(sender.events) == 1
    sender.sends("a.example", SLOW)
    assert len(sender.events) == 2
    assert isinstance(sender.events[1], Shaped) and (sender.events[1].places, sender.events[1].rate) == (4, 300)


def test_at_least_one_transaction_and_one_message_a_minute_are_left() -> None:
    sender = Sender()
    for _ in range(40):
        sender.sends("a.example", SLOW)
    event = sender.events[-1]
    assert isinstance(event, Shaped) and (event.places, event.rate) == (1, 1.0)
    sender.now += MINUTE + 1
    assert sender.room("a.example") == 1


def test_a_rate_lets_no_more_begin_than_it_says() -> None:
    sender = Sender().sends("a.example", times=20)
    places = sender.running("a.example", 20)
    sender.now += 1
    sender.end(places[0], SLOW, "mx1.big.example", NOW)
    for place in places[1:]:
        sender.end(place, OK, "mx1.big.example", NOW)
    began = 0
    for _ in range(100):
        while sender.room("a.example"):
            sender.end(sender.begin("a.example"), deferral("4.3.0", "ours"), "")
            began += 1
        sender.now += 0.1
    assert 95 <= began <= 111, "ten a second"


def test_a_place_that_is_given_back_costs_nothing_of_the_rate() -> None:
    sender = Sender().sends("a.example", SLOW)
    sender.now += 1
    before = sender.room("a.example")
    for _ in range(50):
        sender.known.released(sender.begin("a.example"))
    assert sender.room("a.example") == before == 1


def test_all_domains_of_a_provider_are_slowed_together_and_nobody_else() -> None:
    sender = Sender().sends("a.example", times=20).sends("b.example", times=20)
    sender.sends("c.example", host="mx.c.example", times=20)
    sender.sends("a.example", PAUSE)
    assert sender.room("a.example") == sender.room("b.example") == sender.room("!b.example") == 0
    assert sender.room("c.example") > 0
    assert sender.shaping.shaped == 1


@pytest.mark.parametrize(("section", "is_apart"), [({"source_ipv4": "192.0.2.27"}, True), ({"rate": 9}, False)])
def test_doubtful_mail_is_slowed_apart_where_it_has_an_address_of_its_own(
    section: dict[str, Any], is_apart: bool
) -> None:
    delivery = {"doubtful": section, "destinations": [{"domains": ["b.example"], "concurrency": 9}]}
    hops = ("a.example", "!a.example", "b.example")
    for hop in ("?a.example", "?b.example"):
        sender = Sender(destinations=config(**delivery).destinations)
        for each in (*hops, hop):
            sender.sends(each, times=5)
        sender.sends(hop, PAUSE)
        assert sender.room(hop) == 0
        assert [sender.room(each) > 0 for each in hops] == [is_apart] * 3


def test_a_reply_of_another_host_is_about_its_domain_alone() -> None:
    """A domain may say what it likes; it is not the provider."""
    sender = Sender().sends("a.example", times=5).sends("evil.example", host="mx.big.example.evil.example", times=5)
    for outcome in (SLOW, PAUSE, BLOCK):
        sender.sends("evil.example", outcome, "mx.big.example.evil.example")
    assert not sender.events and sender.room("a.example") > 0
    wait = classify("mail", 421, "every host wait")
    sender.sends("evil.example", wait, "mx.evil.example")
    assert len(sender.events) == 1 and sender.room("evil.example") == 0 and sender.room("a.example") > 0


def test_a_domain_with_hosts_at_a_provider_and_elsewhere_slows_only_itself_from_there() -> None:
    sender = Sender().sends("a.example", times=5)
    sender.sends("evil.example", host="mx1.big.example", times=3)
    sender.sends("evil.example", classify("mail", 421, "every host wait"), "mx.evil.example")
    assert sender.room("a.example") > 0 and sender.room("evil.example") == 0


def test_a_pause_lets_nothing_begin_and_then_one() -> None:
    sender = Sender().sends("a.example", times=20).sends("a.example", PAUSE)
    (event,) = sender.events
    assert isinstance(event, Shaped) and event.until == sender.now + 600
    sender.now += 599
    assert sender.room("a.example") == 0
    failure = sender.known.failure("a.example")
    assert failure is not None and failure.outcome.code == 421, "what waits shares it"
    sender.now += 2
    assert sender.room("a.example") == 1
    sender.begin("a.example")
    assert sender.room("a.example") == 0


def test_a_pause_that_did_not_help_is_followed_by_one_twice_as_long_up_to_a_bound() -> None:
    sender = Sender(longest=7200.0).sends("a.example", PAUSE)
    lengths: list[float] = []
    for _ in range(7):
        event = sender.events[-1]
        assert isinstance(event, Shaped) and event.until is not None
        lengths.append(event.until - sender.now)
        sender.now = event.until + 1
        sender.sends("a.example", PAUSE)
    assert lengths == pytest.approx([600, 1200, 2400, 4800, 7200, 7200, 7200])


def test_after_a_pause_that_helped_the_next_one_is_short_again() -> None:
    sender = Sender().sends("a.example", PAUSE)
    sender.now += 601
    sender.sends("a.example", PAUSE)
    sender.now += 1201
    sender.sends("a.example").sends("a.example", PAUSE)
    event = sender.events[-1]
    assert isinstance(event, Shaped) and event.until == sender.now + 600


@pytest.mark.parametrize("outcome", [SLOW, PAUSE, BLOCK])
def test_it_recovers_by_what_is_taken(outcome: Outcome) -> None:
    sender = Sender().sends("a.example", times=20)
    places = sender.running("a.example", 8)
    sender.now += 1
    for place in places:
        sender.end(place, outcome, "mx1.big.example", NOW + 0.5)
    sender.now += 3601
    widths: list[int] = []
    sent = 0
    sender.sends("a.example", SLOW)  # within the calm hour again
    while sender.shaping.is_active:
        sent += 1
        assert sent < 100
        sender.now += 1
        sender.sends("a.example", replace(NO_SUCH_USER))
        widths.append(sender.room("a.example"))
    assert widths == sorted(widths) and widths[0] < FULL <= widths[-1]
    assert isinstance(sender.events[-1], Recovered) and sender.events[-1].group == "big"
    assert sender.known.failure("a.example") is None and sender.room("a.example") > 10


def test_one_message_taken_after_a_calm_hour_ends_it() -> None:
    sender = Sender().sends("a.example", times=20).sends("a.example", SLOW)
    sender.now += CALM + 1
    sender.sends("a.example")
    assert isinstance(sender.events[-1], Recovered) and not sender.shaping.is_active


def test_what_had_begun_before_gives_nothing_back() -> None:
    sender = Sender().sends("a.example", times=20)
    places = sender.running("a.example", 20)
    sender.now += 1
    sender.end(places.pop(), PAUSE, "mx1.big.example", NOW)
    for place in places:
        sender.end(place, OK, "mx1.big.example", NOW + 0.5)
    assert sender.room("a.example") == 0 and sender.known.failure("a.example") is not None


@pytest.mark.parametrize(
    "outcome",
    [
        deferral("4.4.1", "wait: connection refused"),
        replace(classify("message", 250, "slow wait blocked"), status="delivered"),
        replace(deferral("4.3.0", "wait"), words="wait"),
    ],
)
def test_our_own_words_and_good_replies_say_nothing(outcome: Outcome) -> None:
    sender = Sender().sends("a.example", times=3).sends("a.example", outcome)
    assert not sender.events


def test_a_clock_that_was_put_back_ends_a_pause() -> None:
    sender = Sender().sends("a.example", PAUSE)
    sender.now -= 86400
    assert sender.room("a.example") == 1


async def test_a_domain_that_nothing_was_sent_to_waits_until_it_is_known_where_its_mail_goes() -> None:
    asked: list[str] = []

    async def best_mx(domain: str) -> Sequence[str]:
        asked.append(domain)
        return {"hosted.example": ["mx7.big.example"]}.get(domain, ["mx.elsewhere.example"])

    async def look_up(*hops: str) -> None:
        sender.shaping.find_out(hops)
        for _ in range(5):
            await asyncio.sleep(0)

    sender = Sender(find_hosts=best_mx)
    await look_up("hosted.example")
    assert sender.room("hosted.example") > 0 and not asked, "nothing is slowed"
    sender.sends("a.example", PAUSE)
    assert sender.room("hosted.example") == sender.room("free.example") == 0
    assert sender.room("smtp://10.0.0.1:25") > 0, "a configured host is no domain"
    await look_up("hosted.example", "free.example", "!free.example", "smtp://10.0.0.1:25")
    assert sorted(asked) == ["free.example", "hosted.example"]
    assert sender.room("hosted.example") == 0 and sender.room("free.example") > 0
    await look_up("free.example")
    assert len(asked) == 2


async def test_a_domain_of_which_dns_says_nothing_waits_no_longer_than_that(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("relay.deliver.shaping.LOOK_UP", 0.05)

    async def silent(domain: str) -> Sequence[str]:
        await asyncio.sleep(60)
        return ()

    sender = Sender(find_hosts=silent).sends("a.example", PAUSE)
    sender.shaping.find_out(f"d{n}.example" for n in range(1000))
    assert len(asyncio.all_tasks()) <= 101
    assert sender.room("d0.example") == 0
    async with asyncio.timeout(5):
        while sender.room("d0.example") == 0:
            await asyncio.sleep(0.01)


def test_source_addresses_are_judged_apart() -> None:
    tables = [{"domains": ["other.example"], "source_ipv4": "192.0.2.99"}]
    sending = config(destinations=tables, doubtful={"source_ipv4": "192.0.2.98"})
    sender = Sender(destinations=sending.destinations).sends("a.example", times=3).sends("other.example", times=3)
    sender.sends("a.example", PAUSE)
    assert sender.room("a.example") == 0 and sender.room("other.example") > 0
    sender.sends("?a.example")
    assert sender.room("?a.example") != 0, "doubtful mail has another address"


def test_next_hops_of_no_provider_are_remembered_within_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("relay.deliver.shaping.SHAPED", 50)
    monkeypatch.setattr("relay.deliver.shaping.REMEMBERED", 60)
    sender = Sender()
    for n in range(200):
        sender.sends(f"d{n}.example", classify("mail", 451, "every host slow"), f"mx.d{n}.example")
    assert sender.shaping.shaped == 50 and len(sender.shaping._provider_of) <= 60
    sender.now += 2 * 86400
    sender.sends("last.example", classify("mail", 451, "every host slow"), "mx.last.example")
    assert sender.shaping.shaped == 1, "a day without a word"
