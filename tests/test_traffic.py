"""How much mail is taken within a minute: what is counted for whom, and what has room."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from relay.config.sections import RatesSection
from relay.config.values import PerMinute
from relay.known_clients import KnownClients
from relay.rate.traffic import Counted, Party, Traffic, UsedUp

NOW = 1577836860.0
CLIENT, OTHER = Party("client", "192.0.2.1"), Party("client", "192.0.2.2")
ALIAS, SECOND = Party("alias", "a@fwd.test"), Party("alias", "b@fwd.test")
SENDER, GOAL = Party("sender_domain", "origin.test"), Party("destination", "mailbox.test")


def traffic(**limits: Mapping[str, int]) -> Traffic:
    return Traffic(RatesSection.model_validate(limits), KnownClients())


def send(rates: Traffic, *recipients: Mapping[Party, int], octets: int = 1000, now: float = NOW, size: int = 0) -> int:
    """How many recipients of one message are taken; none where the message is refused in the end."""
    counted = Counted()
    taken = sum(rates.take(counted, recipient, size, now) is None for recipient in recipients)
    return taken if rates.take_octets(counted, octets, now) is None else 0


def test_without_limits_nothing_is_counted() -> None:
    rates, counted = traffic(), Counted()
    assert not rates.is_limited
    assert rates.take(counted, {CLIENT: 1, ALIAS: 1}, 0, NOW) is None
    assert not counted.parties


@pytest.mark.parametrize("party", [CLIENT, SENDER, ALIAS, GOAL, Party("user", "anna")])
def test_messages_of_each_party(party: Party) -> None:
    rates = traffic(**{"client" if party.kind == "user" else party.kind: {"messages": 3}})
    assert [send(rates, {party: 1}) for _ in range(5)] == [1, 1, 1, 0, 0]
    assert send(rates, {party._replace(name="another"): 1}) == 1
    assert send(rates, {party: 1}, now=NOW + 19) == 0
    assert [send(rates, {party: 1}, now=NOW + 20) for _ in range(2)] == [1, 0]
    assert [send(rates, {party: 1}, now=NOW + 1000) for _ in range(4)] == [1, 1, 1, 0]


def test_a_message_counts_once_for_all_its_recipients() -> None:
    rates = traffic(client={"messages": 2})
    assert send(rates, *[{CLIENT: 1}] * 50) == 50
    assert send(rates, *[{CLIENT: 1}] * 50) == 50
    assert send(rates, *[{CLIENT: 1}] * 50) == 0


def test_recipients_past_the_rate_are_refused_alone() -> None:
    rates = traffic(client={"recipients": 7})
    assert send(rates, *[{CLIENT: 1}] * 10) == 7
    assert send(rates, {CLIENT: 1}) == 0
    assert send(rates, {OTHER: 1}) == 1


def test_a_flooded_alias_slows_alone() -> None:
    rates = traffic(alias={"messages": 1})
    assert send(rates, {CLIENT: 1, ALIAS: 1}) == 1
    assert send(rates, {CLIENT: 1, ALIAS: 1}, {CLIENT: 1, SECOND: 1}) == 1
    assert send(rates, {CLIENT: 1, SECOND: 1}) == 0


def test_what_is_refused_for_one_party_counts_for_none() -> None:
    rates, counted = traffic(client={"messages": 2}, alias={"messages": 1}), Counted()
    send(rates, {CLIENT: 1, ALIAS: 1})
    for _ in range(10):
        assert rates.take(counted, {CLIENT: 1, ALIAS: 1}, 0, NOW) == UsedUp(ALIAS, "messages")
    assert send(rates, {CLIENT: 1, SECOND: 1}) == 1


def test_octets_of_a_client() -> None:
    rates = traffic(client={"octets": 10_000})
    assert [send(rates, {CLIENT: 1}, octets=4000) for _ in range(3)] == [1, 1, 0]
    assert send(rates, {CLIENT: 1}, octets=1500) == 1
    assert send(rates, {CLIENT: 1}, octets=4000, now=NOW + 21) == 1


def test_an_announced_size_is_looked_at_before_the_message_comes() -> None:
    rates, counted = traffic(client={"octets": 10_000}), Counted()
    send(rates, {CLIENT: 1}, octets=8000)
    assert rates.take(counted, {CLIENT: 1}, 4000, NOW) == UsedUp(CLIENT, "octets")
    assert rates.take(counted, {CLIENT: 1}, 1500, NOW) is None


def test_octets_of_an_alias_are_not_refused_at_the_end_but_count() -> None:
    rates = traffic(alias={"octets": 10_000})
    assert send(rates, {ALIAS: 1}, octets=8000) == 1
    assert send(rates, {ALIAS: 1}, octets=8000) == 1, "it has room for some octets, and others may share the message"
    assert send(rates, {ALIAS: 1}, octets=10) == 0
    assert send(rates, {ALIAS: 1}, octets=10, now=NOW + 6) == 1


@pytest.mark.parametrize("now", [NOW, NOW + 60])
def test_what_is_larger_than_a_minute_allows_waits_for_a_full_minute(now: float) -> None:
    rates = traffic(client={"octets": 10_000}, alias={"recipients": 5})
    assert send(rates, {CLIENT: 1, ALIAS: 1000}, octets=25_000_000, size=25_000_000) == 1
    assert send(rates, {CLIENT: 1}, octets=10) == 0
    assert send(rates, {ALIAS: 1}) == 0
    assert send(rates, {CLIENT: 1, ALIAS: 1000}, octets=25_000_000, now=NOW + 61) == 1


def test_the_networks_around_a_new_client_have_limits_too() -> None:
    rates = traffic(client={"messages": 2})
    sent = sum(send(rates, {Party("client", f"2001:db8:0:{n:x}::/64"): 1}) for n in range(20))
    assert sent == 8, "a /56 has the limit of four clients"


def test_limits_are_read_as_they_are_written() -> None:
    section = RatesSection.model_validate({"client": {"messages": 60, "octets": "100MB"}})
    assert section.client == PerMinute(messages=60, octets=10**8)


@pytest.mark.parametrize(
    "limits",
    [{}, {"messages": 0}, {"messages": -1}, {"messages": True}, {"messages": "60"}, {"octets": "1 bushel"}, 60, "60",
     {"mails": 3}, {"messages": 1.5}, {"octets": 0}],
)  # fmt: skip
def test_other_limits_are_refused_with_a_sentence(limits: object) -> None:
    with pytest.raises(ValueError, match="limits are written like|is a whole number|a size is written like"):
        RatesSection.model_validate({"client": limits})
