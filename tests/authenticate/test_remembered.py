"""Verdicts are remembered as long as all answers behind them hold, and no message can tell whether they were."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.authenticate import dmarc
from relay.authenticate.dkim import DkimVerdict
from relay.authenticate.dmarc import DmarcVerdict
from relay.authenticate.dns_budget import QUESTIONS, Budget
from relay.authenticate.examiner import Examiner
from relay.authenticate.remembered import NotedQuestions, Remembered
from relay.authenticate.spf import SpfVerdict, check
from relay.authenticate.verdict import Verdict, check_dmarc, check_stranger
from relay.config.model import Config
from relay.dns import DnsFailure, TooManyQuestions
from relay.mail.envelope import Client
from relay.mail.message import Message
from relay.metrics import Metrics
from tests.authenticate.dmarc_checks import by_dkim, by_spf
from tests.authenticate.spf_checks import txt
from tests.resolvers import LastingResolver, RecordingResolver

CLIENT = Client("192.0.2.1", 4025, helo="mx.d.example")
PTR = "1.2.0.192.in-addr.arpa"
CONFIG = Config.model_validate(
    {
        "hostname": "mx.fwd.example",
        "listen": [{"address": "127.0.0.1:0"}],
        "srs": {"domain": "fwd.example", "secrets_file": "/dev/null"},
    }
)

Zone = dict[tuple[str, str], Any]


class House:
    """An examiner whose DNS a test may change as time goes by."""

    def __init__(self, zone: Zone, ttl: float = 100.0) -> None:
        self.dns = LastingResolver(zone, ttl)
        self.examiner = Examiner(CONFIG, self.dns, Metrics(), (), clock=self.dns.clock)

    def change(self, zone: Zone) -> None:
        """Other records, from now on."""
        self.dns._zone.update(zone)

    async def spf(self, sender: str = "ann@d.example", client: Client = CLIENT) -> SpfVerdict:
        return await self.examiner.spf(self.examiner.budget(), client, sender)

    def asked(self) -> list[tuple[str, str]]:
        """The questions since this was called last."""
        questions = self.dns.asked.copy()
        self.dns.asked.clear()
        return questions


# --- SPF


async def test_a_verdict_is_not_looked_up_again() -> None:
    house = House({("d.example", "TXT"): txt("v=spf1 ip4:192.0.2.1 -all")})
    first = await house.spf()
    assert first.result == "pass" and house.asked() == [("d.example", "TXT")]
    assert await house.spf() == first and await house.spf("bob@D.Example") == first
    assert house.asked() == []


@pytest.mark.parametrize(
    ("sender", "client"),
    [
        ("ann@other.example", CLIENT),
        ("", CLIENT),
        ("ann@d.example", Client("192.0.2.2", 4025, helo="mx.d.example")),
        ("ann@d.example", Client("192.0.2.1", 4025, helo="mx.other.example")),
    ],
)
async def test_another_sender_domain_client_or_name_has_a_verdict_of_its_own(sender: str, client: Client) -> None:
    house = House({("d.example", "TXT"): txt("v=spf1 ip4:192.0.2.1 -all")})
    await house.spf()
    house.asked()
    await house.spf(sender, client)
    assert len(house.asked()) == 1


async def test_a_sender_without_a_domain_has_not_the_verdict_of_the_null_sender() -> None:
    house = House({("mx.d.example", "TXT"): txt("v=spf1 ip4:192.0.2.1 -all")})
    assert (await house.spf("")).result == "pass"
    assert (await house.spf("ann")).result == "none"


@pytest.mark.parametrize(
    ("record", "others"),
    [
        ("v=spf1 exists:%{l}.allowed.example -all", {("ann.allowed.example", "A"): ["127.0.0.2"]}),
        ("v=spf1 exists:%{L1r}.allowed.example -all", {("ann.allowed.example", "A"): ["127.0.0.2"]}),
        ("v=spf1 include:%{s}.i.example -all", {("ann@d.example.i.example", "TXT"): txt("v=spf1 +all")}),
        ("v=spf1 redirect=%{l}.r.example", {("ann.r.example", "TXT"): txt("v=spf1 +all")}),
    ],
)
async def test_what_depends_on_the_local_part_is_checked_for_each_sender(record: str, others: Zone) -> None:
    house = House({("d.example", "TXT"): txt(record), **others})
    for _ in range(2):
        assert (await house.spf("ann@d.example")).result == "pass"
        assert (await house.spf("bob@d.example")).result in ("fail", "permerror")


async def test_what_depends_on_the_name_of_the_client_is_checked_for_each_name() -> None:
    zone = {
        ("d.example", "TXT"): txt("v=spf1 exists:%{h}.ok.example -all"),
        ("a.example.ok.example", "A"): ["127.0.0.2"],
    }
    house = House(zone)
    for _ in range(2):
        assert (await house.spf(client=Client("192.0.2.1", 1, helo="a.example"))).result == "pass"
        assert (await house.spf(client=Client("192.0.2.1", 1, helo="b.example"))).result == "fail"


@pytest.mark.parametrize("macro", ["%{l}", "%{s}", "%{t}"])
async def test_an_explanation_for_one_message_is_not_given_to_another(macro: str) -> None:
    explanation = {("e.example", "TXT"): txt(f"no {macro}")}
    house = House({("d.example", "TXT"): txt("v=spf1 -all exp=e.example"), **explanation})
    assert (await house.spf()).explanation.startswith("no ")
    house.asked()
    await house.spf("bob@d.example")
    assert house.asked() == [("d.example", "TXT"), ("e.example", "TXT")]


async def test_a_verdict_is_as_old_as_its_shortest_answer_at_most() -> None:
    zone = {("d.example", "TXT"): txt("v=spf1 a:a.example include:i.example -all"), ("a.example", "A"): ["192.0.2.9"]}
    house = House({**zone, ("i.example", "TXT"): txt("v=spf1 ip4:192.0.2.1")})
    house.dns.ttls = {("a.example", "A"): 10.0}
    assert (await house.spf()).result == "pass"
    house.change({("i.example", "TXT"): txt("v=spf1 ip4:192.0.2.7")})
    house.dns.now += 9.9
    assert (await house.spf()).result == "pass"
    house.dns.now += 0.1
    assert (await house.spf()).result == "fail"


async def test_that_there_is_no_record_holds_as_long_as_dns_says() -> None:
    house = House({}, ttl=30.0)
    assert (await house.spf()).result == "none"
    house.change({("d.example", "TXT"): txt("v=spf1 -all")})
    house.dns.now += 29.0
    assert (await house.spf()).result == "none"
    house.dns.now += 1.0
    assert (await house.spf()).result == "fail"


async def test_a_permanent_error_is_remembered_and_a_temporary_one_is_not() -> None:
    house = House({("d.example", "TXT"): txt("v=spf1 moo -all"), ("down.example", "TXT"): DnsFailure("no answer")})
    assert (await house.spf()).result == (await house.spf()).result == "permerror"
    assert len(house.asked()) == 1
    assert (await house.spf("ann@down.example")).result == "temperror"
    house.change({("down.example", "TXT"): txt("v=spf1 +all")})
    assert (await house.spf("ann@down.example")).result == "pass"


async def test_a_verdict_despite_a_failure_is_not_remembered() -> None:
    zone = {("d.example", "TXT"): txt("v=spf1 -all exp=e.example"), ("e.example", "TXT"): DnsFailure("no answer")}
    house = House(zone)
    assert (await house.spf()).explanation == ""
    house.change({("e.example", "TXT"): txt("because")})
    assert (await house.spf()).explanation == "because"


async def test_a_verdict_without_its_explanation_in_time_is_not_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    class Slow(LastingResolver):
        async def query(self, name: str, rdtype: str) -> Any:
            if name == "e.example":
                await asyncio.Event().wait()
            return await super().query(name, rdtype)

    monkeypatch.setattr("relay.authenticate.spf.CHECK_SECONDS", 0.01)
    house = House({})
    house.dns = Slow({("d.example", "TXT"): txt("v=spf1 -all exp=e.example")})
    house.examiner = Examiner(CONFIG, house.dns, Metrics(), (), clock=house.dns.clock)
    assert [(await house.spf()).result for _ in range(2)] == ["fail", "fail"]
    assert house.asked() == [("d.example", "TXT")] * 2


async def test_answers_that_hold_only_now_are_asked_for_again() -> None:
    resolver = RecordingResolver({("d.example", "TXT"): txt("v=spf1 -all")})
    examiner = Examiner(CONFIG, resolver, Metrics(), ())
    for _ in range(2):
        await examiner.spf(examiner.budget(), CLIENT, "ann@d.example")
    assert len(resolver.asked) == 2


# --- the limits of a message


async def test_the_questions_of_a_remembered_verdict_count() -> None:
    zone = {("d.example", "TXT"): txt("v=spf1 a:a.example a:b.example -all"), ("b.example", "A"): ["192.0.2.1"]}
    house = House(zone)
    for _ in range(2):
        budget = house.examiner.budget()
        await house.examiner.spf(budget, CLIENT, "ann@d.example")
        assert budget.asked == 3
        await budget.authors.query("B.example", "A")
        assert budget.asked == 3


async def test_past_its_limit_a_check_is_made_as_if_nothing_were_remembered() -> None:
    house = House({("d.example", "TXT"): txt("v=spf1 -all")})
    assert (await house.spf()).result == "fail"
    budget = house.examiner.budget()
    for number in range(QUESTIONS):
        await budget.authors.query(f"{number}.example", "A")
    assert (await house.examiner.spf(budget, CLIENT, "ann@d.example")).result == "permerror"
    assert (await house.spf()).result == "fail"


async def test_what_failed_in_a_transaction_stays_so_in_it() -> None:
    dns = LastingResolver({("a.example", "A"): ["192.0.2.1"]})
    remembered = Remembered[str, int](dns.clock)
    noted = NotedQuestions(Budget(dns).spf)
    await noted.query("A.example.", "A")
    remembered.keep("key", 1, noted)
    budget = Budget(dns)
    assert remembered.find("key", budget.spf) == 1
    assert budget.asked == 1
    budget = Budget(RecordingResolver({("a.example", "A"): DnsFailure("no answer")}))
    with pytest.raises(DnsFailure):
        await budget.spf.query("a.example", "A")
    assert remembered.find("key", budget.spf) is None


async def test_a_question_that_was_one_too_many_leaves_nothing_to_remember() -> None:
    budget = Budget(LastingResolver({}))
    noted = NotedQuestions(budget.spf)
    with pytest.raises(TooManyQuestions):
        for number in range(QUESTIONS):
            await noted.query(f"{number}.example", "A")
    assert noted.expires == 0.0


# --- memory


async def test_memory_is_bounded_and_what_is_used_stays() -> None:
    dns = LastingResolver({})
    remembered = Remembered[str, str](dns.clock, octets=20_000)

    async def keep(key: str, names: int) -> None:
        noted = NotedQuestions(Budget(dns).authors)
        for number in range(names):
            await noted.query(f"{number}.{'x' * 60}.example", "A")
        remembered.keep(key, "result", noted)

    def is_there(key: str) -> bool:
        return remembered.find(key, Budget(dns).authors) is not None

    await keep("used", 1)
    for number in range(1000):
        await keep(f"{number}", 1)
        assert is_there("used")
    assert len(remembered._entries) < 40 and is_there("999") and not is_there("0")
    await keep("x" * 15_000, 1)
    assert len(remembered._entries) < 10 and is_there("used")
    for number in range(100):
        await keep(f"large {number}", 30)
    assert len(remembered._entries) == 2
    await keep("x" * 30_000, 1)
    assert not remembered._entries and remembered._octets == 0


async def test_a_verdict_takes_the_place_of_an_older_one() -> None:
    dns = LastingResolver({})
    remembered = Remembered[str, int](dns.clock)
    for number in range(3):
        noted = NotedQuestions(Budget(dns).spf)
        await noted.query("a.example", "A")
        remembered.keep("key", number, noted)
    assert remembered.find("key", Budget(dns).spf) == 2
    assert remembered._octets == remembered._entries["key"].octets


async def test_what_rests_on_no_question_is_not_kept() -> None:
    dns = LastingResolver({})
    remembered = Remembered[str, int](dns.clock)
    remembered.keep("key", 1, NotedQuestions(Budget(dns).spf))
    assert not remembered._entries


# --- the name of the client


async def test_the_name_of_a_client_is_remembered() -> None:
    house = House({(PTR, "PTR"): ["mx.d.example"], ("mx.d.example", "A"): ["192.0.2.1"]})
    house.dns.ttls = {("mx.d.example", "A"): 5.0}
    found = await house.examiner.iprev(house.examiner.budget(), "192.0.2.1")
    assert found.name == "mx.d.example" and len(house.asked()) == 2
    budget = house.examiner.budget()
    known = house.examiner.iprev(budget, "192.0.2.1")
    assert known.done() and known.result() is found and budget.asked == 2
    assert (await house.examiner.iprev(budget, "192.0.2.2")).result == "permerror"
    assert house.asked() == [("2.2.0.192.in-addr.arpa", "PTR")]
    house.dns.now += 5.0
    again = house.examiner.iprev(house.examiner.budget(), "192.0.2.1")
    assert not again.done() and await again == found and len(house.asked()) == 2


async def test_a_name_that_dns_does_not_tell_now_is_asked_for_again() -> None:
    house = House({(PTR, "PTR"): ["down.d.example", "mx.d.example"], ("down.d.example", "A"): DnsFailure("no answer")})
    assert (await house.examiner.iprev(house.examiner.budget(), "192.0.2.1")).result == "temperror"
    house.change({("down.d.example", "A"): ["192.0.2.1"]})
    assert (await house.examiner.iprev(house.examiner.budget(), "192.0.2.1")).result == "pass"


# --- DMARC


async def examined(
    dns: LastingResolver,
    verdicts: Remembered[dmarc.Inputs, DmarcVerdict] | None,
    author: str,
    spf: SpfVerdict,
) -> tuple[Verdict, int]:
    """The verdict on an unsigned message, and how many questions it took."""
    budget = Budget(dns)
    message = Message(f"From: a@{author}\r\n\r\n".encode())
    return await check_stranger(budget, message, "", spf, None, 0.0, verdicts), budget.asked


async def test_a_policy_is_remembered_and_alignment_is_not_mixed_up() -> None:
    dns = LastingResolver({("_dmarc.a.example", "TXT"): txt("v=DMARC1; p=reject")})
    verdicts = Remembered[dmarc.Inputs, DmarcVerdict](dns.clock)
    for _ in range(2):
        for spf, result in (
            (by_spf("a.example"), "pass"),
            (by_spf("b.example"), "fail"),
            (by_spf("a.example", "fail"), "fail"),
        ):
            found, questions = await examined(dns, verdicts, "a.example", spf)
            assert found.dmarc is not None and found.dmarc.result == result and questions >= 1
    asked = len(dns.asked)
    await examined(dns, verdicts, "a.example", by_spf("a.example"))
    assert len(dns.asked) == asked
    dns._zone["_dmarc.a.example", "TXT"] = txt("v=DMARC1; p=none")
    dns.now += dns.ttl
    found, _ = await examined(dns, verdicts, "a.example", by_spf("b.example"))
    assert found.dmarc is not None and found.dmarc.policy == "none"


async def test_a_policy_that_dns_does_not_tell_now_is_asked_for_again() -> None:
    dns = LastingResolver({("_dmarc.a.example", "TXT"): DnsFailure("no answer")})
    verdicts = Remembered[dmarc.Inputs, DmarcVerdict](dns.clock)
    found, _ = await examined(dns, verdicts, "a.example", by_spf("b.example"))
    assert found.dmarc is not None and found.dmarc.result == "temperror"
    dns._zone["_dmarc.a.example", "TXT"] = txt("v=DMARC1; p=reject")
    found, _ = await examined(dns, verdicts, "a.example", by_spf("b.example"))
    assert found.dmarc is not None and found.dmarc.result == "fail"


@pytest.mark.parametrize(
    ("header", "spf", "signatures"),
    [
        ("From: a@a.example", by_spf("a.example", "temperror"), []),
        ("From: a@a.example", by_spf("a.example"), [by_dkim("a.example", "temperror")]),
        ("From: a@a.example\r\nFrom: a@a.example", by_spf("a.example"), []),
        ("From: a@a.example, b@b.example", by_spf("a.example"), []),
        ("From: a@faß.example", by_spf("a.example"), []),
        ("From: root", by_spf("a.example"), []),
        ("Subject: x", by_spf("a.example"), []),
    ],
)
def test_odd_messages_and_temporary_errors_are_not_remembered(
    header: str, spf: SpfVerdict, signatures: list[DkimVerdict]
) -> None:
    assert dmarc.inputs(Message(f"{header}\r\n\r\n".encode()), spf, signatures) is None


family = st.sampled_from(
    ["com", "x.com", "a.x.com", "b.x.com", "a.b.x.com", "b.b.x.com", "a.a.b.x.com", "y.com", "y.org"]
)
tags = st.sampled_from(["p=reject", "p=none", "sp=none", "np=quarantine", "psd=y", "psd=n", "t=y", "adkim=s", "aspf=s"])
records = st.lists(tags, max_size=4).map(lambda found: txt("; ".join(["v=DMARC1", *found])))
zones = st.dictionaries(
    st.tuples(family.map("_dmarc.{}".format), st.just("TXT")), records | st.just(DnsFailure("timeout"))
)
results = st.sampled_from(["pass", "pass", "fail", "none", "temperror"])
mails = st.tuples(family, st.builds(by_spf, family, results), st.lists(st.builds(by_dkim, family, results), max_size=3))


@given(zones, st.lists(mails, min_size=1, max_size=8))
def test_no_message_can_tell_whether_its_verdict_was_remembered(zone: Zone, mails: list[Any]) -> None:
    async def compare() -> None:
        dns = LastingResolver(zone)
        verdicts = Remembered[dmarc.Inputs, DmarcVerdict](dns.clock)
        for author, spf, signatures in [*mails, *mails]:
            message, fresh, budget = Message(f"From: a@{author}\r\n\r\n".encode()), Budget(dns), Budget(dns)
            expected = await dmarc.check(fresh.authors, message, spf, signatures)
            assert await check_dmarc(budget.authors, message, spf, signatures, verdicts) == expected
            assert budget._failures == fresh._failures

    asyncio.run(compare())


terms = st.sampled_from(
    [
        *("a", "mx", "ptr", "-all", "~all", "moo", "a:a.example", "mx:a.example", "include:i.example", "ip4:192.0.2.1"),
        *("exists:%{l}.x.example", "exists:%{h}.x.example", "exists:%{ir}.x.example", "include:%{o}", "redirect=%{d2}"),
        *("exp=e.example", "exp=%{l}.example", "redirect=r.example", "exists:%{p}", "exists:%{t}.x.example"),
    ]
)
spf_records = st.lists(terms, max_size=5).map(lambda found: txt(" ".join(["v=spf1", *found])))
explanations = st.lists(st.sampled_from(["%{l}", "%{h}", "%{i}", "%{c}", "%{r}", "so", "%{", "%{s}"]), max_size=2).map(
    " ".join
)
addresses = st.lists(st.sampled_from(["192.0.2.1", "192.0.2.2"]), max_size=2) | st.just(DnsFailure("timeout"))
spf_zones = st.fixed_dictionaries(
    {("d.example", "TXT"): spf_records},
    optional={
        **{(f"{name}.example", "TXT"): spf_records | st.just(DnsFailure("timeout")) for name in "ir"},
        **{(f"{name}.example", "TXT"): explanations.map(txt) for name in ("e", "ann")},
        **{(f"{name}.example", "A"): addresses for name in ("a", "d", "ann.x", "bob.x", "h1.x", "1.2.0.192.x")},
        ("d.example", "MX"): st.just([(10, "a.example")]),
        ("a.example", "MX"): st.just([(10, "a.example"), (20, "d.example")]),
        (PTR, "PTR"): st.just(["a.example", "d.example"]),
    },
)
mails_of_clients = st.tuples(
    st.sampled_from(["192.0.2.1", "192.0.2.2"]),
    st.sampled_from(["h1", "d.example", "i.example"]),
    st.sampled_from(["ann@d.example", "bob@d.example", "ann@i.example", ""]),
)


@given(spf_zones, st.lists(mails_of_clients, min_size=1, max_size=6))
def test_no_transaction_can_tell_whether_its_spf_verdict_was_remembered(zone: Zone, transactions: list[Any]) -> None:
    async def compare() -> None:
        house = House(zone)
        for ip, helo, sender in [*transactions, *transactions]:
            fresh, budget = Budget(house.dns), Budget(house.dns)
            expected = await check(fresh.spf, ip=ip, helo=helo, sender=sender, receiver=CONFIG.hostname)
            assert await house.examiner.spf(budget, Client(ip, 25, helo=helo), sender) == expected
            assert budget._failures == fresh._failures

    asyncio.run(compare())
