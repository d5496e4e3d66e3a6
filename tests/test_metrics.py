"""What Prometheus reads: sums over workers that are really forked, die and are replaced."""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest
from prometheus_client.parser import text_string_to_metric_families

from relay.mail.reply import Reply
from relay.metrics import REFUSALS, TRANSIT_BUCKETS, Metrics, refusal


def samples(metrics: Metrics, queue: dict[str, int] | None = None) -> dict[str, float]:
    """Every sample by its name and labels, as a scraper parses them."""
    values = {}
    for family in text_string_to_metric_families(metrics.render(queue).decode()):
        assert family.documentation
        for sample in family.samples:
            labels = ",".join(f"{name}={value}" for name, value in sample.labels.items())
            values[f"{sample.name}{{{labels}}}" if labels else sample.name] = sample.value
    return values


def in_a_child(work: Callable[[], object]) -> None:
    child = os.fork()
    if child == 0:
        try:
            work()
        finally:
            os._exit(0)
    os.waitpid(child, 0)


def test_counters_start_at_zero_and_add_up_by_label() -> None:
    metrics = Metrics()
    assert samples(metrics)["srs_relay_deliveries_total{outcome=deferred}"] == 0
    metrics.deliveries.add("deferred")
    metrics.deliveries.add("deferred")
    metrics.deliveries.add("delivered", 3)
    metrics.connections.add()
    values = samples(metrics)
    assert values["srs_relay_deliveries_total{outcome=deferred}"] == 2
    assert values["srs_relay_deliveries_total{outcome=delivered}"] == 3
    assert values["srs_relay_connections_total"] == 1


def test_a_counter_may_have_several_labels() -> None:
    metrics = Metrics()
    metrics.table_lookups.add(("reverse", "forged"))
    values = samples(metrics)
    assert values["srs_relay_table_lookups_total{map=reverse,result=forged}"] == 1
    assert values["srs_relay_table_lookups_total{map=forward,result=forged}"] == 0


def test_an_unknown_reason_is_counted_all_the_same() -> None:
    metrics = Metrics()
    metrics.refused.add("no such reason")
    assert samples(metrics)["srs_relay_refusals_total{reason=other}"] == 1


def test_workers_count_into_one_sum_and_outlive_their_death() -> None:
    metrics = Metrics(workers=3)

    def worker(number: int) -> None:
        metrics.attach(number)
        metrics.accepted.add("", 10**number)
        metrics.sessions.add(2)

    for number in range(3):
        in_a_child(lambda number=number: worker(number))  # type: ignore[misc]
    values = samples(metrics)
    assert values["srs_relay_messages_accepted_total"] == 111
    assert values["srs_relay_sessions"] == 6

    metrics.detach(1)
    values = samples(metrics)
    assert values["srs_relay_messages_accepted_total"] == 111
    assert values["srs_relay_sessions"] == 4

    in_a_child(lambda: worker(1))
    values = samples(metrics)
    assert values["srs_relay_messages_accepted_total"] == 121
    assert values["srs_relay_sessions"] == 6


def test_gauges_rise_and_fall() -> None:
    metrics = Metrics()
    metrics.sessions.add(1)
    metrics.sessions.add(1)
    metrics.sessions.add(-1)
    metrics.message_memory.set(4096)
    values = samples(metrics)
    assert values["srs_relay_sessions"] == 1
    assert values["srs_relay_message_memory_bytes"] == 4096


def test_the_histogram_is_cumulative() -> None:
    metrics = Metrics()
    for seconds in (0.004, 0.01, 0.02, 7.0, 1e9):
        metrics.transit.observe(seconds)
    values = samples(metrics)
    assert values["srs_relay_transit_seconds_bucket{le=0.01}"] == 2
    assert values["srs_relay_transit_seconds_bucket{le=0.025}"] == 3
    assert values["srs_relay_transit_seconds_bucket{le=10.0}"] == 4
    assert values[f"srs_relay_transit_seconds_bucket{{le={float(TRANSIT_BUCKETS[-1])}}}"] == 4
    assert values["srs_relay_transit_seconds_bucket{le=+Inf}"] == 5
    assert values["srs_relay_transit_seconds_count"] == 5
    assert values["srs_relay_transit_seconds_sum"] == pytest.approx(1e9 + 7.034)


def test_the_queue_appears_by_state_when_it_is_known() -> None:
    values = samples(Metrics(), {"due": 3, "dead": 1})
    assert values["srs_relay_queue_deliveries{state=due}"] == 3
    assert values["srs_relay_queue_deliveries{state=dead}"] == 1
    assert not any(name.startswith("srs_relay_queue") for name in samples(Metrics()))


@pytest.mark.parametrize(
    ("code", "enhanced", "reason"),
    [
        (550, "5.1.1", "recipient"),
        (550, "5.7.1", "policy"),
        (550, "5.7.23", "spf"),
        (451, "4.7.24", "spf"),
        (554, "5.4.6", "loop"),
        (552, "5.3.4", "size"),
        (550, "5.6.0", "content"),
        (503, "5.5.1", "protocol"),
        (452, "4.3.1", "capacity"),
        (452, "4.5.3", "capacity"),
        (451, "4.4.3", "capacity"),
        (451, "4.7.0", "policy"),
        (556, "5.9.9", "other"),
        (500, "", "other"),
    ],
)
def test_refusals_are_classed_by_their_enhanced_code(code: int, enhanced: str, reason: str) -> None:
    assert refusal(Reply(code, enhanced, "no")) == reason
    assert reason in REFUSALS


def test_a_number_for_the_whole_host_is_the_last_one_that_any_worker_set_and_outlives_it() -> None:
    metrics = Metrics(workers=3)

    def worker(number: int, result: str) -> None:
        metrics.attach(number)
        for value in ("ok", "unproven", "broken"):
            metrics.way_home.set(float(value == result), value)
        metrics.way_home_checked.set(1000 + number)

    in_a_child(lambda: worker(1, "broken"))
    assert metrics.way_home.get("broken") == 1
    in_a_child(lambda: worker(2, "ok"))
    metrics.detach(1)
    metrics.detach(2)
    values = samples(metrics)
    assert [values[f"srs_relay_way_home{{result={result}}}"] for result in ("ok", "unproven", "broken")] == [1, 0, 0]
    assert values["srs_relay_way_home_checked_seconds"] == metrics.way_home_checked.get() == 1002


def test_names_of_the_configuration_keep_their_place_when_others_are_adopted() -> None:
    metrics = Metrics()
    metrics.dns_lists.adopt(["a.test", "b.test", "a.test"])
    metrics.dns_lists.add("b.test", "failed")
    metrics.dns_lists.adopt(["c.test", "b.test"])
    metrics.dns_lists.add("c.test", "listed")
    metrics.dns_lists.add("unknown.test", "listed")
    found = {name: value for name, value in samples(metrics).items() if "dns_list" in name and value}
    assert found == {
        "srs_relay_dns_list_lookups_total{result=failed,zone=b.test}": 1,
        "srs_relay_dns_list_lookups_total{result=listed,zone=c.test}": 1,
    }


def test_there_is_room_for_some_names_only() -> None:
    metrics = Metrics()
    metrics.dns_lists.adopt(f"{number}.test" for number in range(100))
    metrics.dns_lists.add("31.test", "clean")
    metrics.dns_lists.add("32.test", "clean")
    assert sum(value for name, value in samples(metrics).items() if "dns_list" in name) == 1
