"""What an accepted message becomes: its trace fields, what is kept of its examination, deliveries, and notices."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from relay.authenticate.arc import ArcSet, ArcVerdict
from relay.authenticate.dmarc import DmarcVerdict
from relay.authenticate.examination import Examination
from relay.authenticate.spf import SpfVerdict
from relay.authenticate.verdict import Verdict
from relay.intake.fan_out import FORGED
from relay.intake.intake import stored_verdict
from relay.mail.arrival import Arrival
from relay.mail.envelope import MailFrom, RcptTo
from relay.mail.message import Message
from relay.mail.queue_id import id_text
from relay.queue.stored_verdict import NextSeal, StoredVerdict
from relay.srs.address import forward
from tests.intake.arriving import CLIENT, FORGER, INNER, JOE, MESSAGE, House

NO_POLICY: dict[tuple[str, str], Any] = {("_dmarc.origin.test", "TXT"): [(b"v=DMARC1; p=none",)]}


def names(trace: bytes) -> list[str]:
    return [field.name for field in Message(trace + b"\r\n").fields]


def unfolded(octets: bytes) -> bytes:
    return octets.replace(b"\r\n\t", b" ")


# trace


async def test_our_results_stand_above_the_marks_and_received_at_the_bottom(tmp_path: Path) -> None:
    house = House(tmp_path)
    await house.send("alice@fwd.test", "bob@fwd.test")
    stored = house.queue.stored
    assert names(stored.trace) == ["authentication-results", "x-srs-relay", "x-srs-relay", "received"]
    assert b"Authentication-Results: mx.fwd.test; spf=pass" in unfolded(stored.trace)
    assert f"by mx.fwd.test with ESMTP id {id_text(stored.id)}".encode() in stored.trace


async def test_received_names_the_recipient_where_there_is_one(tmp_path: Path) -> None:
    house = House(tmp_path)
    await house.send("alice@fwd.test")
    await house.send("alice@fwd.test", "bob@fwd.test")
    one, two = (stored.trace for stored, _, _ in house.queue.put_in)
    assert b"for <alice@fwd.test>" in one and b" for <" not in unfolded(two)
    assert b"carol" not in one


async def test_a_trusted_clients_mail_gets_no_results_of_ours(tmp_path: Path) -> None:
    house = House(tmp_path)
    await house.send("anyone@d.test", client=INNER)
    assert names(house.queue.stored.trace) == ["received"]
    assert house.queue.stored.verdict == StoredVerdict(trusted=True)


async def test_the_envelope_is_stored(tmp_path: Path) -> None:
    house = House(tmp_path)
    before = time.time()
    rcpt = RcptTo("alice@fwd.test", "FAILURE", "rfc822;alice@fwd.test")
    await house.send(rcpt, smtputf8=True, ret="HDRS", envid="e1")
    stored, (delivery,) = house.queue.stored, house.queue.deliveries
    assert (stored.sender, stored.smtputf8, stored.ret, stored.envid) == (JOE, True, "HDRS", "e1")
    assert before <= stored.received <= time.time() and b"with UTF8SMTP id" in stored.trace
    assert (delivery.notify, delivery.orcpt, delivery.original) == (
        "FAILURE",
        "rfc822;alice@fwd.test",
        "alice@fwd.test",
    )


async def test_forged_results_do_not_go_on(tmp_path: Path) -> None:
    house = House(tmp_path)
    forged = b"Authentication-Results: mx.fwd.test; dmarc=pass\r\n"
    await house.send("alice@fwd.test", content=forged + MESSAGE)
    assert house.queue.stored.message.content == MESSAGE


# deliveries


async def test_deliveries_wait_for_as_long_as_the_configuration_says(tmp_path: Path) -> None:
    house = House(tmp_path, queue={"retry_for": "2d", "bounce_retry_for": "1h"})
    await house.send("alice@fwd.test", client=INNER)
    await house.send("alice@fwd.test", sender="", client=INNER)
    (mail, [delivery], _), (bounce, [last], _) = house.queue.put_in
    assert delivery.expires - mail.received == 2 * 86400
    assert last.expires - bounce.received == 3600


async def test_a_delivery_is_known_by_its_next_hop(tmp_path: Path) -> None:
    house = House(tmp_path)
    await house.send("strict@fwd.test", client=INNER)
    assert [delivery.hop for delivery in house.queue.deliveries] == ["smtp://10.0.0.2:25"]


async def test_mail_to_a_forged_address_of_a_guesser_is_a_dead_letter_in_the_log(tmp_path: Path) -> None:
    house = House(tmp_path)
    scheme = house.files.scheme
    good = forward("ann@person.test", scheme, time.time())
    forged = good.replace("=ann@", "=eve@")
    for _ in range(30):
        reply = await house.send(forged, sender="", client=FORGER, content=b"From: x@else.test\r\n\r\n")
        if reply.startswith("250 "):
            break
        assert reply.startswith("550 5.1.1 ")
    with capture_logs() as lines:
        assert (await house.send(forged, sender="", client=FORGER, content=b"From: x@else.test\r\n\r\n"))[:3] == "250"
    (kept,) = [line for line in lines if line["event"] == "forged_kept"]
    assert (kept["rcpt"], kept["problem"], kept["log_level"]) == (forged, FORGED, "warning")
    assert [(d.recipient, d.state) for _, (d,), _ in house.queue.put_in] == [(forged, "dead")] * 2
    assert house.count('bounces_total{fate="dead"}') == 2


# mail that DMARC would fail behind us


async def test_what_a_route_would_not_forward_is_refused_with_the_reason(tmp_path: Path) -> None:
    house = House(tmp_path)
    with capture_logs() as lines:
        reply = await house.send("strict@fwd.test")
    assert reply.startswith("550 5.7.1 DMARC of origin.test passes by SPF alone, and its policy is reject: it would")
    (line,) = [line for line in lines if line["event"] == "unforwardable"]
    assert line["treatment"] == ["reject"] and "origin.test" in line["reason"]
    assert house.count('unforwardable_total{treatment="reject"}') == 1
    assert not house.queue.put_in


async def test_what_is_rewritten_later_is_marked_as_unforwardable(tmp_path: Path) -> None:
    house = House(tmp_path)
    assert (await house.send("alice@fwd.test")).startswith("250 ")
    assert house.queue.stored.verdict.unforwardable
    assert house.count('unforwardable_total{treatment="rewrite-from"}') == 1


async def test_mail_that_fails_nowhere_is_not_marked(tmp_path: Path) -> None:
    house = House(tmp_path, zone=NO_POLICY)
    assert (await house.send("strict@fwd.test")).startswith("250 ")
    assert not house.queue.stored.verdict.unforwardable
    assert house.count('unforwardable_total{treatment="reject"}') == 0


# the notice about lists


async def test_success_at_a_list_is_told_as_its_expansion(tmp_path: Path) -> None:
    house = House(tmp_path)
    await house.send(RcptTo("team@fwd.test", "SUCCESS,FAILURE"))
    report = house.queue.notice.report
    assert report is not None and b"Action: expanded" in report.message.content
    assert b"team@fwd.test" in report.message.content and b"carol@" not in report.message.content
    assert [delivery.recipient for delivery in house.queue.notice.deliveries] == [JOE]
    assert [delivery.notify for delivery in house.queue.deliveries] == ["FAILURE", "FAILURE"]


@pytest.mark.parametrize("rcpt", [RcptTo("team@fwd.test", "FAILURE"), RcptTo("alice@fwd.test", "SUCCESS")])
async def test_nothing_is_told_of_other_recipients(tmp_path: Path, rcpt: RcptTo) -> None:
    house = House(tmp_path)
    await house.send(rcpt)
    assert house.queue.notice.report is None and not house.queue.notice.deliveries


# what is kept of an examination


def kept(verdict: Verdict, *, unforwardable: bool = False) -> StoredVerdict:
    arrival = Arrival(1, 0.0, CLIENT, MailFrom(JOE), (RcptTo("alice@fwd.test"),), Message(MESSAGE))
    return stored_verdict(Examination(arrival, verdict, arrival.message), unforwardable=unforwardable)


SPF = SpfVerdict("pass", "mailfrom", "origin.test")
DMARC = DmarcVerdict("pass", "origin.test", policy="reject", aligned=("spf", "dkim"))


def test_every_result_that_a_later_stage_asks_for_is_kept() -> None:
    verdict = Verdict(trusted=False, spf=SPF, dmarc=DMARC, sender_signed=True)
    assert kept(verdict, unforwardable=True) == StoredVerdict(
        trusted=False,
        spf="pass",
        dmarc="pass",
        aligned=("spf", "dkim"),
        sender_signed=True,
        unforwardable=True,
        authors=("origin.test",),
        seal=NextSeal("none", 1, useful=False),
    )


def test_where_nobody_knows_the_results_are_empty() -> None:
    assert kept(Verdict(trusted=True)) == StoredVerdict(trusted=True)


@pytest.mark.parametrize(
    ("chain", "seal"),
    [
        (ArcVerdict("none"), NextSeal("none", 1, useful=False)),
        (ArcVerdict("pass", tuple(ArcSet(n, "l.test", "s", "pass", "") for n in (3, 2, 1))), NextSeal("pass", 4)),
        (ArcVerdict("fail", (ArcSet(1, "l.test", "s", "none", ""),)), None),
    ],
)
def test_the_next_set_of_a_chain_that_may_be_extended(chain: ArcVerdict, seal: NextSeal | None) -> None:
    assert kept(Verdict(trusted=False, spf=SPF, dmarc=DMARC, arc=chain)).seal == seal
