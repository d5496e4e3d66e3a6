"""The checks of a message, and what the configuration makes of their results."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from structlog.testing import capture_logs

from relay.authenticate.examination import Examination
from relay.authenticate.examiner import Examiner
from relay.authenticate.iprev import Iprev
from relay.config.model import Config
from relay.dns import DnsFailure
from relay.mail.arrival import Arrival
from relay.mail.envelope import Client, MailFrom, RcptTo
from relay.mail.message import Message
from relay.mail.reply import Refused
from relay.metrics import Metrics
from tests import corpus
from tests.authenticate.sealing import sealed
from tests.authenticate.signing import signed
from tests.resolvers import RecordingResolver

CLIENT = Client("192.0.2.1", 4025, helo="mx.author.example", protocol="ESMTP")
FORGER = Client("192.0.2.66", 4025, helo="evil.example", protocol="ESMTP")
INNER = Client("198.51.100.1", 4025, helo="inner.example", trusted=True)
ANN = "ann@author.example"
PLAIN = b"From: Ann <ann@author.example>\r\nTo: alice@fwd.example\r\nSubject: hello\r\n\r\nHi.\r\n"
ALLOWED = (b"v=spf1 ip4:192.0.2.1 -all",)
SILENT = DnsFailure("no answer")
ZONE: dict[tuple[str, str], Any] = {
    ("author.example", "TXT"): [ALLOWED],
    ("fwd.example", "TXT"): [ALLOWED],
    ("_dmarc.author.example", "TXT"): [(b"v=DMARC1; p=reject",)],
    ("open.example", "TXT"): [(b"v=spf1 +all",)],
    (corpus.RSA.record_name, "TXT"): [(corpus.RSA.public_record().encode(),)],
}


class House:
    """An examiner, with what it tells of examinations.

    Args:
        zone: what DNS has, over `ZONE`.
        signing: domains that we sign for besides those of the configuration.
        tables: of the configuration, over the defaults.
    """

    def __init__(
        self, zone: dict[tuple[str, str], Any] | None = None, signing: tuple[str, ...] = (), **tables: Any
    ) -> None:
        config = Config.model_validate(
            {
                "hostname": "mx.fwd.example",
                "listen": [{"address": "127.0.0.1:0"}],
                "srs": {"domain": "fwd.example", "secrets_file": "/dev/null"},
                **tables,
            }
        )
        self.metrics, self.resolver = Metrics(), RecordingResolver({**ZONE, **(zone or {})})
        self.told: list[Examination] = []
        self.examiner = Examiner(config, self.resolver, self.metrics, signing, self.told.append)

    async def examine(
        self,
        content: bytes = PLAIN,
        *,
        client: Client = CLIENT,
        sender: str = ANN,
        iprev: Iprev | None = None,
    ) -> Examination:
        budget = self.examiner.budget()
        spf = None if client.trusted else await self.examiner.spf(budget, client, sender)
        recipients = (RcptTo("alice@fwd.example"),)
        arrival = Arrival(1, 1_790_000_000.0, client, MailFrom(sender), recipients, Message(content))
        return await self.examiner.examine(arrival, budget, spf, iprev)

    async def reply(self, content: bytes = PLAIN, **arrival: Any) -> str:
        """Our refusal; empty where the message may come in."""
        refusal = (await self.examine(content, **arrival)).refusal
        return "" if refusal is None else str(refusal)


async def test_what_passes_comes_in_unchanged() -> None:
    house = House()
    examination = await house.examine()
    assert examination.refusal is None and examination.override == "" and examination.forged == ()
    assert examination.message is examination.arrival.message
    assert examination.verdict.spf is not None and examination.verdict.spf.result == "pass"
    assert examination.verdict.dmarc is not None and examination.verdict.dmarc.result == "pass"
    assert examination.questions == len(set(house.resolver.asked))


async def test_a_signature_of_the_sender_makes_up_for_spf() -> None:
    content = signed(PLAIN)
    assert await House().reply(content, client=FORGER) == ""
    assert (await House().reply(PLAIN, client=FORGER)).startswith("550 5.7.23 SPF fail for author.example: ")


async def test_a_dmarc_failure_is_refused_with_the_code_for_it() -> None:
    reply = await House().reply(client=FORGER, sender="eve@open.example")
    assert reply.startswith("550 5.7.26 DMARC fail for author.example: ")


# SPF


async def test_spf_is_counted_and_asked_for_the_sender() -> None:
    house = House()
    budget = house.examiner.budget()
    verdict = await house.examiner.spf(budget, CLIENT, ANN)
    assert (verdict.result, verdict.identity, verdict.domain) == ("pass", "mailfrom", "author.example")
    assert (await house.examiner.spf(budget, CLIENT, "")).identity == "helo"
    assert b'srs_relay_spf_results_total{result="pass"} 1.0' in house.metrics.render()


@pytest.mark.parametrize(
    ("client", "skip", "why"),
    [
        (CLIENT, ["192.0.2.0/24"], "not checked, a known forwarder"),
        (Client("192.0.2.1", 1, helo="x.example", known=False), [], "not checked, the proxy does not name the client"),
    ],
)
async def test_clients_whose_address_says_nothing_are_not_checked(client: Client, skip: list[str], why: str) -> None:
    house = House(spf={"skip": skip})
    verdict = await house.examiner.spf(house.examiner.budget(), client, ANN)
    assert (verdict.result, verdict.problem) == ("none", why)
    assert house.resolver.asked == []
    assert b'srs_relay_spf_results_total{result="none"} 0.0' in house.metrics.render()


# what makes a failure not count


@pytest.mark.parametrize(
    ("tables", "iprev", "override"),
    [
        ({"spf": {"skip": ["192.0.2.66/32"]}}, None, "known host 192.0.2.66"),
        ({"dmarc": {"skip": ["192.0.2.66/32"]}}, None, "known host 192.0.2.66"),
        ({"dmarc": {"skip": ["mx.lists.example"]}}, Iprev("pass", "mx.lists.example"), "known host mx.lists.example"),
    ],
)
async def test_a_failure_does_not_count_for_a_known_host(
    tables: dict[str, Any], iprev: Iprev | None, override: str
) -> None:
    house = House(**tables)
    examination = await house.examine(client=FORGER, iprev=iprev)
    assert examination.refusal is None and examination.override == override
    field = house.examiner.results_field(examination).replace(b"\r\n\t", b" ")
    assert b"overridden: " + override.encode() in field
    passes = await house.examine(signed(PLAIN), client=FORGER, iprev=iprev)
    assert passes.override == "" and passes.refusal is None, "what passes needs no override"


async def test_a_failure_does_not_count_where_a_trusted_sealer_saw_a_pass() -> None:
    content = sealed(PLAIN, testimony="i={}; mx.list.example; dmarc=pass header.from=author.example")
    house = House(arc={"trusted_sealers": ["author.example"]})  # the domain of the key that seals in tests
    examination = await house.examine(content, client=FORGER, sender="eve@open.example")
    assert examination.refusal is None and examination.override == "trusted ARC sealer author.example"
    assert (await House().reply(content, client=FORGER, sender="eve@open.example")).startswith("550 5.7.26 ")


@pytest.mark.parametrize(("temperror", "code"), [("defer", "451 4.7.24"), ("tag", "550 5.7.23")])
async def test_a_failure_waits_while_it_is_not_known_whether_it_counts(temperror: str, code: str) -> None:
    house = House(dmarc={"skip": ["mx.lists.example"], "temperror": temperror})
    unknown = Iprev("temperror", problem="66.2.0.192.in-addr.arpa PTR: no answer")
    assert (await house.reply(client=FORGER, iprev=unknown)).startswith(code)


# our own names


@pytest.mark.parametrize(
    ("author", "tables"),
    [
        ("fwd.example", {}),
        ("mail.fwd.example", {}),
        ("ours.example", {"senders": {"local_domains": ["ours.example"]}}),
        ("brand.example", {"signing": ("brand.example",)}),
    ],
)
async def test_nobody_else_writes_in_our_name(author: str, tables: dict[str, Any]) -> None:
    house = House(signing=tables.pop("signing", ()), **tables)
    content = PLAIN.replace(b"author.example", author.encode())
    reply = await house.reply(content, client=FORGER, sender="eve@open.example")
    assert reply.startswith(f"550 5.7.1 192.0.2.66 may not send mail from {author}, a domain of ours")
    assert await house.reply(content, client=INNER) == ""


async def test_nobody_else_sends_with_a_sender_of_ours() -> None:
    content = PLAIN.replace(b"author.example", b"else.example")
    reply = await House().reply(content, client=FORGER, sender="joe@fwd.example")
    assert reply.startswith("550 5.7.1 192.0.2.66 may not send for fwd.example, a domain of ours")
    assert await House().reply(content, sender="joe@fwd.example") == ""


async def test_what_is_ours_and_proven_may_come_in() -> None:
    assert await House().reply(PLAIN.replace(b"author", b"fwd"), sender="joe@fwd.example") == ""


async def test_a_name_of_ours_is_no_override_for_a_known_host() -> None:
    house = House(dmarc={"skip": ["192.0.2.66/32"]})
    content = PLAIN.replace(b"author.example", b"fwd.example")
    assert (await house.reply(content, client=FORGER, sender="eve@open.example")).startswith("550 5.7.1 ")


async def test_an_author_who_may_be_ours_waits_for_dns() -> None:
    zone = {("_dmarc.shop.co.test", "TXT"): SILENT, ("_dmarc.co.test", "TXT"): SILENT}
    house = House(zone, senders={"local_domains": ["ours.co.test"]}, dmarc={"temperror": "tag"})
    content = PLAIN.replace(b"author.example", b"shop.co.test")
    reply = await house.reply(content, client=FORGER, sender="eve@open.example")
    assert reply.startswith("451 4.7.1 whether shop.co.test is a domain of ours cannot be told now")
    assert await House(zone, dmarc={"temperror": "tag"}).reply(content, client=FORGER, sender="eve@open.example") == ""


async def test_an_override_is_told_of_where_the_message_then_waits_for_dns() -> None:
    zone = {("_dmarc.shop.co.test", "TXT"): SILENT, ("_dmarc.co.test", "TXT"): SILENT}
    house = House(zone, senders={"local_domains": ["ours.co.test"]}, dmarc={"skip": ["192.0.2.66/32"]})
    content = PLAIN.replace(b"author.example", b"shop.co.test")
    examination = await house.examine(content, client=FORGER, sender="eve@open.example")
    assert examination.refusal is not None and str(examination.refusal).startswith("451 4.7.1 ")
    assert examination.override == "known host 192.0.2.66" and house.told == [examination]


async def test_more_authors_than_are_checked_are_refused_before_dns_is_asked() -> None:
    house = House()
    authors = b", ".join(b"a@d%d.example" % number for number in range(11))
    with pytest.raises(Refused, match=r"^550 5\.7\.1 more than 10 domains"):
        await house.examine(PLAIN.replace(b"Ann <ann@author.example>", authors), sender="eve@open.example")
    assert not any(name.startswith(("_dmarc", "d1")) for name, _ in house.resolver.asked)
    assert house.told == []


# forged results

FORGED = b"Authentication-Results: mx.fwd.example; dmarc=pass header.from=bank.example\r\n"
OTHERS = b"Authentication-Results: mx.else.example; spf=pass\r\n"


async def test_results_in_our_name_are_removed_and_those_of_others_stay() -> None:
    examination = await House().examine(FORGED + OTHERS + PLAIN)
    assert examination.message.content == OTHERS + PLAIN
    assert [field.raw for field in examination.forged] == [FORGED]
    assert examination.arrival.message.content == FORGED + OTHERS + PLAIN


async def test_our_name_for_results_may_be_another_than_our_host_name() -> None:
    house = House(authserv_id="fwd-results.example")
    forged = FORGED.replace(b"mx.fwd.example", b"fwd-results.example")
    assert (await house.examine(forged + FORGED + PLAIN)).message.content == FORGED + PLAIN


TRUSTED_MTA = {"trusted": ["198.51.100.0/24"], "authserv_ids": ["mx.else.example"]}
HANDED_ON = b"Received: from out (out [192.0.2.9])\r\n\tby mx.else.example with ESMTP id 1\r\n"


async def test_a_stranger_does_not_speak_in_the_name_of_a_trusted_mta() -> None:
    examination = await House(clients=TRUSTED_MTA).examine(OTHERS + PLAIN)
    assert examination.message.content == PLAIN


async def test_a_trusted_clients_results_stand_in_the_place_of_ours() -> None:
    results = (
        b"Authentication-Results: mx.else.example; spf=fail smtp.mailfrom=author.example;\r\n"
        b"\tdmarc=fail header.from=author.example\r\n"
    )
    house = House(clients=TRUSTED_MTA)
    examination = await house.examine(results + HANDED_ON + PLAIN, client=INNER)
    verdict = examination.verdict
    assert verdict.trusted and verdict.spf is not None and verdict.spf.result == "fail"
    assert verdict.dmarc is not None and verdict.dmarc.result == "fail"
    assert examination.refusal is None, "a trusted client's mail is not refused"
    assert examination.message.content == results + HANDED_ON + PLAIN
    assert house.examiner.results_field(examination) == b""


async def test_what_a_trusted_mta_does_not_vouch_for_stays_as_it_handed_it_on() -> None:
    content = HANDED_ON + b"Received: from x (x [192.0.2.7])\r\n\tby y.example\r\n" + OTHERS + PLAIN
    examination = await House(clients=TRUSTED_MTA).examine(content, client=INNER)
    assert examination.verdict.trusted_results is None and examination.message.content == content


async def test_a_trusted_client_that_says_nothing_is_checked_for_nothing() -> None:
    house = House()
    verdict = (await house.examine(client=INNER)).verdict
    assert verdict.trusted and verdict.spf is None and verdict.dmarc is None and house.resolver.asked == []


async def test_a_trusted_mta_that_shares_our_name_is_believed() -> None:
    results = b"Authentication-Results: mx.fwd.example; spf=pass smtp.mailfrom=author.example\r\n"
    clients = {"trusted": ["198.51.100.0/24"], "authserv_ids": ["mx.fwd.example"]}
    came_in = b"Received: from evil.example (x [192.0.2.66])\r\n\tby out.example\r\n" + FORGED + PLAIN
    content = results + HANDED_ON.replace(b"mx.else", b"mx.fwd") + came_in
    examination = await House(clients=clients).examine(content, client=INNER)
    assert results in examination.message.content and FORGED not in examination.message.content


# our field


async def test_our_field_has_every_result_under_our_name() -> None:
    house = House(authserv_id="results.example")
    examination = await house.examine(signed(PLAIN), iprev=Iprev("pass", "mx.author.example"))
    field = house.examiner.results_field(examination)
    assert field.startswith(b"Authentication-Results: results.example;") and field.endswith(b"\r\n")
    for result in (b"spf=pass", b"dkim=pass", b"arc=none", b"dmarc=pass", b"iprev=pass"):
        assert result in field
    assert b"smtp.mailfrom=ann@author.example" in field


# telling


async def test_every_examination_is_told_those_that_end_in_a_refusal_too() -> None:
    house = House()
    passed, refused = await house.examine(), await house.examine(client=FORGER)
    assert house.told == [passed, refused] and refused.refusal is not None


async def test_without_a_watch_examinations_are_logged_and_counted() -> None:
    house = House()
    config = house.examiner._config
    examiner = Examiner(config, house.resolver, house.metrics, ())
    budget = examiner.budget()
    arrival = Arrival(1, 0.0, CLIENT, MailFrom(ANN), (RcptTo("alice@fwd.example"),), Message(PLAIN))
    with capture_logs() as lines:
        await examiner.examine(arrival, budget, await examiner.spf(budget, CLIENT, ANN), None)
    assert [line["event"] for line in lines] == ["authenticated"]
    assert b'srs_relay_dmarc_results_total{result="pass"} 1.0' in house.metrics.render()


async def test_transactions_that_run_side_by_side_have_questions_of_their_own() -> None:
    house = House()
    first, second = await asyncio.gather(house.examine(), house.examine())
    assert first.questions == second.questions > 0
