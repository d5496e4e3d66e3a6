"""A DNS list with its faults: what is believed, what is logged, and how often it is asked."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Sequence
from typing import Any

import pytest
from structlog.testing import capture_logs

from relay.dns import Answer, DnsFailure
from relay.dns_lists import zone as zone_module
from relay.dns_lists.zone import LONGEST_PAUSE, PAUSE, QUESTIONS, TESTED_FOR, ListZone
from tests.resolvers import RecordingResolver

Zone = dict[tuple[str, str], Sequence[Any] | Exception]

LISTED, CLEAN = "192.0.2.66", "192.0.2.7"
POINT, POINT6 = "1.0.0.127.bl.test", "1.0.0.0.0.0.f.7.f.f.f.f." + "0." * 20 + "bl.test"
SUBJECT = "66.2.0.192.bl.test"
WHOLE: Zone = {(SUBJECT, "A"): ["127.0.0.2"]}
EVERYTHING: Zone = {(POINT, "A"): ["127.0.0.2"]}


class House:
    """A list with a clock and a DNS that the test changes.

    Attributes:
        counted: the outcomes so far.
    """

    def __init__(self, records: Zone, *, names: bool = False) -> None:
        self.now = 1000.0
        self.counted: list[str] = []
        self.resolver = RecordingResolver(records)
        self.zone = ListZone("bl.test", names=names, resolver=self, count=self.counted.append, clock=lambda: self.now)

    async def query(self, name: str, rdtype: str) -> Answer:
        return await self.resolver.query(name, rdtype)

    def becomes(self, records: Zone) -> None:
        asked = self.resolver.asked
        self.resolver = RecordingResolver(records)
        self.resolver.asked = asked

    def asked(self) -> list[str]:
        """The names that were asked for since the last time."""
        names = [name for name, _ in self.resolver.asked]
        self.resolver.asked.clear()
        return names


async def test_a_list_is_tested_before_it_is_asked_and_again_after_a_time() -> None:
    house = House(WHOLE)
    assert await house.zone.look_up(LISTED) == ["127.0.0.2"]
    assert house.asked() == [POINT, POINT6, SUBJECT]
    assert await house.zone.look_up(CLEAN) == []
    assert house.asked() == ["7.2.0.192.bl.test"]
    house.now += TESTED_FOR
    await house.zone.look_up(LISTED)
    assert house.asked() == [POINT, POINT6, SUBJECT]
    assert house.counted == ["listed", "clean", "listed"]


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (EVERYTHING, "lists everything"),
        ({(POINT6, "A"): ["127.0.0.2"]}, "lists everything"),
        ({(SUBJECT, "A"): ["127.255.255.254"]}, "refuses our resolver"),
        ({(SUBJECT, "A"): ["127.0.0.2", "127.255.255.255"]}, "refuses our resolver"),
        ({(SUBJECT, "A"): ["203.0.113.5"]}, "203.0.113.5"),
        ({(POINT, "A"): ["203.0.113.5"]}, "203.0.113.5"),
        ({(SUBJECT, "A"): DnsFailure("SERVFAIL")}, "SERVFAIL"),
        ({(POINT, "A"): DnsFailure("no answer within 5 s")}, "no answer within"),
    ],
)
async def test_a_fault_lists_nobody_and_is_told_once(fault: Zone, words: str) -> None:
    house = House(WHOLE | fault)
    with capture_logs() as logs:
        for _ in range(5):
            assert await house.zone.look_up(LISTED) is None
    assert [(line["event"], line["log_level"], line["zone"]) for line in logs] == [
        ("dns_list_failed", "error", "bl.test")
    ]
    assert words in logs[0]["problem"]
    assert house.counted == ["failed"] * 5
    house.asked()
    house.now += PAUSE
    house.becomes(WHOLE)
    with capture_logs() as logs:
        assert await house.zone.look_up(LISTED) == ["127.0.0.2"]
        assert await house.zone.look_up(LISTED) == ["127.0.0.2"]
    assert [line["event"] for line in logs] == ["dns_list_recovered"]


async def test_a_list_of_names_has_another_test_point() -> None:
    house = House({("spam.test.bl.test", "A"): ["127.0.1.2"]}, names=True)
    assert await house.zone.look_up("spam.test") == ["127.0.1.2"]
    assert house.asked() == ["invalid.bl.test", "spam.test.bl.test"]
    house = House({("spam.test.bl.test", "A"): ["127.0.1.2"], ("invalid.bl.test", "A"): ["127.0.1.2"]}, names=True)
    assert await house.zone.look_up("spam.test") is None


async def test_a_dead_list_is_asked_less_and_less() -> None:
    dead = DnsFailure("timeout")
    house = House({(SUBJECT, "A"): dead})
    asked = []
    for second in range(3600):
        house.now = 1000.0 + second
        await house.zone.look_up(LISTED)
        if SUBJECT in house.asked():
            asked.append(second)
    pauses = [later - earlier for earlier, later in itertools.pairwise(asked)]
    assert pauses[:4] == [PAUSE, 2 * PAUSE, 4 * PAUSE, 8 * PAUSE] and pauses[-1] == LONGEST_PAUSE


async def test_a_list_that_lists_everybody_later_is_found_by_the_next_test() -> None:
    house = House(WHOLE)
    assert await house.zone.look_up(LISTED)
    house.becomes(WHOLE | EVERYTHING)
    house.now += TESTED_FOR
    assert await house.zone.look_up(LISTED) is None


class Silent:
    """A DNS that never answers, apart from the test points where `tests` is set."""

    def __init__(self, *, tests: bool) -> None:
        self.tests = tests
        self.under_way = self.most = self.questions = 0

    async def query(self, name: str, rdtype: str) -> Answer:
        if self.tests and name in (POINT, POINT6):
            return Answer((), exists=False)
        self.under_way += 1
        self.questions += 1
        self.most = max(self.most, self.under_way)
        try:
            await asyncio.Event().wait()
            raise AssertionError
        finally:
            self.under_way -= 1


@pytest.mark.parametrize("tests", [False, True], ids=["dead", "died after its test"])
async def test_a_thousand_look_ups_at_a_silent_list_are_few_questions(
    monkeypatch: pytest.MonkeyPatch, tests: bool
) -> None:
    monkeypatch.setattr(zone_module, "PATIENCE", 0.5)
    dns = Silent(tests=tests)
    zone = ListZone("bl.test", names=False, resolver=dns)
    loop = asyncio.get_running_loop()
    began = loop.time()
    with capture_logs() as logs:
        found = await asyncio.gather(*(zone.look_up(f"198.51.{n // 250}.{n % 250}") for n in range(1000)))
        first = loop.time() - began
        assert set(found) == {None} and first < 3, "all of them wait together"
        assert dns.most <= (QUESTIONS if tests else 2) and dns.questions == dns.most and dns.under_way == 0
        began = loop.time()
        await asyncio.gather(*(zone.look_up("198.51.100.1") for _ in range(1000)))
        assert loop.time() - began < 0.5, "nobody waits for a list with a fault"
    assert [line["event"] for line in logs] == ["dns_list_failed"]


async def test_what_was_found_before_the_fault_does_not_count() -> None:
    """An answer that is under way when the list is found to have a fault."""
    gate = asyncio.Event()

    class Late(RecordingResolver):
        async def query(self, name: str, rdtype: str) -> Answer:
            if name == SUBJECT:
                await gate.wait()
            return await super().query(name, rdtype)

    resolver = Late({**WHOLE, ("7.2.0.192.bl.test", "A"): ["127.255.255.254"]})
    zone = ListZone("bl.test", names=False, resolver=resolver)
    late = asyncio.create_task(zone.look_up(LISTED))
    assert await zone.look_up(CLEAN) is None and not late.done()
    gate.set()
    assert await late is None


@pytest.mark.parametrize(
    ("records", "text"),
    [
        ([(b"https://bl.test/?ip=192.0.2.66",)], "https://bl.test/?ip=192.0.2.66"),
        ([(b"two ", b"parts\r\n550 no"), (b"another",)], "two parts 550 no"),
        ([("böse".encode(),)], "b??se"),
        ([(b"x" * 255,)], "x" * 200),
        ([], ""),
        (DnsFailure("timeout"), ""),
    ],
)
async def test_the_words_of_a_list_are_printable_and_short(records: Any, text: str) -> None:
    assert await House({(SUBJECT, "TXT"): records}).zone.text(LISTED) == text


async def test_a_slow_list_under_a_crowd_has_no_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who waits for the questions of others gives up at last, and that says nothing of the list."""
    monkeypatch.setattr(zone_module, "LONGEST", 0.5)

    class Slow(RecordingResolver):
        async def query(self, name: str, rdtype: str) -> Answer:
            await asyncio.sleep(0.2)
            return await super().query(name, rdtype)

    zone = ListZone("bl.test", names=False, resolver=Slow({}))
    with capture_logs() as logs:
        found = await asyncio.gather(*(zone.look_up(f"198.51.100.{n}") for n in range(5 * QUESTIONS // 2)))
    assert not zone.problem and not logs
    assert found.count([]) >= QUESTIONS and None in found
