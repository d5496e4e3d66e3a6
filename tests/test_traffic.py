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


def send(rates: Traffic, *recipients: Mapping[Party, int], octets: int = 1000, now: float = NOW) -> int:
    """How many recipients of one message are taken; none where the message is refused in the end."""
    counted = Counted()
    taken = sum(rates.accept(counted, recipient, now) is None for recipient in recipients)
    return taken if rates.take(counted, octets, now) is None else 0


def test_without_limits_everything_has_room() -> None:
    rates = traffic()
    assert not rates.is_limited
    assert send(rates, {CLIENT: 1, ALIAS: 1}) == 1


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


def test_what_is_refused_counts_for_nobody() -> None:
    rates = traffic(client={"messages": 2}, alias={"messages": 1})
    send(rates, {CLIENT: 1, ALIAS: 1})
    for _ in range(10):
        assert rates.accept(Counted(), {CLIENT: 1, ALIAS: 1}, NOW) == UsedUp(ALIAS, "messages")
    assert send(rates, {CLIENT: 1, SECOND: 1}) == 1


def test_recipients_without_a_message_use_nothing_up() -> None:
    rates = traffic(alias={"messages": 1, "recipients": 1})
    for _ in range(10):
        assert rates.accept(Counted(), {CLIENT: 1, ALIAS: 1}, NOW) is None
    assert send(rates, {CLIENT: 1, ALIAS: 1}) == 1


def test_of_messages_that_come_at_the_same_moment_no_more_are_taken() -> None:
    rates = traffic(client={"messages": 3}, alias={"messages": 100})
    messages = [Counted() for _ in range(10)]
    assert all(rates.accept(counted, {CLIENT: 1, ALIAS: 1}, NOW) is None for counted in messages)
    refused = [rates.take(counted, 1000, NOW) for counted in messages]
    assert refused == [None] * 3 + [UsedUp(CLIENT, "messages")] * 7


def test_a_message_that_others_wait_for_too_is_taken_although_one_alias_is_full_by_now() -> None:
    rates, late = traffic(alias={"messages": 1}), Counted()
    for alias in (ALIAS, SECOND):
        assert rates.accept(late, {CLIENT: 1, alias: 1}, NOW) is None
    assert send(rates, {CLIENT: 1, ALIAS: 1}) == 1
    assert rates.take(late, 1000, NOW) is None
    assert send(rates, {ALIAS: 1}, now=NOW + 61) == 0, "the debt is paid first"
    assert send(rates, {ALIAS: 1}, now=NOW + 121) == 1


@pytest.mark.parametrize("party", [CLIENT, ALIAS, GOAL])
def test_octets_are_paid_back(party: Party) -> None:
    rates = traffic(**{party.kind: {"octets": 10_000}})
    assert [send(rates, {party: 1}, octets=4000) for _ in range(5)] == [1, 1, 1, 0, 0]
    assert send(rates, {party: 1}, octets=4000, now=NOW + 11) == 0, "12,000 were taken: 2,000 are owed"
    assert send(rates, {party: 1}, octets=4000, now=NOW + 13) == 1


@pytest.mark.parametrize("busy", [0, 6])
def test_what_is_larger_than_a_minute_allows_is_taken_and_paid_back(busy: int) -> None:
    rates = traffic(client={"octets": 10_000}, alias={"recipients": 10})
    for _ in range(busy):
        send(rates, {CLIENT: 1, ALIAS: 1}, octets=1000)
    assert send(rates, {CLIENT: 1, ALIAS: 1000}, octets=25_000_000) == 1
    for later in (0, 30, 59):
        assert send(rates, {CLIENT: 1}, octets=10, now=NOW + later) == 0
        assert send(rates, {ALIAS: 1}, now=NOW + later) == 0
    assert send(rates, {CLIENT: 1, ALIAS: 1}, octets=10, now=NOW + 67) == 1, "nobody owes more than a minute"


def test_a_thousand_recipients_are_quickly_counted() -> None:
    rates, counted = traffic(client={"recipients": 900}, destination={"recipients": 10_000}), Counted()
    taken = [rates.accept(counted, {CLIENT: 1, Party("destination", f"d{n}.test"): 1}, NOW) for n in range(1000)]
    assert taken == [None] * 900 + [UsedUp(CLIENT, "recipients")] * 100


def test_the_networks_around_a_new_client_have_limits_too() -> None:
    rates = traffic(client={"messages": 2})
    sent = sum(send(rates, {Party("client", f"2001:db8:0:{n:x}::/64"): 1}) for n in range(20))
    assert sent == 8, "a /56 has the limit of four clients"


def test_limits_are_read_as_they_are_written() -> None:
    section = RatesSection.model_validate({"client": {"messages": 60, "octets": "100MB"}})
    assert section.client == PerMinute(messages=60, octets=10**8)
    section = RatesSection.model_validate({"client": {"messages": "60"}})  # from the environment
    assert section.client == PerMinute(messages=60)


@pytest.mark.parametrize(
    "limits",
    [{}, {"messages": 0}, {"messages": -1}, {"messages": True}, {"messages": "many"}, {"octets": "1 bushel"}, 60, "60",
     {"mails": 3}, {"messages": 1.5}, {"octets": 0}, {"messages": 10**400}],
)  # fmt: skip
def test_other_limits_are_refused_with_a_sentence(limits: object) -> None:
    with pytest.raises(ValueError, match=r"limits are written like|is a whole number|a size is written like"):
        RatesSection.model_validate({"client": limits})
